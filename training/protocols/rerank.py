"""A second look at the blend's best items: a small network over members' scores and ranks.

Learned on validation, people by people, with a softmax over each person's list; kept only where it
gains on people that it had not seen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from features.columns import Columns
from models.base import BoolArray, FloatArray, IntArray, TrainingContext
from training.loop import torch_run
from training.metrics import hits, top_k
from training.protocols.blend import Blend, objective
from training.protocols.evidence import Evidence
from training.protocols.exam import Known, blocks, taken
from training.protocols.members import Fitted
from training.protocols.split import Split

_FOLDS: Final = 3
_BATCH: Final = 64


class Reranking(BaseModel):
    """Choices of the second look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int = Field(default=200, ge=2)
    """Best items of the blend that are ordered anew."""
    hidden: int = Field(default=48, ge=2)
    epochs: int = Field(default=15, ge=1)
    networks: int = Field(default=3, ge=1)
    """Averaged, a seed each."""
    learning_rate: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    evidence: bool = False
    """Describe items by the nearest of the person's items and people too."""


@dataclass(frozen=True, slots=True)
class Shortlist(Columns):
    """The blend's best items of some people."""

    items: IntArray
    """[P, C]; -1 where there are fewer."""
    features: FloatArray
    """[P, C, F]; the first is the blend's own value."""


class Lists:
    """Makes shortlists of one split out of fitted members."""

    def __init__(
        self,
        split: Split,
        blend: Blend,
        fitted: Mapping[str, Fitted],
        evidence: Evidence | None = None,
    ) -> None:
        self.split, self._evidence = split, evidence
        self._blend, self._fitted = blend, fitted
        self._known = Known(split)
        people = np.bincount(split.learned.values, minlength=split.n_items)
        self._popularity = np.log1p(people).astype(np.float32)

    def of(self, people: IntArray, most: int) -> tuple[FloatArray, Shortlist]:
        """Score all items by the blend, [Q, n_items], and describe the best `most`."""
        total, parts = self._blend.parts(self.split, self._fitted, self._known.of(people), people)
        items = top_k(self._known.sink(total.copy(), people), most)
        safe = np.maximum(items, 0)
        columns = [np.take_along_axis(each, safe, axis=1) for each in (total, *parts.values())]
        ranks = [np.log1p(_rank(column, items >= 0)) for column in columns]
        length = np.log1p(self.split.asked.lengths[people]).astype(np.float32)
        same = np.broadcast_to(length[:, None], items.shape)
        # The best of a list says how sure the blend is of anything in it.
        lead = np.broadcast_to(columns[0][:, :1], items.shape)
        features = np.stack([*columns, *ranks, self._popularity[safe], same, lead], axis=2)
        if self._evidence is not None:
            features = np.concatenate([features, self._evidence.of(people, items)], axis=2)
        features[items < 0] = 0.0
        return total, Shortlist(items, features.astype(np.float32))

    def gathered(self, people: IntArray, most: int) -> Shortlist:
        """Describe the shortlists of many people."""
        return Shortlist.merged([self.of(block, most)[1] for block in blocks(people)])


@dataclass(frozen=True, slots=True)
class Reranker:
    """Averaged networks over standardised features."""

    config: Reranking
    mean: FloatArray
    scale: FloatArray
    networks: Sequence[nn.Module]

    def values(self, features: FloatArray) -> FloatArray:
        """Value items [P, C, F] anew: [P, C]."""
        inputs = torch.from_numpy((features - self.mean) / self.scale)
        with torch.no_grad():
            parts = [network(inputs)[..., 0].numpy() for network in self.networks]
        found: FloatArray = np.mean(parts, axis=0, dtype=np.float32)
        return found

    def scorer(self, lists: Lists) -> Callable[[IntArray], FloatArray]:
        """Bind it to a split: the shortlist comes first, in its new order, then the blend's."""

        def score(people: IntArray) -> FloatArray:
            total, short = lists.of(people, self.config.items)
            values = self.values(short.features)
            total -= total.max(axis=1, keepdims=True) + np.float32(1.0)
            rows, columns = np.nonzero(short.items >= 0)
            lifted = values - values.min(axis=1, keepdims=True)
            total[rows, short.items[rows, columns]] = lifted[rows, columns]
            return total

        return score


def fit_reranker(
    lists: Lists,
    people: IntArray,
    config: Reranking,
    cuts: Sequence[int],
    context: TrainingContext,
) -> tuple[Reranker | None, float]:
    """Learn from people's validation targets; None where it gains nothing on unseen people.

    Gives too what is reached then, each person judged by networks that were fitted on others.
    """
    short = lists.gathered(people, config.items)
    targets = taken(lists.split.targets, people)
    hit = hits(short.items, targets, lists.split.n_items)
    fold = np.random.Generator(np.random.PCG64(context.seed)).permutation(len(people)) % _FOLDS
    apart = np.empty(short.items.shape, dtype=np.float32)
    alone = config.model_copy(update={"networks": 1})
    with torch_run(context):
        for number in range(_FOLDS):
            learned = fold != number
            fitted = _fit(short.features[learned], hit[learned], alone, context.seed)
            apart[~learned] = fitted.values(short.features[~learned])
        there = short.items >= 0
        before = objective(short.features[:, :, 0], there, hit, targets.lengths, cuts)
        after = objective(apart, there, hit, targets.lengths, cuts)
        if after <= before:
            return None, before
        return _fit(short.features, hit, config, context.seed), after


def _fit(features: FloatArray, hit: BoolArray, config: Reranking, seed: int) -> Reranker:
    mean = features.mean(axis=(0, 1))
    scale = np.maximum(features.std(axis=(0, 1)), 1e-6)
    some = hit.any(axis=1)
    inputs = torch.from_numpy((features[some] - mean) / scale)
    wanted = torch.from_numpy(hit[some].astype(np.float32))
    networks = []
    for number in range(config.networks):
        torch.manual_seed(seed + number)
        networks.append(_train(inputs, wanted, config))
    return Reranker(config, mean, scale, networks)


def _train(inputs: Tensor, wanted: Tensor, config: Reranking) -> nn.Module:
    network = _Network(inputs.shape[2], config)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * -(-len(inputs) // _BATCH)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps)
    network.train()
    for _ in range(config.epochs):
        for rows in torch.split(torch.randperm(len(inputs)), _BATCH):
            logits = network(inputs[rows])[..., 0]
            share = wanted[rows] / wanted[rows].sum(dim=1, keepdim=True)
            loss = -(share * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            pace.step()
    return network.eval()


class _Network(nn.Module):
    """Two hidden layers beside a straight path that begins at the blend's own value."""

    def __init__(self, width: int, config: Reranking) -> None:
        super().__init__()
        hidden = config.hidden
        self.deep = nn.Sequential(
            nn.Linear(width, hidden), nn.SiLU(), nn.Dropout(config.dropout),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1),
        )  # fmt: skip
        self.straight = nn.Linear(width, 1)
        with torch.no_grad():
            self.straight.weight.zero_()
            self.straight.weight[0, 0] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., F] to [..., 1]."""
        value: Tensor = self.deep(x) + self.straight(x)
        return value


def _rank(values: FloatArray, there: BoolArray) -> FloatArray:
    """Give each value's rank in its row, 0 the highest; padding ranks last."""
    order = np.argsort(-np.where(there, values, -np.inf), axis=1, kind="stable")
    ranks = np.empty(values.shape, dtype=np.float32)
    places = np.broadcast_to(np.arange(values.shape[1], dtype=np.float32), values.shape)
    np.put_along_axis(ranks, order, places, axis=1)
    return ranks

"""Fit the ensemble ranker in torch; `models/ranker.py` is the same forward pass in NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from contracts.policy import ACTIONS, Action
from features.columns import Columns
from models.base import BoolArray, FloatArray, IntArray, TrainingContext
from models.ranker import LONGEST_LOG_SECONDS, EnsembleRanker, RankerConfig, prepare
from training.loop import Limits, LoopReport, run_epochs, torch_run

_DWELL: Final = ACTIONS.index(Action.DWELL)
FEWEST_POSITIVES: Final = 20
"""A head with fewer positive rows than this answers its prior."""


class RankerRecipeConfig(BaseModel):
    """Choices of the ranker's training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: RankerConfig = RankerConfig()
    epochs: int = Field(default=25, ge=1)
    patience: int = Field(default=4, ge=1)
    batch: int = Field(default=2048, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    held_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of people whose rows decide when a member stops: other people for each member."""


@dataclass(frozen=True, slots=True)
class RankerRows(Columns):
    """What the ranker learns from: one row a candidate or impression."""

    features: NDArray[np.float16]
    """[n, F]."""
    labels: FloatArray
    """[n, A]: 0 or 1, seconds in the dwell column; NaN where not known."""
    groups: IntArray
    """[n]: the person of each row; people are never split between fitting and stopping."""


class Heads(nn.Module):
    """Shared trunk of two layers, one head an action, and a linear path past the trunk."""

    def __init__(self, width: int, hidden: int, prior: FloatArray, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, len(ACTIONS))
        self.skip = nn.Linear(width, len(ACTIONS), bias=False)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.head.bias.copy_(torch.from_numpy(prior))
            self.skip.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Map prepared inputs [n, 2F] to logits [n, A]; log(1 + expected seconds) for dwell."""
        hidden = self.dropout(functional.relu(self.first(x)))
        hidden = self.dropout(functional.relu(self.second(hidden)))
        logits: Tensor = self.head(hidden) + self.skip(x)
        return logits


Build = Callable[[int, int, FloatArray, float], nn.Module]
"""Make a network of (inputs, hidden units, first logits [A], dropout): [n, 2F] to logits [n, A]."""


def fit_ranker(
    rows: RankerRows,
    config: RankerRecipeConfig,
    context: TrainingContext,
    build: Build = Heads,
    start: EnsembleRanker | None = None,
) -> tuple[EnsembleRanker, list[LoopReport]]:
    """Fit each member on most people, and stop it by the log-loss of the rest.

    Members hold out different people, in turn, so that together they learn from all of them.
    `build`: another network for trials, whose forward pass is then not `EnsembleRanker`'s own.
    `start`: a ranker of the same shape to begin from, its scaling kept.
    """
    values = rows.features.astype(np.float32)
    mean, scale = _scaling(values) if start is None else (start.mean, start.scale)
    trained, prior = _trained(rows.labels)
    inputs = torch.from_numpy(prepare(values, mean, scale, config.shape.input_bound))
    labels = torch.from_numpy(_loss_labels(rows.labels))
    use = torch.from_numpy(np.isfinite(rows.labels) & trained)
    budget = context.time_budget_seconds
    members: list[dict[str, FloatArray]] = []
    reports: list[LoopReport] = []
    for member in range(config.shape.members):
        with torch_run(TrainingContext(context.seed + member, context.threads)):
            network = build(inputs.shape[1], config.shape.hidden, _logit(prior), config.dropout)
            if start is not None:
                network.load_state_dict(_member(start.weights, member))
            held = held_people(rows.groups, config.held_share, context.seed, member)
            fit = _Fit(network, config, (inputs, labels, use), held)
            reports.append(
                run_epochs(
                    network,
                    fit.epoch,
                    fit.held_loss,
                    Limits(
                        config.epochs,
                        config.patience,
                        None if budget is None else budget / config.shape.members,
                    ),
                )
            )
            members.append({k: v.detach().numpy() for k, v in network.state_dict().items()})
    ranker = EnsembleRanker(config.shape, mean, scale, _stack(members), trained, prior)
    return ranker, reports


class _Fit:
    """One member's fit: shuffled batches of the rows that are not held."""

    def __init__(
        self,
        network: nn.Module,
        config: RankerRecipeConfig,
        data: tuple[Tensor, Tensor, Tensor],
        held: BoolArray,
    ) -> None:
        self.network, self.batch = network, config.batch
        self.inputs, self.labels, self.use = data
        self.typical = 1.0 + self.labels[:, _DWELL].mean()
        self.fitted = torch.from_numpy(np.flatnonzero(~held))
        self.held = torch.from_numpy(np.flatnonzero(held))
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def epoch(self, number: int) -> None:
        """Make one pass over the fitted rows."""
        del number
        order = self.fitted[torch.randperm(len(self.fitted))]
        for part in torch.split(order, self.batch):
            loss = self._loss(part)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.optimiser.step()

    def held_loss(self) -> float:
        """Give minus the held rows' loss."""
        if not len(self.held):
            return 0.0
        with torch.no_grad():
            return -float(self._loss(self.held))

    def _loss(self, part: Tensor) -> Tensor:
        """Sum over heads of the mean loss a row: cross-entropy; Poisson's for 1 + seconds.

        Whatever the distribution, Poisson's loss is least at the mean (Gourieroux, Monfort,
        Trognon, Econometrica 1984); squared log seconds are least at about half of it here.
        """
        logits, labels, use = self.network(self.inputs[part]), self.labels[part], self.use[part]
        losses = functional.binary_cross_entropy_with_logits(
            logits, labels.clamp(0.0, 1.0), reduction="none"
        )
        guess, seconds = logits[:, _DWELL], labels[:, _DWELL]
        dwell = (guess.exp() - (1.0 + seconds) * guess) / self.typical
        losses = torch.cat([losses[:, :_DWELL], dwell[:, None], losses[:, _DWELL + 1 :]], dim=1)
        total = torch.where(use, losses, 0.0).sum(dim=0) / use.sum(dim=0).clamp(min=1)
        return total.sum()


def _scaling(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give mean and scale of each column, nulls left out; 0 and 1 where nothing is known."""
    there = np.isfinite(values)
    count = np.maximum(there.sum(axis=0), 1)
    filled = np.where(there, values, 0.0).astype(np.float64)
    mean = filled.sum(axis=0) / count
    spread = np.sqrt((np.where(there, values - mean, 0.0) ** 2).sum(axis=0) / count)
    return mean.astype(np.float32), np.where(spread > 1e-6, spread, 1.0).astype(np.float32)


def _trained(labels: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Say which heads have enough positive rows, and each head's mean label (0 where none)."""
    known = np.isfinite(labels)
    positive = ((labels > 0) & known).sum(axis=0)
    mean = np.where(known, labels, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return positive >= FEWEST_POSITIVES, mean.astype(np.float32)


def held_people(groups: IntArray, share: float, seed: int, member: int = 0) -> BoolArray:
    """Mark the rows [n] of the people who decide when a member stops."""
    people = np.unique(groups)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(people)
    many = int(len(people) * share)
    return np.isin(groups, np.roll(order, -member * many)[:many])


def _loss_labels(labels: FloatArray) -> FloatArray:
    """Bound dwell by what its head can predict; unknown labels to 0."""
    ready = np.nan_to_num(labels, nan=0.0).astype(np.float32)
    ready[:, _DWELL] = np.clip(ready[:, _DWELL], 0.0, np.expm1(LONGEST_LOG_SECONDS))
    return ready


def _logit(prior: FloatArray) -> FloatArray:
    """Start each head at its mean label."""
    p = np.clip(prior, 1e-4, 1.0 - 1e-4)
    start = np.log(p / (1.0 - p))
    start[_DWELL] = np.log1p(max(float(prior[_DWELL]), 0.0))
    return start.astype(np.float32)


def _stack(members: list[dict[str, FloatArray]]) -> dict[str, FloatArray]:
    """Lay members one behind the other: weights [m, in, out], biases [m, 1, out]."""
    stacked: dict[str, FloatArray] = {}
    for name in members[0]:
        parts = np.stack([member[name] for member in members]).astype(np.float32)
        ready = parts.transpose(0, 2, 1) if parts.ndim == 3 else parts[:, None, :]
        stacked[name] = np.ascontiguousarray(ready)
    return stacked


def _member(weights: dict[str, FloatArray], number: int) -> dict[str, Tensor]:
    """Take one member out of what `_stack` laid: weights [out, in], biases [out]."""
    parts = {name: torch.from_numpy(array[number].copy()) for name, array in weights.items()}
    return {k: v[0] if k.endswith("bias") else v.T.contiguous() for k, v in parts.items()}

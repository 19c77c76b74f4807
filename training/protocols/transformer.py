"""Fits the sequence network: windows packed by length, sampled softmax, averaged weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_array
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from models.base import FloatArray, IntArray, TrainingContext
from training.dataset import Ragged
from training.loop import torch_run
from training.protocols.network import SampledSoftmax, SequenceNetwork, Shape
from training.protocols.split import Split

_LENGTHS: Final = (9, 13, 17, 33, 49, 65, 97, 129, 161, 201)
"""Windows are padded to one of few lengths: a kernel is built for each new one."""
_AVERAGE_EVERY: Final = 5


class Recipe(BaseModel):
    """Choices of one training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Shape = Shape()
    epochs: float = Field(default=20.0, gt=0)
    tokens: int = Field(default=2048, ge=1)
    """Places of a batch, padding included."""
    sample: int = Field(default=1024, ge=1)
    """Negatives of a batch; as many as items or more is the full softmax."""
    learning_rate: float = Field(default=2e-3, gt=0)
    warm_up: int = Field(default=100, ge=1)
    steady: float = Field(default=0.5, ge=0, lt=1)
    """Share of the steps before the rate falls, linearly to 2 %."""
    weight_decay: float = Field(default=0.05, ge=0)
    left_out: float = Field(default=0.05, ge=0, lt=1)
    """Share of input places that are hidden at random."""
    average: float = Field(default=0.998, gt=0, lt=1)
    """Decay of the weights' moving average, which is what is kept."""
    attributes: bool = False
    warm_start: bool = True
    """Begin at item vectors from co-occurrence instead of noise."""


@dataclass(frozen=True, slots=True)
class TransformerScores:
    """A network with averaged weights; a person's scores are its logits."""

    network: SequenceNetwork

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: any history can be asked."""
        return _logits(self.network, split.asked, people)


@dataclass(frozen=True, slots=True)
class Transformer:
    """The sequence network."""

    name: str = "transformer"
    recipe: Recipe = field(default_factory=Recipe)

    def fit(self, split: Split, context: TrainingContext) -> TransformerScores:
        """Train on a GPU where there is one, else on the processor; bfloat16 where it is fast."""
        with torch_run(TrainingContext(context.seed, context.threads)):
            return TransformerScores(_train(split, self.recipe, context.seed))


def device() -> torch.device:
    """Name where networks are trained."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def low_precision(where: torch.device) -> torch.dtype:
    """Give the type of matrix products: bfloat16 where the hardware has it."""
    if where.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if fast else torch.float32


def _train(split: Split, recipe: Recipe, seed: int) -> SequenceNetwork:
    where = device()
    low = low_precision(where)
    generator = np.random.Generator(np.random.PCG64(seed))
    attributes = _attribute_matrix(split) if recipe.attributes else None
    network = SequenceNetwork(split.n_items, recipe.shape, attributes).to(where)
    if recipe.warm_start:
        _begin(network, split, recipe.shape, seed)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    steps = _steps(split.learned, recipe)
    optimiser = _optimiser(network, recipe)
    network.train()
    for step, rows in enumerate(_endless(split.learned, recipe, generator)):
        if step >= steps:
            break
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _pace(step, steps, recipe)
        _learn(network, rows.to(where), recipe, optimiser, low)
        if step % _AVERAGE_EVERY == 0:
            decay = min(recipe.average, step / (step + 50)) ** _AVERAGE_EVERY
            with torch.no_grad():
                for name, value in network.state_dict().items():
                    kept[name].lerp_(value, 1.0 - decay)
    network.load_state_dict(kept)
    network.eval()
    return network


def _learn(
    network: SequenceNetwork,
    rows: Tensor,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    low: torch.dtype,
) -> None:
    inputs, wanted = rows[:, :-1], rows[:, 1:].flatten()
    if recipe.left_out:
        inputs = inputs * (torch.rand(inputs.shape, device=rows.device) >= recipe.left_out)
    table = network.table()
    with torch.autocast(rows.device.type, dtype=low, enabled=low is not torch.float32):
        states = network(inputs, table).flatten(0, 1)
    real = wanted > 0
    apply: Callable[..., Tensor] = SampledSoftmax.apply
    loss = apply(states[real], table[1:], wanted[real] - 1, recipe.sample, low)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()


def _optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    wide = [p for p in network.parameters() if p.ndim > 1]
    thin = [p for p in network.parameters() if p.ndim < 2]
    groups = [
        {"params": wide, "weight_decay": recipe.weight_decay},
        {"params": thin, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _pace(step: int, steps: int, recipe: Recipe) -> float:
    falling = (steps - step) / max(1.0, steps * (1.0 - recipe.steady))
    return min(1.0, (step + 1) / recipe.warm_up, max(0.02, falling))


def _steps(lists: Ragged, recipe: Recipe) -> int:
    """Count the batches of all epochs, by the padded places of one."""
    counted = sum(1 for _ in _epoch(lists, recipe, np.random.Generator(np.random.PCG64(0))))
    return max(1, round(counted * recipe.epochs))


def _endless(lists: Ragged, recipe: Recipe, generator: np.random.Generator) -> Iterator[Tensor]:
    while True:
        yield from _epoch(lists, recipe, generator)


def _epoch(lists: Ragged, recipe: Recipe, generator: np.random.Generator) -> Iterator[Tensor]:
    """Cut every history into windows at a random phase, and yield padded batches in random order.

    Every action is a target once an epoch; batches hold table rows, 0 behind each window.
    """
    begins, ends = _windows(lists, recipe.shape.window, generator)
    longest = recipe.shape.window + 1
    lengths = [length for length in _LENGTHS if length < longest] + [longest]
    kind = np.searchsorted(lengths, ends - begins)
    batches: list[tuple[int, IntArray]] = []
    for number, length in enumerate(lengths):
        rows = generator.permutation(np.flatnonzero(kind == number))
        size = max(1, round(recipe.tokens / (length - 1)))
        batches += [(length, rows[a : a + size]) for a in range(0, len(rows), size)]
    for number in generator.permutation(len(batches)).tolist():
        length, rows = batches[number]
        place = begins[rows][:, None] + np.arange(length)
        there = place < ends[rows][:, None]
        items = lists.values[np.minimum(place, len(lists.values) - 1)] + 1
        yield torch.from_numpy(np.where(there, items, 0))


def _windows(
    lists: Ragged, window: int, generator: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Give [begin, end) of windows of up to `window` inputs and the target behind each."""
    starts, places = lists.offsets[:-1], lists.lengths - 1  # places that have a target behind
    phase = np.where(places > window, generator.integers(0, window, len(places)), 0)
    pieces = np.maximum(places - phase + window - 1, 0) // window + (phase > 0)
    owner = np.repeat(np.arange(len(places)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    shifted = phase[owner] > 0
    first = np.where(shifted, phase[owner] + (number - 1) * window, number * window)
    begin = np.maximum(first, 0)
    end = np.minimum(first + window, places[owner])
    return starts[owner] + begin, starts[owner] + end + 1


def _attribute_matrix(split: Split) -> Tensor | None:
    """Spread attributes over table rows, each row divided by the root of its count."""
    if split.described is None:
        return None
    _, items, kinds = split.described.T
    counts = np.bincount(items, minlength=split.n_items)
    places = np.stack([items + 1, kinds])
    weights = (1.0 / np.sqrt(counts[items])).astype(np.float32)
    size = (split.n_items + 1, int(kinds.max(initial=0)) + 1)
    spread = torch.sparse_coo_tensor(
        torch.from_numpy(places), torch.from_numpy(weights), size, check_invariants=False
    )
    return spread.coalesce()


def _begin(network: SequenceNetwork, split: Split, shape: Shape, seed: int) -> None:
    """Begin at the leading directions of shifted positive PMI of near items.

    After Levy and Goldberg (NeurIPS 2014); neighbours up to 30 places off, 0.9 a place.
    """
    lists, n = split.learned, split.n_items
    near = csr_array((n, n), dtype=np.float64)
    owner = lists.owners
    for gap in range(1, 31):
        same = owner[:-gap] == owner[gap:]
        left, right = lists.values[:-gap][same], lists.values[gap:][same]
        weight = np.full(len(left), 0.9**gap)
        near = near + csr_array((weight, (left, right)), shape=(n, n))
    near = csr_array(near + near.T)
    total = np.asarray(near.sum(axis=1)).ravel() + 1.0
    rows = np.repeat(np.arange(n), np.diff(near.indptr))
    scale = total.sum() / (total[rows] * total[near.indices] ** 0.75 * (total**0.25).mean())
    near.data = np.log1p(near.data * scale)
    rank = min(shape.dimensions, n - 1)
    left, values, _ = randomized_svd(near, rank, n_iter=3, random_state=seed)
    vectors: NDArray[np.float64] = left * np.sqrt(values)
    vectors = vectors * (0.05 / max(float(vectors.std()), 1e-12))
    with torch.no_grad():
        network.items.weight[1:, :rank] = torch.from_numpy(vectors.astype(np.float32))
        network.items.weight[0] = 0.0


def _logits(network: SequenceNetwork, lists: Ragged, people: IntArray) -> FloatArray:
    """Score all items after each person's history, [Q, n_items]; 0 where there is none."""
    where = network.items.weight.device
    low = low_precision(where)
    window = network.shape.window
    lengths = np.minimum(lists.lengths[people], window)
    out = np.zeros((len(people), len(network.items.weight) - 1), dtype=np.float32)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    with torch.no_grad():
        table = network.table()
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            place = np.arange(int(lengths[rows].max()))[None, :]
            begin = (lists.offsets[people[rows] + 1] - lengths[rows])[:, None]
            there = place < lengths[rows][:, None]
            items = lists.values[np.minimum(begin + place, len(lists.values) - 1)] + 1
            given = torch.from_numpy(np.where(there, items, 0)).to(where)
            with torch.autocast(where.type, dtype=low, enabled=low is not torch.float32):
                states = network(given, table)
            last = states[torch.arange(len(rows)), torch.from_numpy(lengths[rows] - 1).to(where)]
            out[rows] = (last.float() @ table[1:].T).cpu().numpy()
    return out

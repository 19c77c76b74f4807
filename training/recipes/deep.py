"""Fit the two-tower network: windows, sampled softmax with log-Q correction, early stopping."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from contracts.order import largest
from models.base import (
    FloatArray,
    IntArray,
    Interactions,
    ItemHistories,
    TrainingContext,
    TrainingFrame,
)
from models.content import ContentConfig
from models.deep import DeepConfig, DeepModel, topic_shares
from models.text import TextEmbedder
from training.loop import Limits, LoopReport, run_epochs, torch_run
from training.recipes.base import item_counts
from training.recipes.content import fit_embedder
from training.recipes.sequences import (
    Batch,
    Sequences,
    epoch_batches,
    make_sequences,
    merge_repeats,
)
from training.recipes.softmax import SampledSoftmax
from training.recipes.two_tower import TwoTower
from training.workers import ALONE, Workers


class DeepRecipeConfig(BaseModel):
    """Choices of the deep family's training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: DeepConfig = DeepConfig()
    content: ContentConfig = ContentConfig()
    epochs: int = Field(default=60, ge=1)
    patience: int = Field(default=4, ge=1)
    windows: int | None = Field(default=None, ge=1)
    """Most windows of one pass, drawn anew each time; all of them where absent."""
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    id_dropout: float = Field(default=0.3, ge=0, lt=1)
    """How often an item is met without its id, so that content must carry it."""
    horizon: int = Field(default=10, ge=1)
    negatives: int = Field(default=1024, ge=1)
    """Shared by a batch; all items are used where there are no more than this."""
    topics: int = Field(default=200, ge=0)
    """Most used topics that are inputs of their own; content vectors know the others."""
    held_people: int = Field(default=1000, ge=0)
    """People whose newest tenth of items decides when to stop."""


@dataclass(frozen=True, slots=True)
class DeepInputs:
    """What both towers are given of the posts, and what makes a model of the fitted network."""

    embedder: TextEmbedder
    topic_ids: IntArray
    side: FloatArray
    """[n_items, c]: content vector and topic shares."""

    @classmethod
    def of(cls, frame: TrainingFrame, recipe: "DeepRecipe", seed: int) -> "DeepInputs":
        """Learn the content vectors from what was written by the newest action, or keep them."""
        learned, config, start = frame.known_content(), recipe.config, recipe.start
        if start is None:
            embedder = fit_embedder(learned, config.content, seed)
            topic_ids = _common_topics(learned.topics, config.topics)
        else:
            embedder, topic_ids = start.embedder, start.topic_ids
        text = np.nan_to_num(embedder.embed(frame.content), nan=0.0)
        side = np.concatenate([text, topic_shares(frame.content, topic_ids)], axis=1)
        return cls(embedder, topic_ids, side.astype(np.float32))

    def freeze(self, network: TwoTower) -> DeepModel:
        """Freeze the item tower into vectors."""
        with torch.no_grad():
            vectors = network.encode_items(torch.arange(len(self.side))).numpy()
        known = vectors[network.acted.numpy()[:, 0] > 0, -1]
        prior = float(np.median(known)) if len(known) else 0.0
        exported = network.export()
        return DeepModel(
            "deep", network.config, self.embedder, self.topic_ids, exported, vectors, prior
        )


@dataclass(frozen=True, slots=True)
class DeepRecipe:
    """Fit both towers end to end."""

    config: DeepRecipeConfig = field(default_factory=DeepRecipeConfig)
    name: str = "deep"
    start: DeepModel | None = None
    """A model of the same shape over the frame's rows to begin from, its vocabulary kept."""

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> DeepModel:
        """Train, and freeze the item tower into vectors."""
        return self.fit_reported(frame, context)[0]

    def fit_reported(
        self, frame: TrainingFrame, context: TrainingContext
    ) -> tuple[DeepModel, LoopReport]:
        """Train, and say how long it took to get best, so that a refit can go on as long."""
        inputs = DeepInputs.of(frame, self, context.seed)
        merged = merge_repeats(frame.interactions, frame.n_items)
        with torch_run(context):
            network, report = fit_network(inputs.side, merged, self, context)
            return inputs.freeze(network), report


FitDeep = Callable[[DeepRecipe, TrainingFrame, TrainingContext], tuple[DeepModel, LoopReport]]
"""Carries a recipe out: `DeepRecipe.fit_reported` in this process, or others on more machines."""


def fit_network(
    side: FloatArray,
    merged: Interactions,
    recipe: DeepRecipe,
    context: TrainingContext,
    workers: Workers = ALONE,
) -> tuple[TwoTower, LoopReport]:
    """Train the network end to end inside `torch_run`; each worker gives its own people's actions.

    `merged`: what `merge_repeats` gives. Batches are split over the workers, so that a step sees
    as many windows as it does in one process.
    """
    counts = workers.sum(item_counts(merged, len(side)).astype(np.float64))
    config, start = recipe.config, recipe.start
    network = TwoTower(config.shape, side, counts.astype(np.float32), config.dropout)
    if start is not None:
        network.resume(start.weights, start.vectors)
    return network, Fit(network, config, (merged, counts), context, workers).run()


def _common_topics(topics: Sequence[Sequence[int]], most: int) -> IntArray:
    """Give the most used topic ids, ascending."""
    flat = np.array([t for each in topics for t in each], dtype=np.int64)
    ids, counts = np.unique(flat, return_counts=True)
    return np.sort(ids[np.argsort(-counts, kind="stable")[:most]])


class Fit:
    """One fit of the network: its data, optimiser and the score that stops it."""

    def __init__(
        self,
        network: TwoTower,
        config: DeepRecipeConfig,
        data: tuple[Interactions, NDArray[np.float64]],
        context: TrainingContext,
        workers: Workers,
    ) -> None:
        merged, counts = data
        self.network, self.config, self.context, self.workers = network, config, context, workers
        self.generator = np.random.Generator(np.random.PCG64(context.seed + workers.rank))
        self.sequences = make_sequences(merged)
        self.acted = np.flatnonzero(counts > 0)
        self.sampling = counts**0.75 / (counts**0.75).sum()
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def run(self) -> LoopReport:
        """Train until the held people's score stops rising."""
        config, whole = self.config, self.sequences
        lengths = whole.stops - whole.starts
        able = np.flatnonzero(lengths >= 4)
        most = -(-config.held_people // self.workers.size)
        held = np.sort(self.generator.permutation(able)[:most])
        by = np.minimum(np.maximum(lengths[held] // 10, 1), 20)
        self.sequences = whole.shorten(held, by)
        everybody = self.workers.sum(np.array([float(len(held))]))[0]

        def score() -> float:
            found = _held_score(self.network, whole, held, by)
            return float(self.workers.sum(np.array([found]))[0] / everybody)

        return run_epochs(
            self.network,
            self._epoch,
            score if everybody else None,
            Limits(config.epochs, config.patience, self.context.time_budget_seconds),
            self.optimiser,
            self.workers,
        )

    def _epoch(self, number: int) -> None:
        config, size = self.config, self.workers.size
        if size > 1:  # what is drawn depends on the epoch alone, so that a retry draws it again
            drawn = np.random.SeedSequence([self.context.seed, self.workers.rank, number])
            self.generator = np.random.Generator(np.random.PCG64(drawn))
            torch.manual_seed(int(self.generator.integers(1 << 62)))
        batches: Iterator[Batch | None] = epoch_batches(
            self.sequences,
            config.shape.window,
            config.horizon,
            max(1, config.batch // size),
            self.generator,
            None if config.windows is None else -(-config.windows // size),
        )
        for batch in chain(batches, repeat(None)):
            self.optimiser.zero_grad(set_to_none=True)
            if batch is not None:
                self._loss(batch).backward()  # type: ignore[no-untyped-call]  # torch's
            weight = 0.0 if batch is None else float(batch.valid.sum())
            if not self.workers.average(self.network, weight):
                return
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()

    def _loss(self, batch: Batch) -> Tensor:
        """Sampled softmax with log-Q correction (Bengio and Senécal, 2008; Yi et al., 2019)."""
        drawn, log_q = self._negatives()
        rows, inverse = np.unique(
            np.concatenate([batch.items.ravel(), batch.targets.ravel(), drawn]),
            return_inverse=True,
        )
        vectors = self.network.encode_items(torch.from_numpy(rows), self.config.id_dropout)
        where = torch.from_numpy(inverse.astype(np.int64))
        size = batch.items.size
        valid = torch.from_numpy(batch.valid)
        viewers = self.network.viewers(
            vectors[where[:size]].view(*batch.items.shape, -1),
            torch.from_numpy(batch.types.astype(np.int64)),
            valid,
        )[valid]  # [P, d]
        targets = batch.targets[batch.valid]
        positive = (viewers * vectors[where[size : 2 * size].view(batch.items.shape)[valid]]).sum(1)
        column = np.full(len(log_q), -1, dtype=np.int64)
        column[drawn] = np.arange(len(drawn))
        loss: Tensor = SampledSoftmax.apply(
            viewers,
            positive - torch.from_numpy(log_q[targets]),
            vectors[where[2 * size :]],
            -torch.from_numpy(log_q[drawn]),
            torch.from_numpy(column[targets]),
        )  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss

    def _negatives(self) -> tuple[IntArray, FloatArray]:
        """Draw distinct items that somebody acted on, and every item's log chance to be drawn.

        Items without actions may be new: they are never drawn, so that nothing pushes them down.
        """
        if len(self.acted) <= self.config.negatives:
            return self.acted, np.zeros(len(self.sampling), dtype=np.float32)
        edges = np.cumsum(self.sampling)
        points = self.generator.random(self.config.negatives) * edges[-1]
        drawn = np.unique(np.searchsorted(edges, points, side="right"))
        chance = -np.expm1(self.config.negatives * np.log1p(-self.sampling))
        return drawn, np.log(np.maximum(chance, 1e-12)).astype(np.float32)


def _held_score(network: TwoTower, whole: Sequences, held: IntArray, by: IntArray) -> float:
    """Add up held people's Recall@50 of held items, those acted on before masked."""
    if not len(held):
        return 0.0
    histories = _held_histories(whole, held, by, network.config.window)
    with torch.no_grad():
        vectors = network.encode_items(torch.arange(len(network.side)))
        viewers = network.viewers(
            vectors[torch.from_numpy(np.maximum(histories.rows, 0))],
            torch.from_numpy(histories.types.astype(np.int64)),
            torch.from_numpy(histories.rows >= 0),
        )[:, -1]
        scores: FloatArray = (viewers @ vectors.T).numpy()
    found = 0.0
    for row, (person, out) in enumerate(zip(held, by, strict=True)):
        sequence = whole.items[whole.starts[person] : whole.stops[person]]
        scores[row, sequence[:-out]] = -np.inf
        best = largest(scores[row], 50)
        found += float(np.isin(sequence[-out:], best).mean())
    return found


def _held_histories(whole: Sequences, held: IntArray, by: IntArray, window: int) -> ItemHistories:
    place = (whole.stops[held] - by)[:, None] - np.arange(window, 0, -1)[None, :]
    there = place >= whole.starts[held][:, None]
    safe = np.maximum(place, 0)
    return ItemHistories(
        np.where(there, whole.items[safe], -1),
        np.where(there, whole.types[safe], 0).astype(np.int8),
        np.zeros_like(place),
        np.zeros(len(held), dtype=np.int64),
    )

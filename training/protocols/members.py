"""Collaborative members of a published protocol's ensemble: each fits a split and scores people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix, diags_array, eye_array
from threadpoolctl import threadpool_limits

from models.base import FloatArray, IntArray, TrainingContext
from training.dataset import Ragged, spread
from training.loop import torch_run
from training.protocols.split import Split
from training.recipes.spectral import item_people

_BLOCK: Final = 1024


class Fitted(Protocol):
    """What a member has learned."""

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """Score all items for some people from what `split.asked` says of them: [Q, n_items]."""
        ...


class Member(Protocol):
    """One model of an ensemble."""

    @property
    def name(self) -> str:
        """Name it as the tables do."""
        ...

    def fit(self, split: Split, context: TrainingContext) -> Fitted:
        """Learn from `split.learned` alone; from friends and descriptions where it uses them."""
        ...


def row_normalised(matrix: csr_array) -> csr_array:
    """Divide each row by its sum; empty rows stay."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    weight = np.where(total > 0, 1.0 / np.maximum(total, 1e-12), 0.0)
    return csr_array(diags_array(weight.astype(np.float32)) @ matrix)


def unit_rows(matrix: csr_array) -> csr_array:
    """Scale each row to length 1; empty rows stay."""
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return csr_array(diags_array(1.0 / np.maximum(length, 1e-9)) @ matrix).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Factors:
    """Scores as inner products; one pair of factors a seed, averaged."""

    pairs: Sequence[tuple[FloatArray, FloatArray]]

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`; people are those of the fit."""
        del split
        parts = [left[people] @ right.T for left, right in self.pairs]
        mean: FloatArray = np.mean(parts, axis=0, dtype=np.float32)
        return mean


@dataclass(frozen=True, slots=True)
class Als:
    """Implicit ALS (Hu, Koren, Volinsky, ICDM 2008), averaged over seeds."""

    name: str
    factors: int
    regularization: float
    confidence: float
    seeds: int = 1
    iterations: int = 15

    def fit(self, split: Split, context: TrainingContext) -> Factors:
        """Factorise once a seed."""
        matrix = csr_matrix(split.matrix())
        pairs = []
        with threadpool_limits(limits=1, user_api="blas"):
            for seed in range(self.seeds):
                learner = AlternatingLeastSquares(
                    factors=self.factors,
                    regularization=self.regularization,
                    alpha=self.confidence,
                    iterations=self.iterations,
                    num_threads=context.threads,
                    random_state=context.seed + seed,
                )
                learner.fit(matrix, show_progress=False)
                pairs.append((np.asarray(learner.user_factors), np.asarray(learner.item_factors)))
        return Factors(pairs)


@dataclass(frozen=True, slots=True)
class KernelScores:
    """Predictions of ridge regression in the space of people, an item's own share taken out."""

    inverse: FloatArray
    """[people, people]"""
    scaled: csr_array
    """[people, items], transposed once for speed."""
    weight: FloatArray
    """[items]"""

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`; people are those of the fit."""
        del split
        found: FloatArray = -(self.scaled @ self.inverse[people].T).T * self.weight
        return found


@dataclass(frozen=True, slots=True)
class Ease:
    """EASE (Steck, WWW 2019) through its people: exact, and cheap where items outnumber people.

    With P = (A'A + l I)^-1 and K = (AA' + l I)^-1, the score of an unseen item j is
    -l (K A)_uj / (1 - q_j), q_j = a_j' K a_j. Items are scaled by people^-scale. `friends` adds
    the mean of a person and their friends to the kernel.
    """

    name: str
    ridge: float
    """In units of the mean squared norm of a row."""
    scale: float = 0.25
    friends: float = 0.0

    def fit(self, split: Split, context: TrainingContext) -> KernelScores:
        """Invert the kernel of people."""
        matrix = split.matrix()
        people = item_people(matrix)
        scaled = csr_array(matrix @ diags_array(people**-self.scale)).astype(np.float32)
        gram = (scaled @ scaled.T).toarray().astype(np.float64)
        if self.friends and split.friends is not None:
            near = row_normalised(csr_array(split.friends + eye_array(len(gram)))) @ scaled
            gram += self.friends * (near @ near.T).toarray()
        ridge = self.ridge * float((scaled.data**2).sum()) / len(gram)
        gram[np.diag_indices_from(gram)] += ridge
        inverse = inverted(gram, context.threads).astype(np.float32)
        share = np.zeros(split.n_items, dtype=np.float64)
        across = csr_array(scaled.T)
        for start in range(0, len(gram), _BLOCK):
            block = slice(start, start + _BLOCK)
            part = (across @ inverse[block].T).T
            share += np.asarray(scaled[block].multiply(part).sum(axis=0)).ravel()
        weight = ridge * people**self.scale / np.maximum(1.0 - share, 1e-4)
        return KernelScores(inverse, across, weight.astype(np.float32))


def inverted(gram: NDArray[np.float64], threads: int) -> NDArray[np.float64]:
    """Invert a positive definite matrix (SciPy's Cholesky fails on large ones)."""
    with torch_run(TrainingContext(threads=threads)):
        factor = torch.linalg.cholesky(torch.from_numpy(gram))
        found: NDArray[np.float64] = torch.cholesky_inverse(factor).numpy()
    return found


def solved(gram: FloatArray, right: FloatArray, threads: int) -> FloatArray:
    """Solve a positive definite system, [n, n] and [n, m]."""
    with torch_run(TrainingContext(threads=threads)):
        factor = torch.linalg.cholesky(torch.from_numpy(gram))
        found: FloatArray = torch.cholesky_solve(torch.from_numpy(right), factor).numpy()
    return found


@dataclass(frozen=True, slots=True)
class Averages:
    """What the people around a person acted on: log(1 + 20 mean)."""

    around: csr_array
    matrix: csr_array

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`; people are those of the fit."""
        del split
        near: FloatArray = (self.around[people] @ self.matrix).toarray()
        found: FloatArray = np.log1p(np.float32(20.0) * near)
        return found


@dataclass(frozen=True, slots=True)
class Friends:
    """The mean of the friends (or, two hops away, of theirs)."""

    name: str
    hops: int = 1

    def fit(self, split: Split, context: TrainingContext) -> Averages:
        """Remember the graph."""
        del context
        if split.friends is None:
            raise ValueError(f"{split.name} has no friends")
        graph = split.friends
        if self.hops == 2:
            graph = csr_array(graph @ graph)
            graph.setdiag(0.0)
        return Averages(row_normalised(csr_array(graph)), split.matrix())


@dataclass(frozen=True, slots=True)
class Walks:
    """Three steps of a random walk, and what divides them."""

    steps: csr_array
    back: csr_array
    damping: FloatArray

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`; people are those of the fit."""
        del split
        third: FloatArray = ((self.steps[people] @ self.back) @ self.steps).toarray()
        found: FloatArray = np.sqrt(third * self.damping).astype(np.float32)
        return found


@dataclass(frozen=True, slots=True)
class Walk:
    """RP3beta (Paudel et al., TiiS 2017): person, item, person, item, damped by popularity."""

    name: str
    beta: float = 0.3

    def fit(self, split: Split, context: TrainingContext) -> Walks:
        """Normalise the steps."""
        del context
        matrix = split.matrix()
        people = item_people(matrix)
        back = csr_array(diags_array(1.0 / people) @ matrix.T)
        return Walks(row_normalised(matrix), back, people**-self.beta)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same scores for everybody."""

    values: FloatArray

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`."""
        del split
        return np.tile(self.values, (len(people), 1))


@dataclass(frozen=True, slots=True)
class Popular:
    """The log of the people who acted on an item."""

    name: str = "popularity"

    def fit(self, split: Split, context: TrainingContext) -> Constant:
        """Count."""
        del context
        counts = np.asarray(split.matrix().sum(axis=0)).ravel()
        return Constant(np.log1p(counts).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Profiles:
    """Attributes of items, and how histories are averaged."""

    attributes: csr_array
    """[items, attributes], rows of length 1."""
    decay: float
    newest: int

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: the cosine of the mean attributes of a history with each item's."""
        history = decayed(split, people, self.decay, self.newest)
        profile = unit_rows(csr_array(history @ self.attributes))
        cosine: FloatArray = (profile @ self.attributes.T).toarray()
        return cosine


@dataclass(frozen=True, slots=True)
class Described:
    """TF-IDF of item attributes; those that people gave count where the pair may be learned."""

    name: str = "content"
    decay: float = 1.0
    """Weight of an item a place further back."""
    newest: int = 1000
    fewest: int = 2
    """Items that an attribute must describe."""

    def fit(self, split: Split, context: TrainingContext) -> Profiles:
        """Weigh the attributes."""
        del context
        if split.described is None:
            raise ValueError(f"{split.name} describes no items")
        people, items, kinds = split.described.T
        pairs = split.learned.owners * split.n_items + split.learned.values
        known = (people < 0) | np.isin(people * split.n_items + items, pairs)
        items, kinds = items[known], kinds[known]
        shape = (split.n_items, int(kinds.max(initial=0)) + 1)
        counts = csr_array((np.ones(len(items), dtype=np.float32), (items, kinds)), shape=shape)
        counts.sum_duplicates()
        documents = np.bincount(counts.indices, minlength=shape[1])
        rarity = np.where(
            documents >= self.fewest, np.log(split.n_items / np.maximum(documents, 1)), 0.0
        )
        counts.data = np.log1p(counts.data)
        weighed = csr_array(counts @ diags_array(rarity.astype(np.float32)))
        return Profiles(unit_rows(weighed), self.decay, self.newest)


def decayed(split: Split, people: IntArray, decay: float, newest: int) -> csr_array:
    """Weigh each history by decay^age, age 0 the newest, of up to `newest` items: [Q, n_items]."""
    lists = split.asked
    stops = lists.offsets[people + 1]
    return decayed_rows(lists, np.maximum(lists.offsets[people], stops - newest), stops, decay,
                        split.n_items)  # fmt: skip


def decayed_rows(
    lists: Ragged, starts: IntArray, stops: IntArray, decay: float, n_items: int
) -> csr_array:
    """Weigh values [start, stop) of a list by decay^age, age 0 the last: [len(starts), n_items]."""
    index = spread(starts, stops)
    age = np.repeat(stops - 1, index.lengths) - index.values
    items = lists.values[index.values].astype(np.int32)
    shape = (len(starts), n_items)
    matrix = csr_array(((decay**age).astype(np.float32), items, index.offsets), shape=shape)
    matrix.sum_duplicates()
    return matrix

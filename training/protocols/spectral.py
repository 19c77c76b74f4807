"""Graph filters and ridge through the leading directions of a large, sparse matrix.

A function of the item-to-item matrix is applied exactly on its leading directions; on the rest,
where eigenvalues are small, it is a straight line, which one sparse product applies. No matrix of
items by items is ever held.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from models.base import FloatArray, IntArray, TrainingContext
from training.protocols.exam import blocks, taken
from training.protocols.members import item_people, person_items, unit_rows
from training.protocols.split import Split, binary

_POWERS: Final = 4
"""Power iterations of the randomised decomposition."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Leading eigenvectors of X'X for sparse X [people, items]."""

    matrix: csr_array
    """X [people, items]."""
    vectors: FloatArray
    """[items, k], columns of length 1."""
    values: NDArray[np.float64]
    """[k], falling."""

    @classmethod
    def of(cls, matrix: csr_array, rank: int, context: TrainingContext) -> "Spectrum":
        """Decompose by randomised projection (Halko et al., SIAM Review 2011)."""
        rank = min(rank, min(matrix.shape) - 1)
        with threadpool_limits(limits=context.threads, user_api="blas"):
            _, singular, right = randomized_svd(
                matrix, rank, n_oversamples=32, n_iter=_POWERS, random_state=context.seed
            )
        values = singular.astype(np.float64) ** 2
        return cls(matrix, np.ascontiguousarray(right.T, dtype=np.float32), values)

    def rest(self) -> float:
        """Give the mean eigenvalue behind the leading ones."""
        left = float((self.matrix.data.astype(np.float64) ** 2).sum() - self.values.sum())
        behind: int = min(self.matrix.shape) - len(self.values)
        return max(left, 0.0) / max(behind, 1)

    def apply(self, rows: csr_array, leading: FloatArray, slope: float) -> FloatArray:
        """Multiply rows [Q, items] by V diag(leading) V' + slope X'X: [Q, items]."""
        found: FloatArray = ((rows @ self.vectors) * leading) @ self.vectors.T
        near = csr_array(rows @ self.matrix.T) @ self.matrix
        found += np.float32(slope) * near.toarray()
        return found


def histories(split: Split, people: IntArray) -> csr_array:
    """Mark what is known of people when they are asked: [Q, items]."""
    return binary(taken(split.asked, people), split.n_items)


def normalised(matrix: csr_array) -> csr_array:
    """Divide each entry by the roots of its row's and its column's sum."""
    items = person_items(matrix)
    scaled = diags_array(items**-0.5) @ matrix @ diags_array(item_people(matrix) ** -0.5)
    return csr_array(scaled).astype(np.float32)


def directions(split: Split, rank: int = 64, seed: int = 0) -> FloatArray:
    """Give items a direction each, so that items of the same people lie together: [items, rank]."""
    spectrum = Spectrum.of(normalised(split.matrix()), rank, TrainingContext(seed))
    return unit_vectors(spectrum.vectors * (item_people(split.matrix()) ** -0.5)[:, None])


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Scale each row to length 1; rows of zeros stay."""
    found: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class FilterScores:
    """A history through the filter."""

    spectrum: Spectrum
    leading: FloatArray
    """[k]"""
    slope: float
    smooth: FloatArray
    """[items, k']: the directions that the ideal low pass keeps, scaled on the way in."""
    smooth_out: FloatArray
    """[items, k']"""

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: any history can be asked."""
        return self.mapped(histories(split, people))

    def mapped(self, rows: csr_array) -> FloatArray:
        """Score all items for rows of items [Q, items]: one item a row gives its neighbours."""
        found = self.spectrum.apply(rows, self.leading, self.slope)
        found += (rows @ self.smooth) @ self.smooth_out.T
        return found


@dataclass(frozen=True, slots=True)
class GraphFilter:
    """Blurring and sharpening of a history over the item graph, with an ideal low pass.

    BSPM (Choi et al., SIGIR 2023) in closed form: one step of blurring, then sharpening by one
    Runge-Kutta step of a given length, as a polynomial of the normalised item graph; the low pass
    of GF-CF (Shen et al., CIKM 2021) beside it.
    """

    name: str = "filter"
    rank: int = 768
    sharpening: float = 2.5
    """Length of the sharpening step."""
    low_pass: float = 0.3
    """Weight of the low pass."""
    low_pass_rank: int = 448

    def fit(self, split: Split, context: TrainingContext) -> FilterScores:
        """Decompose the normalised graph."""
        matrix = split.matrix()
        people = item_people(matrix)
        spectrum = Spectrum.of(normalised(matrix), self.rank, context)
        slope = float(self._pace(np.array([spectrum.rest()]))[0])
        leading = spectrum.values * (self._pace(spectrum.values) - slope)
        kept = spectrum.vectors[:, : self.low_pass_rank]
        return FilterScores(
            spectrum,
            leading.astype(np.float32),
            slope,
            kept * (self.low_pass * people**-0.5)[:, None].astype(np.float32),
            kept * (people**0.5)[:, None].astype(np.float32),
        )

    def _pace(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give what sharpening leaves of a direction: exp(-step x) to the fourth power."""
        x = -self.sharpening * values
        return 1.0 + x + x**2 / 2.0 + x**3 / 6.0 + x**4 / 24.0


@dataclass(frozen=True, slots=True)
class RidgeScores:
    """-(x P)_j / P_jj for unseen items j, with P through the spectrum."""

    spectrum: Spectrum
    leading: FloatArray
    slope: float
    weight: FloatArray
    """[items]: -1 / P_jj"""

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: any history can be asked. Seen items have no meaning."""
        return self.mapped(histories(split, people))

    def mapped(self, rows: csr_array) -> FloatArray:
        """Score all items for rows of items [Q, items]: one item a row gives its neighbours."""
        return self.spectrum.apply(rows, self.leading, self.slope) * self.weight


@dataclass(frozen=True, slots=True)
class SpectralEase:
    """EASE (Steck, WWW 2019) on rows scaled by items^-scale, for catalogues too large to invert.

    P = (X'X + l I)^-1 is exact on the leading directions and a straight line of X'X behind them.
    """

    name: str = "ease"
    ridge: float = 40.0
    rank: int = 1000
    scale: float = 0.25

    def fit(self, split: Split, context: TrainingContext) -> RidgeScores:
        """Decompose the scaled matrix, and fit the line behind."""
        matrix = split.matrix()
        items = person_items(matrix)
        scaled = csr_array(diags_array(items**-self.scale) @ matrix).astype(np.float32)
        spectrum = Spectrum.of(scaled, self.rank, context)
        grid = np.linspace(0.0, float(spectrum.values[-1]), 64)
        slope, level = np.polyfit(grid, 1.0 / (grid + self.ridge), 1)
        exact = 1.0 / (spectrum.values + self.ridge)
        leading = (exact - level - slope * spectrum.values).astype(np.float32)
        own = np.asarray(scaled.multiply(scaled).sum(axis=0)).ravel()
        diagonal = level + slope * own + (spectrum.vectors**2) @ leading
        weight = (-1.0 / np.maximum(diagonal, 1e-9)).astype(np.float32)
        return RidgeScores(spectrum, leading, float(slope), weight)


@dataclass(frozen=True, slots=True)
class Alike:
    """The people most like each, and what they acted on."""

    near: csr_array
    """[people, people], a few a row."""
    matrix: csr_array

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`; people are those of the fit."""
        del split
        found: FloatArray = (self.near[people] @ self.matrix).toarray()
        return found


@dataclass(frozen=True, slots=True)
class UserKnn:
    """The most similar people by cosine of their items, each item weighed by people^-rarity."""

    name: str = "user_knn"
    neighbours: int = 300
    rarity: float = 0.3
    brevity: float = 0.25
    """Neighbours count by items^-brevity: what a short history says is surer."""

    def fit(self, split: Split, context: TrainingContext) -> Alike:
        """Keep the nearest of each person, in blocks."""
        del context
        matrix = split.matrix()
        weighed = matrix @ diags_array(item_people(matrix) ** -self.rarity)
        unit = unit_rows(csr_array(weighed))
        across = csr_array(unit.T)
        most = min(self.neighbours, split.n_people)
        near, alike = [], []
        for block in blocks(np.arange(split.n_people, dtype=np.int64)):
            cosine = (unit[block] @ across).toarray()
            cosine[np.arange(len(block)), block] = 0.0
            best = np.argpartition(-cosine, most - 1, axis=1)[:, :most].astype(np.int32)
            near.append(best.ravel())
            alike.append(np.take_along_axis(cosine, best, axis=1).ravel())
        offsets = np.arange(0, split.n_people * most + 1, most)
        square = (split.n_people, split.n_people)
        graph = csr_array((np.concatenate(alike), np.concatenate(near), offsets), shape=square)
        items = person_items(matrix)
        return Alike(graph, csr_array(diags_array(items**-self.brevity) @ matrix))

"""Graph filters and ridge through the leading directions of a large, sparse matrix.

A function of the item-to-item matrix is applied exactly on its leading directions; on the rest,
where eigenvalues are small, it is a straight line, which one sparse product applies. No matrix of
items by items is ever held.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_array, diags_array, eye_array
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from models.base import FloatArray, TrainingContext, TrainingFrame
from models.neighbours import ItemKnn
from training.metrics import top_k
from training.recipes.base import user_item_matrix

_POWERS: Final = 4
"""Power iterations of the randomised decomposition."""
_BLOCK: Final = 1024


class ItemMap(Protocol):
    """A learned map from rows of items to scores of all items."""

    def mapped(self, rows: csr_array) -> FloatArray:
        """Score all items for rows of items [Q, items]: one item a row gives its neighbours."""
        ...


def item_people(matrix: csr_array) -> FloatArray:
    """Count the people of each item, at least 1: float32 [n_items]."""
    counts: FloatArray = np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1.0).astype(np.float32)
    return counts


def person_items(matrix: csr_array) -> FloatArray:
    """Count the items of each person, at least 1: float32 [people]."""
    return item_people(csr_array(matrix.T))


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


def normalised(matrix: csr_array) -> csr_array:
    """Divide each entry by the roots of its row's and its column's sum."""
    items = person_items(matrix)
    scaled = diags_array(items**-0.5) @ matrix @ diags_array(item_people(matrix) ** -0.5)
    return csr_array(scaled).astype(np.float32)


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Scale each row to length 1; rows of zeros stay."""
    found: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return found.astype(np.float32)


class FilterConfig(BaseModel):
    """Choices of the graph filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=768, ge=1)
    sharpening: float = Field(default=2.5, ge=0)
    """Length of the sharpening step."""
    low_pass: float = Field(default=0.3, ge=0)
    """Weight of the low pass."""
    low_pass_rank: int = Field(default=448, ge=0)


@dataclass(frozen=True, slots=True)
class FilterMap:
    """Blurring and sharpening of a history over the item graph, with an ideal low pass.

    BSPM (Choi et al., SIGIR 2023) in closed form: one step of blurring, then sharpening by one
    Runge-Kutta step of a given length, as a polynomial of the normalised item graph; the low pass
    of GF-CF (Shen et al., CIKM 2021) beside it.
    """

    spectrum: Spectrum
    leading: FloatArray
    """[k]"""
    slope: float
    smooth: FloatArray
    """[items, k']: the directions that the ideal low pass keeps, scaled on the way in."""
    smooth_out: FloatArray
    """[items, k']"""

    @classmethod
    def fit(cls, matrix: csr_array, config: FilterConfig, context: TrainingContext) -> "FilterMap":
        """Decompose the normalised graph of X [people, items], entries 1."""
        people = item_people(matrix)
        spectrum = Spectrum.of(normalised(matrix), config.rank, context)
        rest = np.array([spectrum.rest()])
        slope = float(_sharpened(rest, config.sharpening)[0])
        leading = spectrum.values * (_sharpened(spectrum.values, config.sharpening) - slope)
        kept = spectrum.vectors[:, : config.low_pass_rank]
        return cls(
            spectrum,
            leading.astype(np.float32),
            slope,
            kept * (config.low_pass * people**-0.5)[:, None].astype(np.float32),
            kept * (people**0.5)[:, None].astype(np.float32),
        )

    def mapped(self, rows: csr_array) -> FloatArray:
        """See `ItemMap`."""
        found = self.spectrum.apply(rows, self.leading, self.slope)
        found += (rows @ self.smooth) @ self.smooth_out.T
        return found


def _sharpened(values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Give what sharpening leaves of a direction: exp(-step x) to the fourth power."""
    x = -step * values
    return 1.0 + x + x**2 / 2.0 + x**3 / 6.0 + x**4 / 24.0


class RidgeConfig(BaseModel):
    """Choices of EASE through the spectrum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ridge: float = Field(default=40.0, gt=0)
    rank: int = Field(default=1000, ge=1)
    scale: float = 0.25
    """Rows are scaled by their items^-scale."""


@dataclass(frozen=True, slots=True)
class RidgeMap:
    """EASE (Steck, WWW 2019) on scaled rows, for catalogues too large to invert.

    Scores -(x P)_j / P_jj of unseen items j with P = (X'X + l I)^-1, exact on the leading
    directions and a straight line of X'X behind them. Seen items have no meaning.
    """

    spectrum: Spectrum
    leading: FloatArray
    slope: float
    weight: FloatArray
    """[items]: -1 / P_jj"""

    @classmethod
    def fit(cls, matrix: csr_array, config: RidgeConfig, context: TrainingContext) -> "RidgeMap":
        """Decompose the scaled matrix X [people, items], entries 1, and fit the line behind."""
        items = person_items(matrix)
        scaled = csr_array(diags_array(items**-config.scale) @ matrix).astype(np.float32)
        spectrum = Spectrum.of(scaled, config.rank, context)
        grid = np.linspace(0.0, float(spectrum.values[-1]), 64)
        slope, level = np.polyfit(grid, 1.0 / (grid + config.ridge), 1)
        exact = 1.0 / (spectrum.values + config.ridge)
        leading = (exact - level - slope * spectrum.values).astype(np.float32)
        own = np.asarray(scaled.multiply(scaled).sum(axis=0)).ravel()
        diagonal = level + slope * own + (spectrum.vectors**2) @ leading
        weight = (-1.0 / np.maximum(diagonal, 1e-9)).astype(np.float32)
        return cls(spectrum, leading, float(slope), weight)

    def mapped(self, rows: csr_array) -> FloatArray:
        """See `ItemMap`."""
        return self.spectrum.apply(rows, self.leading, self.slope) * self.weight


class ClosedFormConfig(BaseModel):
    """Choices of neighbours from closed forms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(default=300, ge=1)
    filter: FilterConfig = FilterConfig()
    ridge: RidgeConfig = RidgeConfig()
    ridge_weight: float = Field(default=1.0, ge=0)
    """Of the ridge map beside the filter, each on the scale of people's scores."""


@dataclass(frozen=True, slots=True)
class ClosedFormRecipe:
    """The best neighbours of each item by the sum of a graph filter and EASE."""

    config: ClosedFormConfig = field(default_factory=ClosedFormConfig)
    name: str = "closed_form"

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> ItemKnn:
        """Fit both maps, bring them to one scale, and keep each item's best."""
        matrix = user_item_matrix(frame)
        matrix.data = np.ones_like(matrix.data)
        maps: list[tuple[ItemMap, float]] = [
            (FilterMap.fit(matrix, self.config.filter, context), 1.0),
            (RidgeMap.fit(matrix, self.config.ridge, context), self.config.ridge_weight),
        ]
        some = np.linspace(0, frame.n_users - 1, min(frame.n_users, _BLOCK)).astype(np.int64)
        asked = csr_array(matrix[some])
        scaled = [(each, weight / spread_of(each, asked)) for each, weight in maps]

        def summed(rows: csr_array) -> FloatArray:
            found: FloatArray = np.sum(
                [np.float32(weight) * each.mapped(rows) for each, weight in scaled], axis=0
            )
            return found

        with threadpool_limits(limits=context.threads, user_api="blas"):
            return ItemKnn(self.name, *nearest(summed, frame.n_items, self.config.neighbours))


def spread_of(of: ItemMap, asked: csr_array) -> float:
    """Give the mean deviation of people's scores of what they have not acted on."""
    scores = of.mapped(asked)
    scores[asked.nonzero()] = 0.0
    return float(scores.std(axis=1).mean()) + 1e-12


def nearest(
    mapped: Callable[[csr_array], FloatArray], n_items: int, most: int
) -> tuple[NDArray[np.int32], FloatArray]:
    """Keep the best positive targets of each item, itself left out: [n_items, k], best first."""
    k = min(most, max(n_items - 1, 1))
    identity = csr_array(eye_array(n_items, dtype=np.float32, format="csr"))
    items = np.full((n_items, k), -1, dtype=np.int32)
    values = np.zeros((n_items, k), dtype=np.float32)
    for start in range(0, n_items, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n_items))
        scores = mapped(csr_array(identity[rows]))
        scores[np.arange(len(rows)), rows] = -np.inf
        best = top_k(scores, k)
        found = np.take_along_axis(scores, best, axis=1)
        there = found > 0.0
        items[rows], values[rows] = np.where(there, best, -1), np.where(there, found, 0.0)
    return items, values

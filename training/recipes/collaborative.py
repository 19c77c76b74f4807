"""Implicit ALS and item-kNN."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_array, csr_matrix
from threadpoolctl import threadpool_limits

from contracts.order import largest
from models.base import FloatArray, TrainingContext, TrainingFrame
from models.collaborative import FactorModel
from models.neighbours import ItemKnn
from training.recipes.base import user_item_matrix

_BLOCK: int = 1024


class AlsConfig(BaseModel):
    """Choices of implicit ALS (Hu, Koren, Volinsky, ICDM 2008)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: int = Field(default=64, ge=2)
    regularization: float = Field(default=5.0, ge=0)
    alpha: float = Field(default=2.0, gt=0)
    """Confidence of an action is 1 + alpha * strength."""
    iterations: int = Field(default=15, ge=1)


@dataclass(frozen=True, slots=True)
class AlsRecipe:
    """Factorise confidences; viewers are folded in by the same normal equations."""

    config: AlsConfig = field(default_factory=AlsConfig)
    name: str = "als"
    start: FloatArray | None = None
    """Item factors [n_items, factors] to begin from, NaN for items that have none yet."""

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> FactorModel:
        """Alternate least squares, seeded."""
        matrix = user_item_matrix(frame)
        known = matrix.sum(axis=0) > 0
        confidence = csr_matrix(matrix)
        confidence.data = (1.0 + self.config.alpha * confidence.data).astype(np.float32)
        # implicit runs its own threads; BLAS threads below them cost 20 times the time.
        with threadpool_limits(limits=1, user_api="blas"):
            learner = AlternatingLeastSquares(
                factors=self.config.factors,
                regularization=self.config.regularization,
                alpha=1.0,
                iterations=self.config.iterations,
                num_threads=context.threads,
                random_state=context.seed,
            )
            if self.start is not None:
                # People are solved from these first, then items: a new one's 0 is never kept.
                learner.item_factors = np.nan_to_num(self.start, nan=0.0)
            learner.fit(confidence, show_progress=False)
        return FactorModel.from_factors(
            self.name,
            np.asarray(learner.item_factors),
            np.asarray(known),
            self.config.regularization,
            self.config.alpha,
        )


class ItemKnnConfig(BaseModel):
    """Choices of item-kNN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(default=50, ge=1)
    shrinkage: float = Field(default=20.0, ge=0)
    """Added to the number of common people that a similarity must outgrow."""


@dataclass(frozen=True, slots=True)
class ItemKnnRecipe:
    """Compare items by who acted on both."""

    config: ItemKnnConfig = field(default_factory=ItemKnnConfig)
    name: str = "item_knn"

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> ItemKnn:
        """Keep each item's most similar items, in blocks of rows."""
        del context
        matrix = user_item_matrix(frame)
        matrix.data = np.ones_like(matrix.data)
        people = np.asarray(matrix.sum(axis=0), dtype=np.float32)  # [n_items]
        k = min(self.config.neighbours, max(frame.n_items - 1, 1))
        rows = np.full((frame.n_items, k), -1, dtype=np.int32)
        values = np.zeros((frame.n_items, k), dtype=np.float32)
        columns = csr_array(matrix.T)
        for start in range(0, frame.n_items, _BLOCK):
            block = slice(start, min(start + _BLOCK, frame.n_items))
            common = csr_array(columns[block] @ matrix)  # sparse: most items share nobody
            common.sort_indices()
            mine = np.repeat(np.arange(block.start, block.stop), np.diff(common.indptr))
            similar = common.data.astype(np.float32)
            shrunk = similar / (similar + np.float32(max(self.config.shrinkage, 1e-9)))
            similar *= shrunk / np.sqrt(people[mine] * people[common.indices])
            similar[common.indices == mine] = -np.inf
            common.data = similar
            _keep_best(common, rows[block], values[block])
        return ItemKnn(self.name, rows, values)


def _keep_best(common: csr_array, rows: NDArray[np.int32], values: FloatArray) -> None:
    """Write each row's most similar columns into `rows` and `values` [n, k], best first, ties by
    column; -inf is left out."""
    k = rows.shape[1]
    for row, (start, stop) in enumerate(pairwise(common.indptr.tolist())):
        own, items = common.data[start:stop], common.indices[start:stop]
        order = largest(own, k)
        order = order[np.isfinite(own[order])]
        rows[row, : len(order)], values[row, : len(order)] = items[order], own[order]

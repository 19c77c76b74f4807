"""Members in the space of a large, sparse matrix: graph filter, ridge, people alike."""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array, diags_array

from models.base import FloatArray, IntArray, TrainingContext
from training.metrics import top_k
from training.protocols.exam import blocks, taken
from training.protocols.members import unit_rows
from training.protocols.split import Split, binary
from training.recipes.spectral import (
    FilterConfig,
    FilterMap,
    ItemMap,
    RidgeConfig,
    RidgeMap,
    Spectrum,
    item_people,
    normalised,
    person_items,
    unit_vectors,
)


def histories(split: Split, people: IntArray) -> csr_array:
    """Mark what is known of people when they are asked: [Q, items]."""
    return binary(taken(split.asked, people), split.n_items)


def directions(split: Split, rank: int = 64, seed: int = 0) -> FloatArray:
    """Give items a direction each, so that items of the same people lie together: [items, rank]."""
    spectrum = Spectrum.of(normalised(split.matrix()), rank, TrainingContext(seed))
    return unit_vectors(spectrum.vectors * (item_people(split.matrix()) ** -0.5)[:, None])


@dataclass(frozen=True, slots=True)
class MapScores:
    """A history through a map of items."""

    map: ItemMap

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: any history can be asked."""
        return self.map.mapped(histories(split, people))


@dataclass(frozen=True, slots=True)
class GraphFilter:
    """See `FilterMap`."""

    name: str = "filter"
    config: FilterConfig = field(default_factory=FilterConfig)

    def fit(self, split: Split, context: TrainingContext) -> MapScores:
        """Decompose the normalised graph."""
        return MapScores(FilterMap.fit(split.matrix(), self.config, context))


@dataclass(frozen=True, slots=True)
class SpectralEase:
    """See `RidgeMap`."""

    name: str = "ease"
    config: RidgeConfig = field(default_factory=RidgeConfig)

    def fit(self, split: Split, context: TrainingContext) -> MapScores:
        """Decompose the scaled matrix."""
        return MapScores(RidgeMap.fit(split.matrix(), self.config, context))


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
            best = top_k(np.where(cosine > 0.0, cosine, -np.inf), most)
            near.append(np.maximum(best, 0).ravel().astype(np.int32))
            found = np.where(best < 0, 0.0, np.take_along_axis(cosine, best, axis=1))
            alike.append(found.ravel())
        offsets = np.arange(0, split.n_people * most + 1, most)
        square = (split.n_people, split.n_people)
        graph = csr_array((np.concatenate(alike), np.concatenate(near), offsets), shape=square)
        items = person_items(matrix)
        return Alike(graph, csr_array(diags_array(items**-self.brevity) @ matrix))

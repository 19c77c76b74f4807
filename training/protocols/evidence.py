"""What speaks for an item, seen from a person's own items and from the people around them.

A blend knows each member's sum over a whole history. Here are the strongest single reasons: the
closest of a person's items, the nearest of the people who acted on it.
"""

from typing import Final

import numpy as np
from scipy.sparse import csr_array

from models.base import FloatArray, IntArray, TrainingContext
from training.protocols.spectral import UserKnn
from training.protocols.split import Split, binary
from training.recipes.spectral import (
    Spectrum,
    item_people,
    normalised,
    person_items,
    unit_vectors,
)

COLUMNS: Final = 17
_SHARP: Final = np.float32(20.0)
"""Similarities are small: log(1 + 20 x) tells them apart."""


class Evidence:
    """Describes pairs of people and items from what a split lets be learned."""

    def __init__(self, split: Split, context: TrainingContext, rank: int = 256) -> None:
        matrix = split.matrix()
        self._history = binary(split.asked, split.n_items)
        self._counts = item_people(matrix)
        self._people = csr_array(matrix.T)
        self._matrix = matrix
        self._near = UserKnn().fit(split, context).near
        spectrum = Spectrum.of(normalised(matrix), rank, context)
        vectors = spectrum.vectors * np.sqrt(spectrum.values).astype(np.float32)
        self._items = unit_vectors(vectors)
        self._viewers = unit_vectors(matrix @ (spectrum.vectors * (self._counts**-0.5)[:, None]))
        self._brevity = person_items(matrix) ** -0.5

    def of(self, people: IntArray, items: IntArray) -> FloatArray:
        """Describe each person's items, [Q, C] to [Q, C, 17]; -1 is no item."""
        found = np.zeros((*items.shape, COLUMNS), dtype=np.float32)
        for row, person in enumerate(people.tolist()):
            some = items[row] >= 0
            if some.any():
                found[row, some] = self._one(person, items[row, some])
        return found

    def _one(self, person: int, items: IntArray) -> FloatArray:
        history = self._history.indices[slice(*self._history.indptr[person : person + 2])]
        near = slice(*self._near.indptr[person : person + 2])
        weight = self._near.data[near].astype(np.float32)
        theirs = self._matrix[self._near.indices[near]][:, items].toarray() * weight[:, None]
        columns = [
            *self._items_like(history, items),
            *_strongest(theirs, 5),
            np.log1p((theirs > 0).sum(axis=0)),
            *self._people_of(person, items),
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _items_like(self, history: IntArray, items: IntArray) -> list[FloatArray]:
        """Compare with the items of the history: by people in common, and by direction."""
        if not len(history):
            return [np.zeros(len(items), dtype=np.float32)] * 10
        common = (self._people[history] @ self._people[items].T).toarray()
        follows = common / self._counts[history][:, None]
        cosine = common / np.sqrt(self._counts[history][:, None] * self._counts[items])
        close = np.sort(self._items[history] @ self._items[items].T, axis=0)[::-1]
        return [
            *_strongest(cosine, 5),
            *_strongest(follows, 5),
            np.log1p(_SHARP * follows.mean(axis=0)),
            close[0],
            close[:5].mean(axis=0),
            close.mean(axis=0),
        ]

    def _people_of(self, person: int, items: IntArray) -> list[FloatArray]:
        """Compare with the people who acted on each item: nearest, mean, and how short they are."""
        rows = self._people[items]
        counts = np.maximum(np.diff(rows.indptr), 1)
        if not len(rows.indices):
            return [np.zeros(len(items), dtype=np.float32)] * 3
        start = np.minimum(rows.indptr[:-1], len(rows.indices) - 1)
        alike = self._viewers[rows.indices] @ self._viewers[person]
        there = (np.diff(rows.indptr) > 0).astype(np.float32)
        return [
            np.maximum.reduceat(alike, start) * there,
            np.add.reduceat(alike, start) * there / counts,
            np.add.reduceat(self._brevity[rows.indices], start) * there / counts,
        ]


def _strongest(values: FloatArray, most: int) -> list[FloatArray]:
    """Give the largest, the second, and the mean of the largest few of each column."""
    if len(values) > most:
        values = np.partition(values, -most, axis=0)[-most:]
    ordered = np.log1p(_SHARP * np.sort(values, axis=0)[::-1])
    return [ordered[0], ordered[min(1, len(ordered) - 1)], ordered.mean(axis=0)]

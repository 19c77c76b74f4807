"""Windows over each person's actions, as the deep family's training batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.base import BoolArray, IntArray, Interactions


@dataclass(frozen=True, slots=True)
class Sequences:
    """Distinct items of each person in the order of their first action."""

    items: IntArray
    """[n]."""
    types: NDArray[np.int8]
    """[n]: the strongest action on the item."""
    starts: IntArray
    """[people]: where each person begins; people with one item or none are left out."""
    stops: IntArray
    """[people]."""

    def shorten(self, people: IntArray, by: IntArray) -> "Sequences":
        """Hold the last `by` items of some people out."""
        stops = self.stops.copy()
        stops[people] -= by
        return Sequences(self.items, self.types, self.starts, stops)


def merge_repeats(actions: Interactions, n_items: int) -> Interactions:
    """Keep each person's first action on an item, at the strongest type; people ascending."""
    keys = actions.user_rows * max(n_items, 1) + actions.item_rows
    place = np.arange(len(keys))
    order = np.lexsort((place, keys))
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[order][1:] != keys[order][:-1]
    strength = np.lexsort((actions.weights, keys))
    last = np.append(first[1:], True) if len(keys) else first
    strongest = actions.types[strength][last]  # one a key, keys ascending
    kept = place[order][first]  # one a key, keys ascending
    by_time = np.argsort(kept, kind="stable")
    rows = kept[by_time]
    return Interactions(
        actions.user_rows[rows], actions.item_rows[rows], actions.times_us[rows], strongest[by_time]
    )


def make_sequences(merged: Interactions) -> Sequences:
    """Lay people's merged actions one after the other."""
    _, starts, counts = np.unique(merged.user_rows, return_index=True, return_counts=True)
    enough = counts >= 2
    return Sequences(merged.item_rows, merged.types, starts[enough], (starts + counts)[enough])


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of B people: inputs flush right, and a target at each place."""

    items: IntArray
    """[B, L]."""
    types: NDArray[np.int8]
    """[B, L]."""
    valid: BoolArray
    """[B, L]."""
    targets: IntArray
    """[B, L]: an item that the person acts on soon after this place."""


def epoch_batches(
    sequences: Sequences,
    window: int,
    horizon: int,
    batch: int,
    generator: np.random.Generator,
    most: int | None = None,
) -> Iterator[Batch]:
    """Cut every sequence into windows at random offsets, shuffle them, and yield batches of `most`.

    Each target is drawn from the next `horizon` items, because a feed shows many posts at once
    (dense all-action loss; Pancha et al.: PinnerFormer, KDD 2022).
    """
    lengths = sequences.stops - sequences.starts - 1  # places that have a target
    offset = generator.integers(0, window, len(lengths))
    pieces = (lengths + offset + window - 1) // window
    owner = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    ends = np.minimum((number + 1) * window - offset[owner], lengths[owner])  # exclusive
    useful = ends > 0
    owner, ends = owner[useful], ends[useful]
    order = generator.permutation(len(owner))[:most]
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        yield _windows(sequences, owner[part], ends[part], (window, horizon), generator)


def _windows(
    sequences: Sequences,
    owner: IntArray,
    ends: IntArray,
    shape: tuple[int, int],
    generator: np.random.Generator,
) -> Batch:
    window, horizon = shape
    begin = sequences.starts[owner][:, None]
    place = ends[:, None] - np.arange(window, 0, -1)[None, :]  # within the sequence
    valid = place >= 0
    source = begin + np.maximum(place, 0)
    left = sequences.stops[owner][:, None] - 1 - source  # items after this place
    reach = np.minimum(left, horizon)
    ahead = 1 + (generator.random(source.shape) * reach).astype(np.int64)
    return Batch(
        sequences.items[source],
        sequences.types[source],
        valid,
        sequences.items[source + np.minimum(ahead, np.maximum(left, 0))],
    )

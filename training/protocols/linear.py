"""A linear sequential map: the next item from a decayed history, in closed form."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, diags_array

from models.base import FloatArray, IntArray, TrainingContext
from training.dataset import Ragged
from training.protocols.members import (
    decayed,
    decayed_rows,
    inverted,
    row_normalised,
    solved,
)
from training.protocols.split import Split
from training.recipes.spectral import item_people


@dataclass(frozen=True, slots=True)
class MapScores:
    """(history P) Q less the diagonal: [Q, n_items]."""

    inverse: FloatArray
    """P [n, n]"""
    joint: csr_array
    """Q transposed, [n, n]."""
    diagonal: FloatArray
    """[n]: what makes the map's diagonal 0."""
    decay: float
    newest: int

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: any history can be asked."""
        spread = decayed(split, people, self.decay, self.newest) @ self.inverse
        found: FloatArray = (self.joint @ spread.T).T - spread * self.diagonal
        return found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class LinearSequence:
    """Ridge regression from decayed contexts to the next item, its diagonal held at 0.

    EASE's closed form (Steck, WWW 2019) over places of sequences in place of people, with
    co-occurrence of whole histories added on both sides.
    """

    name: str = "linear_sequence"
    ridge: float = 60.0
    decay: float = 0.7
    """Weight of an item a place further back, when fitting."""
    asked_decay: float = 0.5
    """The same, when asked."""
    together: float = 3.0
    """Weight of co-occurrence, each person's counted as one."""
    newest: int = 20

    def fit(self, split: Split, context: TrainingContext) -> MapScores:
        """Invert the Gram matrix of contexts, [n, n]."""
        inputs, targets = contexts(split.learned, split.n_items, self.decay, self.newest)
        matrix = split.matrix()
        pairs = csr_array(matrix.T @ row_normalised(matrix)) * np.float32(self.together)
        gram = (csr_array(inputs.T @ inputs) + pairs).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.ridge
        inverse = inverted(gram, context.threads).astype(np.float32)
        del gram
        apart = csr_array(pairs - diags_array(pairs.diagonal()))
        joint = csr_array((csr_array(inputs.T @ targets) + apart).T)  # [target, source]
        joint.eliminate_zeros()
        own = np.array(
            [
                joint.data[a:b] @ inverse[joint.indices[a:b], row]
                for row, (a, b) in enumerate(
                    zip(joint.indptr[:-1].tolist(), joint.indptr[1:].tolist(), strict=True)
                )
            ],
            dtype=np.float32,
        )
        diagonal = own / inverse.diagonal()
        return MapScores(inverse, joint.astype(np.float32), diagonal, self.asked_decay, self.newest)


def contexts(lists: Ragged, n_items: int, decay: float, newest: int) -> tuple[csr_array, csr_array]:
    """Lay out each place after the first: decayed items before it, and the item there.

    Both [places, n_items].
    """
    first = np.repeat(lists.offsets[:-1], lists.lengths)
    target = np.flatnonzero(np.arange(len(lists.values)) > first)
    inputs = decayed_rows(lists, np.maximum(first[target], target - newest), target, decay, n_items)
    ones = np.ones(len(target), dtype=np.float32)
    wanted = lists.values[target].astype(np.int32)
    shape = (len(target), n_items)
    return inputs, csr_array((ones, wanted, np.arange(len(target) + 1)), shape=shape)


@dataclass(frozen=True, slots=True)
class InverseScores:
    """A decayed history times EASE's weights, -P / diag(P)."""

    inverse: FloatArray
    decay: float

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: any history can be asked."""
        history = decayed(split, people, self.decay, 1000)
        found: FloatArray = -(history @ self.inverse) / self.inverse.diagonal()
        return found


@dataclass(frozen=True, slots=True)
class DecayedEase:
    """EASE (Steck, WWW 2019) through its items, asked with a history that fades."""

    name: str = "ease_decayed"
    ridge: float = 300.0
    decay: float = 0.97

    def fit(self, split: Split, context: TrainingContext) -> InverseScores:
        """Invert the Gram matrix of items, [n, n]."""
        matrix = split.matrix()
        gram = csr_array(matrix.T @ matrix).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.ridge
        return InverseScores(inverted(gram, context.threads).astype(np.float32), self.decay)


@dataclass(frozen=True, slots=True)
class BankScores:
    """Histories decayed at several paces, side by side, times one map."""

    weights: FloatArray
    """[paces x n, n]"""
    paces: tuple[tuple[float, int], ...]
    popularity: FloatArray
    """[n]: what scores are divided by."""

    def scores(self, split: Split, people: IntArray) -> FloatArray:
        """See `Fitted`: any history can be asked."""
        n = split.n_items
        total = np.zeros((len(people), n), dtype=np.float32)
        for number, (decay, lags) in enumerate(self.paces):
            history = decayed(split, people, decay, 4 * lags)
            total += history @ self.weights[number * n : (number + 1) * n]
        return total / self.popularity


@dataclass(frozen=True, slots=True)
class LinearBank:
    """Ridge regression from histories decayed at several paces to the next item.

    A place counts length^-power of its history. The Gram matrix of all places is built lag by
    lag: items k apart meet at every later place, a geometric sum.
    """

    name: str = "linear_bank"
    paces: tuple[tuple[float, int], ...] = ((0.6, 10), (0.93, 50))
    """Decay a place, and how far back it reaches."""
    ridges: tuple[float, ...] = (600.0, 1200.0)
    power: float = 0.5
    damping: float = 0.15
    """Scores are divided by (people + 5)^damping."""

    def fit(self, split: Split, context: TrainingContext) -> BankScores:
        """Solve the normal equations, [paces x n, n]."""
        gram, joint = self._moments(split)
        lengths = split.learned.lengths.astype(np.float64)
        lengths = lengths[lengths > 0]
        scale = float((lengths ** (1 - self.power)).sum() / lengths.sum())
        ridge = np.repeat(np.array(self.ridges) * scale, split.n_items)
        gram[np.diag_indices_from(gram)] += ridge.astype(np.float32)
        weights = solved(gram, joint, context.threads)
        popularity = (item_people(split.matrix()) + 5.0) ** self.damping
        return BankScores(weights, self.paces, popularity.astype(np.float32))

    def _moments(self, split: Split) -> tuple[FloatArray, FloatArray]:
        """Give the Gram matrix of contexts and their products with targets, both float32."""
        lists, n, count = split.learned, split.n_items, len(self.paces)
        gram = np.zeros((count, n, count, n), dtype=np.float32)
        joint = np.zeros((count, n, n), dtype=np.float32)
        owner = lists.owners
        weight = lists.lengths[owner].astype(np.float64) ** -self.power
        later = lists.offsets[owner + 1] - 1 - np.arange(len(owner))  # items after this one
        for gap in range(max(lags for _, lags in self.paces) + 1):
            same = owner[: len(owner) - gap] == owner[gap:]
            old, new = lists.values[: len(owner) - gap][same], lists.values[gap:][same]
            keys, counted, left = old * n + new, weight[gap:][same], later[gap:][same]
            for i, (decay, lags) in enumerate(self.paces):
                if gap > lags:
                    continue
                if gap:
                    joint[i] += _spread(keys, counted * decay ** (gap - 1), n)
                for j, (other, _) in enumerate(self.paces):
                    both = decay * other
                    sums = _spread(keys, counted * decay**gap * (1 - both**left) / (1 - both), n)
                    gram[i, :, j, :] += sums
                    if gap:
                        gram[j, :, i, :] += sums.T
        return gram.reshape(count * n, count * n), joint.reshape(count * n, n)


def _spread(keys: IntArray, weights: FloatArray, n: int) -> FloatArray:
    summed = np.bincount(keys, weights=weights, minlength=n * n).reshape(n, n)
    return summed.astype(np.float32)

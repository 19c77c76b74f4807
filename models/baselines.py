"""The floors that every model must clear: popularity and chance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from contracts.ids import hash63
from contracts.seeds import unit_interval
from models.base import FloatArray, ItemHistories
from models.storage import read_state, write_state


@dataclass(frozen=True, slots=True)
class Popularity:
    """The same order for everybody: how much people acted on each item, decayed or not."""

    name: str
    scores: FloatArray
    """[n_items]."""

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Give every viewer the same scores, [Q, n_items]."""
        return np.tile(self.scores, (len(histories), 1))

    def save(self, folder: Path) -> None:
        """Write the scores."""
        write_state(folder, {"name": self.name}, {"scores": self.scores})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, arrays = read_state(folder)
        return cls(state["name"], arrays["scores"])


@dataclass(frozen=True, slots=True)
class RandomOrder:
    """Chance, seeded: the same history gets the same order."""

    name: str
    n_items: int
    seed: int

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Draw uniform scores, [Q, n_items]."""
        items = np.arange(self.n_items, dtype=np.int64)
        rows = [
            unit_interval(hash63(self.seed, history.tobytes()), items, "random")
            for history in histories.rows
        ]
        return np.array(rows, dtype=np.float32).reshape(len(histories), self.n_items)

    def save(self, folder: Path) -> None:
        """Write size and seed."""
        state = {"name": self.name, "n_items": self.n_items, "seed": self.seed}
        write_state(folder, state, {})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, _ = read_state(folder)
        return cls(state["name"], state["n_items"], state["seed"])

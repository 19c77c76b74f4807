"""Columns side by side: what a data class of arrays does with the rows that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Columns:
    """Base of data classes whose fields are arrays, or columns themselves, with the same rows."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, at: slice | NDArray[Any]) -> Self:
        return type(self)(*(getattr(self, f.name)[at] for f in fields(self)))

    @classmethod
    def merged(cls, parts: Sequence[Self]) -> Self:
        """Put the rows of several parts, of which there is at least one, after each other."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

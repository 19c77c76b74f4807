"""Rows as they come from a file: columns of text, and for each row its line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Kind(StrEnum):
    """The four files."""

    PEOPLE = "people"
    POSTS = "posts"
    FOLLOWS = "follows"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that gives no row."""

    line: int
    reason: str
    raw: str


@dataclass(slots=True)
class RowBatch:
    """Some rows; every column has the length of `lines`.

    A column is string, list of string, or timestamp (Parquet only); absent values are null.
    """

    columns: dict[str, pa.Array]
    lines: NDArray[np.int64]
    broken: list[Broken] = field(default_factory=list)
    done: float = 0.0
    """Share of the file read so far, 0 to 1."""

    def row(self, index: int) -> dict[str, object]:
        """Give one row as it was read, for the reject file."""
        return {name: _plain(column[index]) for name, column in self.columns.items()}


class Rows(Protocol):
    """A file whose rows can be read once, in batches."""

    columns: list[str]
    """Names of the columns; JSON lines may bring more later."""

    def batches(self) -> Iterator[RowBatch]:
        """Read on; InvalidInput where the file as a whole cannot be read."""
        ...


@dataclass(slots=True)
class Source:
    """Rows of one kind, in the column names of `columns`, ready to be loaded."""

    kind: Kind
    name: str
    """File name, for reports and the reject file."""
    batches: Iterable[RowBatch]
    time_unit: str | None = None
    """Unit of epoch numbers where the caller knows it: s, ms or us."""
    words: dict[str, str] = field(default_factory=dict)
    """A word of the file's type column -> a word of ours."""
    notes: list[str] = field(default_factory=list)
    """What was found out about columns while reading."""


def _plain(value: pa.Scalar) -> object:
    """Give a value for the reject file; a moment that Python cannot name by its number."""
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return int(value.value)


def text_array(values: list[object]) -> pa.Array:
    """Make a string or list-of-string column of Python values; other values become their text."""
    if any(isinstance(value, list) for value in values):
        return pa.array([_text_list(value) for value in values], pa.list_(pa.string()))
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text_list(value: object) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return [_text(item) for item in value if item is not None]
    return [_text(value)]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return value if isinstance(value, str) else str(value)

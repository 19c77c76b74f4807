"""From a folder, four flags and a mapping to sources of rows with known column names."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from contracts.errors import InvalidInput, NotFound
from pipelines.ingestion.columns import ColumnTable, check_required, match_columns
from pipelines.ingestion.mapping import KindMapping, empty_mapping
from pipelines.ingestion.mapping import Mapping as FileMapping
from pipelines.ingestion.readers import ENDINGS, open_rows
from pipelines.ingestion.rows import Kind, RowBatch, Rows, Source

SplitKind = Literal["time", "month", "order"]


class ColumnChoice(NamedTuple):
    """Which column a field comes from, for the table that is shown."""

    file: str
    field: str
    column: str
    how: str


@dataclass(slots=True)
class Dataset:
    """What one ingest reads, and what is known about it as a whole."""

    name: str
    sources: list[Source]
    adapter: str = "files"
    split: SplitKind = "time"
    """How to split it for evaluation: by time, by whole months, or by each person's order."""
    licence: str | None = None
    notes: list[str] = field(default_factory=list)
    columns: list[ColumnChoice] = field(default_factory=list)
    unused: dict[str, list[str]] = field(default_factory=dict)
    """File -> columns that no field takes."""


def plain_dataset(
    folder: Path | None, files: Mapping[Kind, Path], mapping: FileMapping | None = None
) -> Dataset:
    """Open people, posts, follows and events, of a folder or named one by one (these win).

    NotFound or InvalidInput says which file or column is missing.
    """
    mapping = empty_mapping() if mapping is None else mapping
    chosen = {kind: _choose(kind, folder, files, mapping) for kind in Kind}
    found = {kind: path for kind, path in chosen.items() if path is not None}
    if not found:
        where = "no file was named" if folder is None else f"{folder} has none of the four files"
        names = ", ".join(Kind)
        raise NotFound(where, hint=f"files are called {names} and end in {', '.join(ENDINGS)}")
    for kind in Kind:
        if kind not in found and (mapping[kind].columns or mapping[kind].constants):
            msg = f"columns are named for {kind.value}, but there is no file of {kind.value}"
            raise InvalidInput(msg, hint=f"name it with --{kind.value}, or leave them out")
    name = folder.resolve().name if folder is not None else next(iter(found.values())).stem
    dataset = Dataset(name, [])
    for kind, path in found.items():
        dataset.sources.append(_source(dataset, kind, path, mapping[kind]))
    return dataset


def _choose(
    kind: Kind, folder: Path | None, files: Mapping[Kind, Path], mapping: FileMapping
) -> Path | None:
    named = files.get(kind) or mapping[kind].file
    if named is not None or folder is None:
        return named
    if not folder.is_dir():
        msg = f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist"
        raise NotFound(msg, hint="name a folder, or files with --people, --posts, --events")
    paths = [folder / f"{kind.value}{ending}" for ending in ENDINGS]
    present = [path for path in paths if path.exists()]
    if len(present) > 1:
        both = " and ".join(path.name for path in present)
        raise InvalidInput(f"{folder} has {both}", hint=f"name one of them with --{kind.value}")
    return present[0] if present else None


def _source(dataset: Dataset, kind: Kind, path: Path, mapping: KindMapping) -> Source:
    rows = open_rows(path)
    table = match_columns(kind, rows.columns, mapping.columns)
    check_required(path.name, kind, rows.columns, {**table, **mapping.constants})
    dataset.columns += [ColumnChoice(path.name, f, c, how) for f, (c, how) in table.items()]
    dataset.columns += [
        ColumnChoice(path.name, name, f"= {value}", "constant")
        for name, value in mapping.constants.items()
    ]
    used = {column for column, _ in table.values()}
    dataset.unused[path.name] = [name for name in rows.columns if name not in used]
    notes: list[str] = []
    names = _Names(kind, rows.columns, table, mapping, notes)
    batches = _renamed(rows, names, mapping.constants)
    return Source(kind, path.name, batches, mapping.time_unit, mapping.words, notes)


class _Names:
    """Which column is which field; JSON lines may bring more columns as they are read."""

    def __init__(
        self,
        kind: Kind,
        columns: Sequence[str],
        table: ColumnTable,
        mapping: KindMapping,
        notes: list[str],
    ) -> None:
        self._kind = kind
        self._columns = list(columns)
        self._chosen = {**{name: column for name, (column, _) in table.items()}, **mapping.columns}
        self._constants = mapping.constants
        self._notes = notes
        self.fields = {column: name for name, column in self._chosen.items()}
        """Column -> field."""

    def see(self, columns: Iterable[str]) -> None:
        """Guess what columns that were not met before are, and note it."""
        new = [name for name in columns if name not in self._columns]
        if not new:
            return
        self._columns += new
        for field_name, (column, _) in match_columns(
            self._kind, self._columns, self._chosen
        ).items():
            if field_name not in self._chosen and field_name not in self._constants:
                self._chosen[field_name] = column
                self.fields[column] = field_name
                self._notes.append(f"{field_name} from {column}, first met below the first lines")


def _renamed(rows: Rows, names: _Names, constants: Mapping[str, str]) -> Iterator[RowBatch]:
    """Give the columns their fields' names; other columns keep theirs where it is free."""
    for batch in rows.batches():
        names.see(batch.columns)
        by_column = names.fields
        fields = {*by_column.values(), *constants}
        columns = {}
        for name, column in batch.columns.items():
            new = by_column.get(name, f"{name} (unused)" if name in fields else name)
            if new not in constants:
                columns[new] = column
        for name, value in constants.items():
            columns[name] = pa.repeat(pa.scalar(value), len(batch.lines))
        yield RowBatch(columns, batch.lines, batch.broken, batch.done)


def batch_of(columns: Mapping[str, Sequence[object] | pa.Array], lines: Sequence[int]) -> RowBatch:
    """Make one batch of Python columns, for adapters."""
    arrays = {
        name: values if isinstance(values, pa.Array) else pa.array(values)
        for name, values in columns.items()
    }
    return RowBatch(arrays, np.asarray(lines, dtype=np.int64), [], 1.0)

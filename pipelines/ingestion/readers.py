"""Opening a file of rows by its ending: JSON lines and Parquet here, CSV in `csv_rows`."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.errors import InvalidInput, NotFound
from pipelines.ingestion.csv_rows import BOM, CsvRows
from pipelines.ingestion.rows import Broken, RowBatch, Rows, text_array

ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

_JSON_BATCH: Final = 100_000
_PARQUET_BATCH: Final = 262_144
_SAMPLE_LINES: Final = 1_000
_INEXACT: Final = 2.0**63


def open_rows(path: Path) -> Rows:
    """Open a file; NotFound, or InvalidInput that says what is wrong with it as a whole."""
    if not path.is_file():
        msg = f"{path} is not a file" if path.exists() else f"{path} does not exist"
        raise NotFound(msg, hint="check the path; relative paths start at the working folder")
    if path.stat().st_size == 0:
        msg = f"{path.name} is empty"
        raise InvalidInput(msg, hint="it should have a header line, or a JSON object a line")
    readers: dict[str, Callable[[Path], Rows]] = {
        ".csv": CsvRows,
        ".tsv": CsvRows,
        ".jsonl": JsonRows,
        ".ndjson": JsonRows,
        ".parquet": ParquetRows,
    }
    if path.suffix in readers:
        return readers[path.suffix](path)
    msg = f"{path.name} has an ending that is not known"
    hint = f"files end in {', '.join(ENDINGS)}"
    if path.suffix in {".gz", ".zip", ".bz2", ".zst", ".xz"}:
        hint = f"unpack it first; {hint}"
    elif path.suffix == ".json":
        hint = "write one JSON object a line and call it .jsonl"
    raise InvalidInput(msg, hint=hint)


class JsonRows:
    """One JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            head = [_parse(line) for line in islice(file, _SAMPLE_LINES)]
        objects = [row for row in head if isinstance(row, dict)]
        if not objects and any(row is not None for row in head):
            msg = f"{path.name} holds no JSON object in its first {len(head)} lines"
            raise InvalidInput(msg, hint="write one JSON object a line, not one array")
        self.columns = list(dict.fromkeys(name for row in objects for name in row))

    def batches(self) -> Iterator[RowBatch]:
        size, position, line = self._path.stat().st_size, 0, 0
        with self._path.open("rb") as file:
            while raw := list(islice(file, _JSON_BATCH)):
                position += sum(map(len, raw))
                yield _json_batch(raw, line + 1, position / size)
                line += len(raw)


def _json_batch(raw: list[bytes], first_line: int, done: float) -> RowBatch:
    rows: list[dict[str, object]] = []
    lines: list[int] = []
    broken: list[Broken] = []
    for line, text in enumerate(raw, first_line):
        row = _parse(text)
        if isinstance(row, dict):
            rows.append(row)
            lines.append(line)
        elif row is not None:
            broken.append(Broken(line, row, text.decode(errors="replace").rstrip("\r\n")))
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: text_array([row.get(name) for row in rows]) for name in names}
    return RowBatch(columns, np.array(lines, dtype=np.int64), broken, done)


def _parse(text: bytes) -> dict[str, object] | str | None:
    """Give the object of a line, or what is wrong with the line; None where it is blank."""
    text = text.removeprefix(BOM)
    if not text or text.isspace():
        return None
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}"
    if not isinstance(row, dict):
        return f"not a JSON object but {type(row).__name__}"
    if any(isinstance(value, float) and abs(value) >= _INEXACT for value in row.values()):
        exact: dict[str, object] = json.loads(text)  # orjson rounds whole numbers beyond 64 bits
        return exact
    return row


class ParquetRows:
    """A Parquet file; `line` is the row number, from 1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                self._rows = file.metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            msg = f"{path.name} is not a Parquet file: {error}"
            raise InvalidInput(msg, hint="write it again, or give it its right ending") from error
        for field in schema:
            if not _readable(field.type):
                msg = f"column {field.name} of {path.name} is {field.type}"
                hint = "columns are text, numbers, times, or lists of text"
                raise InvalidInput(msg, hint=hint)
        self.columns = list(schema.names)

    def batches(self) -> Iterator[RowBatch]:
        first = 1
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                lines = np.arange(first, first + batch.num_rows)
                first += batch.num_rows
                columns = {
                    name: _parquet_column(batch.column(k)) for k, name in enumerate(self.columns)
                }
                yield RowBatch(columns, lines, [], (first - 1) / max(self._rows, 1))


def _readable(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return _readable(kind.value_type) and not types.is_nested(kind.value_type)
    if types.is_dictionary(kind):
        return _readable(kind.value_type)
    return not types.is_nested(kind)


def _parquet_column(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _parquet_column(column.dictionary_decode())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return column.cast(pa.list_(pa.string()))
    if pa.types.is_timestamp(kind) or pa.types.is_string(kind):
        return column
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("us"))
    return _words(column)


def _words(column: pa.Array) -> pa.Array:
    """Write numbers, flags and bytes as text."""
    kind = column.type
    if pa.types.is_floating(kind):
        return _float_column(column.cast(pa.float32()) if kind == pa.float16() else column)
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or kind == pa.large_binary():
        return _binary_column(column)
    return column.cast(pa.string())


def _binary_column(column: pa.Array) -> pa.Array:
    """Read bytes as text; where one value is none, all of them as hexadecimal digits."""
    values = column.to_pylist()
    try:
        return pa.array([None if v is None else v.decode() for v in values], pa.string())
    except UnicodeDecodeError:
        return pa.array([None if v is None else v.hex() for v in values], pa.string())


def _float_column(column: pa.Array) -> pa.Array:
    """Write whole numbers without a point: pandas turns ids with gaps into floats."""
    values = pc.if_else(pc.is_nan(column), None, column)
    if pc.all(pc.equal(pc.floor(values), values)).as_py() is not False:
        try:
            return values.cast(pa.int64()).cast(pa.string())
        except pa.ArrowInvalid:  # beyond 64 bits, or infinite
            pass
    return text_array(values.to_pylist())

"""Decision records in their three forms: a dictionary, a row of SQLite, a table of Arrow.

A list is a NumPy array in the dictionary, its little-endian bytes in SQLite, a typed list in Arrow.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from struct import pack
from typing import Any, Final

import numpy as np
import pyarrow as pa

Record = dict[str, Any]
Row = tuple[Any, ...]
"""What SQLite takes and gives: integers, floats, texts, bytes."""

DIGEST: Final = "digest"


def to_row(record: Mapping[str, Any], schema: pa.Schema) -> Row:
    """Turn a record into a row in the order of its schema, with its digest."""
    cells = {field.name: _cell(field, record[field.name]) for field in _digested(schema)}
    return (*cells.values(), digest_of(cells))


def from_row(row: Row, schema: pa.Schema) -> Record:
    """Read a record from a row."""
    return {field.name: _value(field, cell) for field, cell in zip(schema, row, strict=True)}


def record_digest(record: Mapping[str, Any], schema: pa.Schema) -> int:
    """Hash a record as it was read; differs from its `digest` where any byte has changed."""
    return digest_of({field.name: _cell(field, record[field.name]) for field in _digested(schema)})


def digest_of(cells: Mapping[str, Any]) -> int:
    """Hash the cells of a row, each with its name and length."""
    digest = blake2b(digest_size=8)
    for name, cell in cells.items():
        raw = _raw(cell)
        digest.update(f"{name}:{len(raw)}:".encode())
        digest.update(raw)
    return int.from_bytes(digest.digest(), "little", signed=True)


def table_of(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Turn rows into a table, a column at a time."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [_column(field, cells) for field, cells in zip(schema, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def records_of(table: pa.Table) -> Iterator[Record]:
    """Read the records of a table, lists without a detour over Python's numbers."""
    columns = {field.name: _cells(field, table.column(field.name)) for field in table.schema}
    for place in range(table.num_rows):
        yield {name: cells[place] for name, cells in columns.items()}


def _digested(schema: pa.Schema) -> list[pa.Field]:
    return [field for field in schema if field.name != DIGEST]


def _words(field: pa.Field) -> bool:
    return bool(pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type))


_FLOATS: Final = {pa.float16(): "f2", pa.float32(): "f4", pa.float64(): "f8"}


def _dtype(field: pa.Field) -> np.dtype[Any]:
    """Give NumPy's type of a list's values; integers have one name in both libraries."""
    inner = field.type.value_type
    return np.dtype(_FLOATS.get(inner, str(inner)))


def _cell(field: pa.Field, value: Any) -> Any:  # noqa: ANN401 - a cell is what SQLite takes
    if _words(field):
        return " ".join(value)
    if pa.types.is_list(field.type):
        return np.asarray(value, dtype=_dtype(field)).tobytes()
    return float(np.float32(value)) if pa.types.is_floating(field.type) else value


def _value(field: pa.Field, cell: Any) -> Any:  # noqa: ANN401
    if _words(field):
        return cell.split()
    return np.frombuffer(cell, _dtype(field)) if pa.types.is_list(field.type) else cell


def _raw(cell: Any) -> bytes:  # noqa: ANN401
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        return cell.encode()
    return pack("<f", cell) if isinstance(cell, float) else pack("<q", cell)


def _column(field: pa.Field, cells: Sequence[Any]) -> pa.Array:
    if _words(field):
        return pa.array([cell.split() for cell in cells], field.type)
    if not pa.types.is_list(field.type):
        return pa.array(cells, field.type)
    dtype = _dtype(field)
    ends = np.cumsum([0, *(len(cell) // dtype.itemsize for cell in cells)])
    values = pa.array(np.frombuffer(b"".join(cells), dtype=dtype), field.type.value_type)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, type=field.type)


def _cells(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    array = column.combine_chunks()
    if pa.types.is_timestamp(field.type):
        return array.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]
    if not pa.types.is_list(field.type) or _words(field):
        return array.to_pylist()  # type: ignore[no-any-return]
    values = array.flatten().to_numpy(zero_copy_only=False)
    ends = array.offsets.to_numpy()
    return [values[a:b] for a, b in pairwise((ends - ends[0]).tolist())]

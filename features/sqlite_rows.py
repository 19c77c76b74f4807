"""Arrow columns as SQLite stores them, and back: times and flags as integers, lists as bytes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from contracts.errors import SchemaMismatch


class Words(NamedTuple):
    """How errors speak of a table that does not fit its schema."""

    lacks: str
    should_have: str
    misfit: str


def fitted(table: pa.Table, schema: pa.Schema, words: Words) -> pa.Table:
    """Bring a table to a schema; SchemaMismatch names the column that does not fit."""
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        msg = f"{words.lacks} the columns {', '.join(missing)}"
        raise SchemaMismatch(msg, hint=f"{words.should_have} {', '.join(schema.names)}")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise SchemaMismatch(f"{words.misfit}: {error}") from error


def stored_columns(table: pa.Table) -> list[list[object]]:
    """Turn the columns of a table into what SQLite stores."""
    return [_stored(column) for column in table.columns]


def table_of(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    """Turn rows that SQLite gave into a table."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [_arrow(v, f.type) for f, v in zip(schema, columns, strict=True)]
    return pa.table(arrays, schema=schema)


def _stored(column: pa.ChunkedArray) -> list[object]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_list(column.type):
        return [np.asarray(ids, dtype="<i8").tobytes() for ids in column.to_pylist()]
    return list(column.to_pylist())


def _arrow(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(values, pa.int8()).cast(kind)
    if pa.types.is_list(kind):
        blobs = [value for value in values if isinstance(value, bytes)]
        ends = np.cumsum([0] + [len(blob) // 8 for blob in blobs], dtype=np.int32)
        items = np.frombuffer(b"".join(blobs), dtype="<i8")
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(items))
    return pa.array(values, kind)

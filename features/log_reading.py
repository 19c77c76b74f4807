"""Reading the event log: one committed snapshot of segments and outbox, scanned or tailed."""

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.errors import SchemaMismatch, Unavailable
from contracts.events import LOG_SCHEMA, EventType
from features.segments import Segment, integers_of, read_segment, sort_log
from features.sqlite_rows import table_of

Connection = sqlite3.Connection

_OUTBOX_COLUMNS: Final = ", ".join(LOG_SCHEMA.names)
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the log held at one moment; `outbox` is LOG_SCHEMA in log order."""

    root: Path
    segments: list[Segment]
    outbox: pa.Table


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a scan asks for; None means everything."""

    start_us: int | None = None
    end_us: int | None = None
    types: Collection[EventType] | None = None
    columns: Sequence[str] | None = None
    up_to_seq: int | None = None


def last_seq(connection: Connection) -> int:
    """Give the place of the newest event, 0 in an empty log."""
    sealed = connection.execute("SELECT MAX(max_seq) FROM segments").fetchone()[0]
    waiting = connection.execute("SELECT MAX(seq) FROM outbox").fetchone()[0]
    return max(sealed or 0, waiting or 0)


def in_outbox(connection: Connection, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell for each event id [n] whether it waits in the outbox."""
    if connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is None:
        return np.zeros(len(ids), dtype=np.bool_)
    rows = connection.execute(
        "SELECT event_id FROM outbox WHERE event_id IN (SELECT value FROM json_each(?))",
        (json.dumps(ids.tolist()),),
    ).fetchall()
    return np.isin(ids, np.array([row[0] for row in rows], dtype=np.int64))


def take_snapshot(
    connection: Connection, root: Path, after_seq: int = 0, limit: int | None = None
) -> Snapshot:
    """Read the segments and outbox rows after a place; the connection holds one committed state."""
    segments = [
        Segment(*row)
        for row in connection.execute(
            "SELECT path, month, rows, min_seq, max_seq, min_us, max_us FROM segments "
            "WHERE max_seq > ? ORDER BY min_seq",
            (after_seq,),
        )
    ]
    rows = connection.execute(
        f"SELECT {_OUTBOX_COLUMNS} FROM outbox WHERE seq > ? "  # noqa: S608 - names of our schema
        "ORDER BY seq LIMIT ?",
        (after_seq, -1 if limit is None else limit),
    ).fetchall()
    return Snapshot(root, segments, table_of(rows, LOG_SCHEMA))


def retry_replaced(read: Callable[[], pa.Table]) -> pa.Table:
    """Read again from a new snapshot where compaction removed a file meanwhile."""
    for _ in range(_ATTEMPTS):
        try:
            return read()
        except FileNotFoundError as error:
            missing = error.filename or str(error)
    msg = f"the event log lacks the registered file {missing}"
    raise Unavailable(msg, hint="restore the events folder from a backup")


def scan(snapshot: Snapshot, wanted: Wanted) -> pa.Table:
    """Read what is wanted, ordered by (event time, seq)."""
    columns = list(wanted.columns) if wanted.columns is not None else LOG_SCHEMA.names
    unknown = [name for name in columns if name not in LOG_SCHEMA.names]
    if unknown:
        msg = f"the event log has no columns {', '.join(unknown)}"
        raise SchemaMismatch(msg, hint=f"it has {', '.join(LOG_SCHEMA.names)}")
    needed = [n for n in LOG_SCHEMA.names if n in {"seq", "event_time", "type", *columns}]
    pieces: list[tuple[int, int, Segment | None]] = [
        (s.min_us, s.max_us, s) for s in snapshot.segments if _overlaps(s, wanted)
    ]
    if snapshot.outbox.num_rows:
        times = integers_of(snapshot.outbox, "event_time")
        pieces.append((int(times.min()), int(times.max()), None))
    pieces.sort(key=lambda piece: piece[:2])
    groups: list[pa.Table] = []
    for group in _overlapping_groups(pieces):
        parts = [
            snapshot.outbox.select(needed)
            if segment is None
            else read_segment(snapshot.root, segment, needed)
            for segment in group
        ]
        kept = [_filtered(part, wanted) for part in parts]
        in_order = len(group) == 1 and group[0] is not None
        groups.append(kept[0] if in_order else sort_log(pa.concat_tables(kept)))
    schema = pa.schema([LOG_SCHEMA.field(name) for name in columns])
    if not groups:
        return schema.empty_table()
    return pa.concat_tables(groups).select(columns)


def tail(snapshot: Snapshot, after_seq: int, limit: int) -> pa.Table:
    """Read the first rows after a place, in log order.

    Segments may interleave after a merge: seqs alone are read first, to find where the limit cuts.
    """
    if not snapshot.segments:
        return snapshot.outbox.slice(0, limit)
    seqs = integers_of(snapshot.outbox, "seq")
    chosen: list[Segment] = []
    for segment in snapshot.segments:
        if len(seqs) >= limit and segment.min_seq > np.partition(seqs, limit - 1)[limit - 1]:
            break
        own = integers_of(read_segment(snapshot.root, segment, ["seq"]), "seq")
        seqs = np.concatenate((seqs, own[own > after_seq]))
        chosen.append(segment)
    cut = np.partition(seqs, limit - 1)[limit - 1] if len(seqs) > limit else np.int64(2**63 - 1)
    parts = [snapshot.outbox]
    parts += [read_segment(snapshot.root, segment, LOG_SCHEMA.names) for segment in chosen]
    rows = pa.concat_tables([_between(part, after_seq, int(cut)) for part in parts])
    return rows.take(pa.array(np.argsort(integers_of(rows, "seq"), kind="stable")))


def _between(part: pa.Table, after_seq: int, up_to_seq: int) -> pa.Table:
    seqs = integers_of(part, "seq")
    return part.filter(pa.array((seqs > after_seq) & (seqs <= up_to_seq)))


def _overlaps(segment: Segment, wanted: Wanted) -> bool:
    return (
        (wanted.start_us is None or segment.max_us >= wanted.start_us)
        and (wanted.end_us is None or segment.min_us < wanted.end_us)
        and (wanted.up_to_seq is None or segment.min_seq <= wanted.up_to_seq)
    )


def _overlapping_groups(
    pieces: list[tuple[int, int, Segment | None]],
) -> list[list[Segment | None]]:
    """Group pieces, sorted by their first time, whose times touch; groups follow each other."""
    groups: list[list[Segment | None]] = []
    end = -(2**63)
    for low, high, segment in pieces:
        if not groups or low > end:
            groups.append([])
        groups[-1].append(segment)
        end = max(end, high)
    return groups


def _filtered(part: pa.Table, wanted: Wanted) -> pa.Table:
    keep = np.ones(part.num_rows, dtype=np.bool_)
    if wanted.start_us is not None:
        keep &= integers_of(part, "event_time") >= wanted.start_us
    if wanted.end_us is not None:
        keep &= integers_of(part, "event_time") < wanted.end_us
    if wanted.types is not None:
        keep &= np.isin(integers_of(part, "type"), [int(t) for t in wanted.types])
    if wanted.up_to_seq is not None:
        keep &= integers_of(part, "seq") <= wanted.up_to_seq
    return part if keep.all() else part.filter(pa.array(keep))

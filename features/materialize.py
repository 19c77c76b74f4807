"""The log folded into Parquet: snapshots of every view for point-in-time joins, and a checkpoint.

A snapshot at time T holds the rows that changed since the snapshot before, as a query at T would
know them, so that both its event time and its created time are T. Values are raw state: a count
after more undoing than doing is below 0, and reading floors it.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.clock import DAY_US
from contracts.events import UTC_US
from features.checkpoint import write_checkpoint
from features.frames import FeatureFrames, entity_state, event_arrays, without_erased
from features.graph import EdgeChanges, EdgeKind
from features.replay import Advanced, Replay
from features.slots import Float64s, Ints, Slots
from features.state import FeatureState
from features.storage import sync_file, sync_folder
from features.views import VIEWS, View
from features.workspace import Workspace

_FLUSH_ROWS: Final = 100_000

Progress = Callable[[int, int], None]
"""Called with snapshots done and snapshots in all."""


class Materialized(NamedTuple):
    """What one run wrote."""

    seq: int
    """Place in the log up to which everything is folded in."""
    end_us: int
    """Time of the last snapshot; 0 where nothing has happened."""
    snapshots: int
    rows: dict[str, int]
    """Snapshot rows by view."""
    seconds: float


def snapshot_path(home: Path, view: View) -> Path:
    """Give the file that holds all snapshots of a view."""
    return home / "features" / view.name / "snapshots.parquet"


def snapshot_schema(view: View) -> pa.Schema:
    """Give the Arrow schema of a view's snapshots."""
    return pa.schema(
        [
            pa.field(view.key, pa.int64(), nullable=False),
            pa.field("event_timestamp", UTC_US, nullable=False),
            pa.field("created_timestamp", UTC_US, nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in view.columns),
        ]
    )


def read_snapshots(home: Path, view: View) -> pa.Table:
    """Read all snapshots of a view; an empty table where nothing was materialised."""
    path = snapshot_path(home, view)
    return pq.read_table(path) if path.exists() else snapshot_schema(view).empty_table()


def materialize(
    workspace: Workspace, *, cadence_us: int = DAY_US, progress: Progress | None = None
) -> Materialized:
    """Fold the whole log and write the snapshots and the checkpoint anew.

    What is written depends on log and catalog alone: late events and corrections change the past
    only from the time at which they became known.
    """
    started = perf_counter()
    seq = workspace.log.last_seq
    frames = FeatureFrames.read(workspace, up_to_seq=seq)
    state = entity_state(frames, count_posts=False)
    events = without_erased(event_arrays(frames, state))
    replay = Replay(state, frames, events)
    times = _snapshot_times(replay.moments_us, cadence_us)
    writers = {view.name: _SnapshotWriter(workspace.home, view) for view in VIEWS}
    for done, now_us in enumerate(times, start=1):
        changed = _changed(state, replay.advance(now_us, histories=True))
        for view, slots in zip(VIEWS, changed, strict=True):
            ids, values = state.index_of(view).ids[slots], state.stored(view, slots, now_us)
            writers[view.name].add(now_us, ids, values)
        if progress is not None:
            progress(done, len(times))
    rows = {name: writer.close() for name, writer in writers.items()}
    write_checkpoint(workspace, frames, state, EdgeChanges.of(events).latest(), seq)
    end_us = times[-1] if times else 0
    return Materialized(seq, end_us, len(times), rows, perf_counter() - started)


def _snapshot_times(moments_us: Ints, cadence_us: int) -> list[int]:
    """Give the ends of the periods in which something became known; the last is now."""
    if moments_us.shape[0] == 0:
        return []
    ends = np.unique(-(-moments_us // cadence_us) * cadence_us)
    ends[-1] = moments_us.max()
    return [int(t) for t in ends]


def _changed(state: FeatureState, step: Advanced) -> tuple[Slots, Slots, Slots]:
    """Find the slots of posts, authors and people whose rows a step has changed."""
    met = step.events.posts[step.events.posts >= 0]
    posts = np.union1d(met, step.posts)
    follows = step.edges.kinds == EdgeKind.FOLLOW
    authors = np.union1d(state.posts.author_slot[posts], step.edges.targets[follows])
    people = np.union1d(step.events.viewers, step.edges.sources[follows])
    return posts, authors[authors >= 0], people[people >= 0]


class _SnapshotWriter:
    """Write one view's snapshots to a new file that takes the old one's place at the end."""

    def __init__(self, home: Path, view: View) -> None:
        self._path = snapshot_path(home, view)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self._path.with_suffix(".tmp")
        self._schema = snapshot_schema(view)
        self._writer = pq.ParquetWriter(self._partial, self._schema)
        self._held: list[pa.Table] = []
        self._held_rows = self._rows = 0

    def add(self, now_us: int, ids: Ints, values: Float64s) -> None:
        moment = pa.array(np.full(len(ids), now_us), pa.int64()).cast(UTC_US)
        columns = [pa.array(ids), moment, moment, *(pa.array(c) for c in values.T.copy())]
        self._held.append(pa.table(columns, schema=self._schema))
        self._held_rows += len(ids)
        if self._held_rows >= _FLUSH_ROWS:
            self._flush()

    def close(self) -> int:
        """Finish the file; gives the rows written."""
        self._flush()
        self._writer.close()
        sync_file(self._partial)
        self._partial.replace(self._path)
        sync_folder(self._path.parent)
        return self._rows

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held))
        self._rows += self._held_rows
        self._held, self._held_rows = [], 0

"""The whole state on disk, in Parquet, so that a server starts without replaying the log.

A checkpoint is a folder that is written whole, then named by one small file that is replaced at
once. It holds what events did, and a copy of the catalog that is used while no bulk load has
changed the catalog since; what the API changes is in the log after the checkpoint.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from numpy.typing import NDArray

from contracts.events import LOG_SCHEMA
from features.counters import CounterState
from features.event_arrays import int_column
from features.frames import FeatureFrames, entity_state, standing_edges
from features.graph import EdgeChanges
from features.rings import ActionRing, RingEntries
from features.slots import Ints, Slots
from features.state import FeatureState
from features.storage import sync_file, sync_folder, write_durably
from features.transforms import count_posts
from features.views import AUTHOR_POSTS_COLUMN, FEATURE_HASH, WINDOW_HOURS
from features.workspace import Workspace

_LAYOUT: Final = 3
_POINTER: Final = "checkpoint.json"
_ENTITIES: Final = ("posts", "people", "follows", "blocks")
_TRIES: Final = 3
_LOG: Final = structlog.get_logger()
_RINGS: Final = ("actions", "seen", "shown", "controls")


class Checkpoint(NamedTuple):
    """State after all log rows up to `seq`."""

    state: FeatureState
    seq: int


def write_checkpoint(
    workspace: Workspace, frames: FeatureFrames, state: FeatureState, edges: EdgeChanges, seq: int
) -> None:
    """Store a state and the last change of each edge in the log.

    The entities of `frames` must have been read after the log stood at `seq`.
    """
    root = workspace.home / "features"
    name = f"checkpoint-{seq:020d}"
    folder = root / f".{name}.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    people = state.people.person_id
    everyone = np.arange(len(people))
    _write(folder, "posts", _post_table(state))
    _write(folder, "people", pa.table({
        "person_id": people,
        "version": state.histories.versions[: len(people)],
        **_counter_columns("viewer", state.people.as_viewer, everyone),
        **_counter_columns("author", state.people.as_author, everyone),
    }))  # fmt: skip
    for ring in _RINGS:
        _write(folder, ring, _ring_table(people, state, getattr(state.histories, ring)))
    _write(folder, "edges", pa.table({
        "source_id": people[edges.sources],
        "target_id": people[edges.targets],
        "kind": edges.kinds,
        "opens": edges.opens,
        "visible_us": edges.visible_us,
    }))  # fmt: skip
    for part in _ENTITIES:
        _write(folder, f"catalog-{part}", getattr(frames, part))
    shutil.rmtree(root / name, ignore_errors=True)
    folder.rename(root / name)
    sync_folder(root)
    pointer = {
        "layout": _LAYOUT, "features": FEATURE_HASH, "seq": seq, "folder": name,
        "bulk_version": workspace.bulk_version,
    }  # fmt: skip
    write_durably(root / _POINTER, json.dumps(pointer).encode())
    for old in root.glob("checkpoint-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(workspace: Workspace, *, up_to_seq: int | None = None) -> Checkpoint | None:
    """Read the checkpoint; None where there is none, or it is of other code or beyond the place.

    After a bulk load people and posts come from the catalog, which is read first: what changes
    meanwhile is in the log after the checkpoint. None also where its files are damaged: the log
    holds all that they do.
    """
    for _ in range(_TRIES):
        pointer = _pointer(workspace.home)
        if pointer is None or (up_to_seq is not None and pointer["seq"] > up_to_seq):
            return None
        try:
            return _read(workspace, pointer)
        except FileNotFoundError as error:  # another process may have put a newer one in its place
            failure: Exception = error
        except (pa.ArrowInvalid, OSError) as error:
            failure = error
            break
    _LOG.warning("checkpoint damaged, the log is replayed", error=str(failure))
    return None


def _read(workspace: Workspace, pointer: dict[str, Any]) -> Checkpoint:
    folder = workspace.home / "features" / pointer["folder"]
    frames = _entities(workspace, folder, pointer)
    tables = {
        name: pq.read_table(folder / f"{name}.parquet")
        for name in ("posts", "people", "edges", *_RINGS)
    }
    state = entity_state(frames, count_posts=False)
    state.ensure_people(int_column(tables["people"], "person_id"))
    _restore_posts(state, tables["posts"])
    _restore_people(state, tables["people"])
    for ring in _RINGS:
        _restore_ring(state, getattr(state.histories, ring), tables[ring])
    _restore_edges(state, frames, tables["edges"])
    return Checkpoint(state, pointer["seq"])


def _entities(workspace: Workspace, folder: Path, pointer: dict[str, Any]) -> FeatureFrames:
    if workspace.bulk_version != pointer["bulk_version"]:
        return FeatureFrames.entities(workspace)
    copies = {p: pq.read_table(folder / f"catalog-{p}.parquet") for p in _ENTITIES}
    return FeatureFrames(events=LOG_SCHEMA.empty_table(), **copies)


def checkpoint_seq(home: Path) -> int:
    """Give the place in the log that a start would begin at; 0: at the beginning."""
    pointer = _pointer(home)
    return int(pointer["seq"]) if pointer else 0


def _pointer(home: Path) -> dict[str, Any] | None:
    path = home / "features" / _POINTER
    if not path.exists():
        return None
    pointer: dict[str, Any] = json.loads(path.read_text())
    fits = pointer["layout"] == _LAYOUT and pointer["features"] == FEATURE_HASH
    return pointer if fits and (home / "features" / pointer["folder"]).is_dir() else None


def _post_table(state: FeatureState) -> pa.Table:
    posts = state.posts
    everything = np.arange(len(posts))
    return pa.table({
        "post_id": posts.post_id,
        **_counter_columns("post", posts.counters, everything),
        "window": _fixed(posts.window.buckets[: len(posts)]),
        "window_hour": posts.window.last_hour[: len(posts)],
    })  # fmt: skip


def _counter_columns(prefix: str, state: CounterState, rows: Slots) -> dict[str, object]:
    return {
        f"{prefix}_values": _fixed(state.values[rows]),
        f"{prefix}_last_us": state.last_us[rows],
    }


def _ring_table(people: Ints, state: FeatureState, ring: ActionRing) -> pa.Table:
    entries = ring.dump(len(people))
    ends = pa.array(np.r_[0, np.cumsum(entries.lengths)].astype(np.int32))
    posts = np.where(entries.posts >= 0, state.posts.post_id[entries.posts], -1)
    columns: dict[str, object] = {
        "person_id": people,
        "count": entries.counts,
        "posts": pa.ListArray.from_arrays(ends, pa.array(posts)),
        "types": pa.ListArray.from_arrays(ends, pa.array(entries.types)),
    }
    if ring.times_us is not None:
        columns["times_us"] = pa.ListArray.from_arrays(ends, pa.array(entries.times_us))
    return pa.table(columns)


def _restore_posts(state: FeatureState, table: pa.Table) -> None:
    slots = state.posts.slots_of(int_column(table, "post_id"))
    _restore_counters(state.posts.counters, slots, table, "post")
    kept = slots >= 0
    window = state.posts.window
    window.buckets[slots[kept]] = _matrix(table, "window", WINDOW_HOURS)[kept]
    window.last_hour[slots[kept]] = table.column("window_hour").to_numpy()[kept]


def _restore_people(state: FeatureState, table: pa.Table) -> None:
    people = state.people
    slots = people.slots_of(int_column(table, "person_id"))
    state.histories.versions[slots] = int_column(table, "version")
    _restore_counters(people.as_viewer, slots, table, "viewer")
    _restore_counters(people.as_author, slots, table, "author")
    # Bulk ingests of posts leave no event: what authors made is counted from the catalog.
    people.as_author.values[:, AUTHOR_POSTS_COLUMN] = 0.0
    count_posts(people, state.posts.author_slot.astype(np.int64), state.posts.created_us)


def _restore_counters(state: CounterState, slots: Slots, table: pa.Table, prefix: str) -> None:
    kept = slots >= 0
    values = _matrix(table, f"{prefix}_values", state.values.shape[1])
    state.restore(slots[kept], values[kept], int_column(table, f"{prefix}_last_us")[kept])


def _restore_ring(state: FeatureState, ring: ActionRing, table: pa.Table) -> None:
    lengths = table.column("posts").combine_chunks().value_lengths().to_numpy().astype(np.int64)
    times = _flat(table, "times_us") if ring.times_us is not None else np.zeros(0, np.int64)
    slots = state.people.slots_of(int_column(table, "person_id"))
    posts = state.posts.slots_of(_flat(table, "posts")).astype(np.int32)
    entries = RingEntries(int_column(table, "count"), lengths, posts, _flat(table, "types"), times)
    ring.restore(slots, entries)


def _restore_edges(state: FeatureState, frames: FeatureFrames, table: pa.Table) -> None:
    index = state.people.index
    sources = index.slots_of(int_column(table, "source_id"))
    stored = EdgeChanges(
        sources, index.slots_of(int_column(table, "target_id")), table.column("kind").to_numpy(),
        table.column("opens").to_numpy(), int_column(table, "visible_us"),
    )  # fmt: skip
    state.graph.fill(standing_edges(frames, state, stored))


def _write(folder: Path, name: str, table: pa.Table) -> None:
    path = folder / f"{name}.parquet"
    pq.write_table(table, path, compression="lz4", use_dictionary=False)
    sync_file(path)


def _fixed(matrix: NDArray[Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table.column(name).combine_chunks().flatten().to_numpy()
    return values


def _matrix(table: pa.Table, name: str, width: int) -> NDArray[Any]:
    return _flat(table, name).reshape(-1, width)

"""What state is rebuilt from: the log and the entities, read once, and its replay."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.events import LOG_SCHEMA, EventType
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA, PEOPLE_SCHEMA
from features.event_arrays import EVENT_COLUMNS, EventArrays, int_column
from features.graph import EdgeChanges, EdgeKind
from features.slots import Bools, Ints
from features.state import FeatureState
from features.workspace import Workspace

_REPLAY_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True)
class FeatureFrames:
    """Tables of `contracts.tables` and the log's rows; follows and blocks as they stand now."""

    events: pa.Table
    posts: pa.Table
    people: pa.Table = field(default_factory=PEOPLE_SCHEMA.empty_table)
    follows: pa.Table = field(default_factory=FOLLOWS_SCHEMA.empty_table)
    blocks: pa.Table = field(default_factory=BLOCKS_SCHEMA.empty_table)

    @classmethod
    def read(cls, workspace: Workspace, *, up_to_seq: int | None = None) -> "FeatureFrames":
        """Read a workspace; entities first, so that the log tells of whatever changes meanwhile."""
        entities = cls.entities(workspace)
        events = workspace.log.scan(columns=EVENT_COLUMNS, up_to_seq=up_to_seq)
        return replace(entities, events=events)

    @classmethod
    def entities(cls, workspace: Workspace) -> "FeatureFrames":
        """Read a workspace without its log."""
        catalog = workspace.catalog
        return cls(
            LOG_SCHEMA.empty_table(), catalog.posts(), catalog.people(), catalog.follows(),
            catalog.blocks(),
        )  # fmt: skip


def entity_state(frames: FeatureFrames, *, count_posts: bool) -> FeatureState:
    """Make state that holds the people and posts of frames and nothing that happened."""
    state = FeatureState()
    state.add_people(frames.people)
    for table, names in (
        (frames.follows, ("follower_id", "followee_id")),
        (frames.blocks, ("blocker_id", "blocked_id")),
        (frames.events, ("viewer_id", "target_id")),
    ):
        for name in names:
            state.ensure_people(np.unique(int_column(table, name)))
    state.add_posts(frames.posts, count=count_posts)
    return state


def event_arrays(frames: FeatureFrames, state: FeatureState) -> EventArrays:
    """Read the frames' events as slots of a state."""
    return EventArrays.of(frames.events, state.people.index, state.posts.index)


def catalog_edges(frames: FeatureFrames, state: FeatureState) -> EdgeChanges:
    """Give the edges that the catalog holds as openings at their `since`."""
    blocks = frames.blocks
    block, mute = (blocks.filter(pc.equal(blocks["kind"], word)) for word in ("block", "mute"))
    tables = (
        (EdgeKind.FOLLOW, frames.follows, ("follower_id", "followee_id")),
        (EdgeKind.BLOCK, block, ("blocker_id", "blocked_id")),
        (EdgeKind.MUTE, mute, ("blocker_id", "blocked_id")),
    )
    parts = []
    for kind, rows, people in tables:
        sources, targets = (state.people.slots_of(int_column(rows, name)) for name in people)
        parts.append(EdgeChanges.since(sources, targets, kind, int_column(rows, "since")))
    return EdgeChanges.in_order(parts)


def standing_edges(frames: FeatureFrames, state: FeatureState, changes: EdgeChanges) -> EdgeChanges:
    """Give the edges of catalog and log that nothing closed later.

    The blocks and mutes of the catalog stand whatever the times say: a clock that went back may
    have put an older unblock behind them.
    """
    catalog = catalog_edges(frames, state)
    found = EdgeChanges.in_order([catalog, changes]).open_at_end()
    return EdgeChanges.merged([found, catalog[catalog.kinds != EdgeKind.FOLLOW]]).latest()


def replay(frames: FeatureFrames) -> FeatureState:
    """Rebuild the state of now: every event of the log, every edge that stands."""
    state = entity_state(frames, count_posts=True)
    events = without_erased(event_arrays(frames, state))
    state.graph.fill(standing_edges(frames, state, EdgeChanges.of(events)))
    for chunk in chunks(events):
        state.count(chunk)
    return state


def without_erased(events: EventArrays) -> EventArrays:
    """Blank people in what happened before they were erased; what their posts met stays."""
    erased = np.flatnonzero((events.types == EventType.PERSON_ERASED) & (events.viewers >= 0))
    if erased.shape[0] == 0:
        return events
    place, people = np.arange(len(events)), events.viewers[erased]
    viewers, targets = (
        np.where(before_erasure(named, place, people, erased), -1, named)
        for named in (events.viewers, events.targets)
    )
    return replace(events, viewers=viewers, targets=targets)


def before_erasure(named: Ints, places: Ints, people: Ints, erased: Ints) -> Bools:
    """Tell which people named [E], each at a place in order, were erased later.

    `people` [m], one at least, were erased at the places `erased` [m].
    """
    owners, owner = np.unique(people, return_inverse=True)
    last = np.full(len(owners), -1, np.int64)
    np.maximum.at(last, owner, erased)
    at = np.minimum(np.searchsorted(owners, named), len(owners) - 1)
    earlier: Bools = (owners[at] == named) & (places < last[at])
    return earlier


def chunks(events: EventArrays, rows: int = _REPLAY_ROWS) -> Iterator[EventArrays]:
    """Cut events into micro-batches."""
    for start in range(0, len(events), rows):
        yield events[start : start + rows]

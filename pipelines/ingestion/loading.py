"""Loading rows of people, posts and follows into the workspace; events are in `event_loading`."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.ids import UNKNOWN_ID, Namespace
from contracts.tables import FOLLOWS_SCHEMA, PEOPLE_SCHEMA, POSTS_SCHEMA
from features.segments import integers_of
from features.slots import grown
from features.workspace import Workspace
from pipelines.ingestion.columns import FIELDS
from pipelines.ingestion.event_keys import Occurrences
from pipelines.ingestion.fields import Fields, column_ids, nullable_ids, nullable_times
from pipelines.ingestion.pairs import NewestOfPairs
from pipelines.ingestion.rejects import RowCheck
from pipelines.ingestion.rows import Kind, RowBatch, Source
from pipelines.ingestion.times import ABSENT_US, TimeColumn

Ids = NDArray[np.int64]

EARLIEST_EVENT_US: Final = 631_152_000_000_000  # 1990
EARLIEST_CREATED_US: Final = -5_364_662_400_000_000  # 1800: films and books are older than the web
LONGEST_TEXT: Final = 100_000


class KnownIds:
    """A set of ids as a growing bitmap: ids are dense."""

    def __init__(self, ids: Ids) -> None:
        self._known = np.zeros(int(ids.max(initial=0)) + 1024, dtype=np.bool_)
        self._known[ids] = True

    def has(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell for each id [n] whether it is in the set."""
        inside = (ids >= 0) & (ids < len(self._known))
        return inside & self._known[np.where(inside, ids, 0)]

    def add(self, ids: Ids) -> Ids:
        """Add ids and give those that are new, once each."""
        new = np.unique(ids[(ids != UNKNOWN_ID) & ~self.has(ids)])
        self._known = grown(self._known, int(new.max(initial=0)) + 1)
        self._known[new] = True
        return new


@dataclass(slots=True)
class Loading:
    """What all files of one ingest share."""

    workspace: Workspace
    people: KnownIds
    posts: KnownIds
    bare_posts: bool
    """Posts are made of the events' post ids, because no file tells of posts."""
    newest: NewestOfPairs
    erased: Ids
    """People who asked to be forgotten and of whom nothing has been said since, ascending."""
    implied_people: int = 0
    accepted_events: int = 0
    exposure_events: int = 0
    """Accepted events that tell what was shown: served, impression, view, dwell."""

    def ensure_people(self, ids: Ids) -> None:
        """Make rows for people that only other files name."""
        new = self.people.add(ids[~np.isin(ids, self.erased)])
        self.implied_people += len(new)
        if len(new):
            rows = [{"person_id": person} for person in new.tolist()]
            table = pa.Table.from_pylist(rows, schema=PEOPLE_SCHEMA)
            self.workspace.catalog.upsert_people(table)


@dataclass(slots=True)
class FileState:
    """What one file carries from batch to batch."""

    source: Source
    occurrences: Occurrences = field(default_factory=Occurrences)
    readers: dict[str, TimeColumn] = field(default_factory=dict)
    accepted: int = 0
    duplicates: int = 0

    def time_reader(self, name: str) -> TimeColumn:
        """Give the reader of a time column, which keeps its guess."""
        if name not in self.readers:
            self.readers[name] = TimeColumn(name, self.source.time_unit)
        return self.readers[name]

    @property
    def notes(self) -> list[str]:
        """What was guessed about columns and times."""
        times = [note for reader in self.readers.values() for note in reader.notes]
        return [*self.source.notes, *times]


def load_people(loading: Loading, state: FileState, batch: RowBatch) -> RowCheck:
    """Write people; columns beside the known ones become attributes."""
    fields = Fields(batch, state.time_reader)
    external = fields.ids("person_id", required=True)
    created = fields.times("created", EARLIEST_CREATED_US)
    language = fields.texts("language")
    gone = np.isin(
        column_ids(loading.workspace.ids.lookup, Namespace.PERSON, external), loading.erased
    )
    fields.check.reject(gone, "the person was erased")
    keep = pa.array(fields.check.good)
    ids = column_ids(loading.workspace.ids.intern, Namespace.PERSON, external.filter(keep))
    columns = [
        pa.array(ids),
        nullable_times(created).filter(keep),
        language.filter(keep),
        _attributes(batch, fields.check.good),
    ]
    loading.workspace.catalog.upsert_people(pa.table(columns, schema=PEOPLE_SCHEMA))
    _count(state, len(ids), len(loading.people.add(ids)))
    return fields.check


def _attributes(batch: RowBatch, good: NDArray[np.bool_]) -> pa.Array:
    known = {f.name for f in FIELDS[Kind.PEOPLE]}
    rest = {
        name: [
            "|".join(map(str, v)) if isinstance(v, list) else v
            for v in column.filter(pa.array(good)).to_pylist()
        ]
        for name, column in batch.columns.items()
        if name not in known
    }
    if not rest:
        return pa.nulls(int(good.sum()), pa.string())
    filled = (
        {name: value for name, value in zip(rest, row, strict=True) if value not in {None, ""}}
        for row in zip(*rest.values(), strict=True)
    )
    return pa.array([orjson.dumps(row, default=str).decode() for row in filled], pa.string())


def load_posts(loading: Loading, state: FileState, batch: RowBatch) -> RowCheck:
    """Write posts; authors that no people file names become people."""
    fields = Fields(batch, state.time_reader)
    external = fields.ids("post_id", required=True)
    authors = fields.ids("author_id")
    texts = fields.texts("text").fill_null("")
    long = pc.greater(pc.utf8_length(texts), LONGEST_TEXT).to_numpy(zero_copy_only=False)
    fields.check.reject(long, f"text is longer than {LONGEST_TEXT} characters")
    created, known = (fields.times(name, EARLIEST_CREATED_US) for name in ("created", "known"))
    fields.check.reject(created == ABSENT_US, "created is missing")
    known = np.where(known == ABSENT_US, created, known)
    fields.check.reject(known < created, "known is before created")
    language = fields.texts("language")
    keep = pa.array(fields.check.good)
    ids = loading.workspace.ids
    post_ids = column_ids(ids.intern, Namespace.POST, external.filter(keep))
    author_ids = column_ids(ids.intern, Namespace.PERSON, authors.filter(keep))
    loading.ensure_people(author_ids)
    columns = [
        pa.array(post_ids),
        nullable_ids(author_ids),
        texts.filter(keep),
        _topics(loading.workspace, batch.columns.get("topics"), fields.check.good),
        language.filter(keep),
        nullable_times(created).filter(keep),
        nullable_times(known).filter(keep),
        pa.array(np.zeros(len(post_ids), dtype=np.bool_)),
    ]
    table = pa.table(columns, schema=POSTS_SCHEMA)
    loading.workspace.catalog.upsert_posts(table, restore=False)
    _count(state, len(post_ids), len(loading.posts.add(post_ids)))
    return fields.check


def _topics(workspace: Workspace, column: pa.Array | None, good: NDArray[np.bool_]) -> pa.Array:
    """Turn names, separated by bars or in lists, into lists of topic ids, each once."""
    rows = int(good.sum())
    if column is None:
        lists: list[list[int]] = [[] for _ in range(rows)]
        return pa.array(lists, pa.list_(pa.int64()))
    names = column.filter(pa.array(good))
    if not pa.types.is_list(names.type):
        names = pc.split_pattern(names.fill_null(""), "|")
    parents = pc.list_parent_indices(names)
    flat = pc.utf8_trim_whitespace(pc.list_flatten(names))
    filled = pc.not_equal(flat, "").fill_null(False)
    topics = column_ids(workspace.ids.intern, Namespace.TOPIC, flat.filter(filled))
    owners = parents.filter(filled).to_numpy(zero_copy_only=False)
    pairs = np.stack([owners, topics], axis=1)
    first = np.sort(np.unique(pairs, axis=0, return_index=True)[1])  # a topic counts once a post
    owners, topics = owners[first], topics[first]
    ends = np.searchsorted(owners, np.arange(rows + 1), side="left").astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(topics))


def load_follows(loading: Loading, state: FileState, batch: RowBatch) -> RowCheck:
    """Write follows; one without a time counts as older than everything."""
    fields = Fields(batch, state.time_reader)
    follower = fields.ids("follower_id", required=True)
    followee = fields.ids("followee_id", required=True)
    same = pc.equal(follower, followee).fill_null(False).to_numpy(zero_copy_only=False)
    fields.check.reject(same, "follower and followee are the same person")
    since = fields.times("since", EARLIEST_EVENT_US)
    since = np.where(since == ABSENT_US, 0, since)
    keep = pa.array(fields.check.good)
    columns = [
        pa.array(column_ids(loading.workspace.ids.intern, Namespace.PERSON, side.filter(keep)))
        for side in (follower, followee)
    ]
    columns.append(nullable_times(since).filter(keep))
    table = pa.table(columns, schema=FOLLOWS_SCHEMA)
    for name in ("follower_id", "followee_id"):
        loading.ensure_people(integers_of(table, name))
    _count(state, table.num_rows, loading.workspace.catalog.set_follows(table))
    return fields.check


def _count(state: FileState, rows: int, new: int) -> None:
    state.accepted += new
    state.duplicates += rows - new

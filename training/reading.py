"""From a workspace to arrays: the positive actions, what was taken back, impressions, features."""

import json
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.events import NEGATIVE_ACTIONS, POSITIVE_ACTIONS, UNDO_OF, EventType
from features.frames import FeatureFrames
from features.offline import training_features
from features.workspace import Workspace
from models.base import FloatArray, IntArray, Interactions, PostContent
from training.dataset import NEVER_US, Dataset, Protocol
from training.labels import EventRows, Impressions, make_impressions

COLUMNS: Final = (
    "seq", "type", "viewer_id", "post_id", "target_id", "event_time", "known_time", "value",
    "feed_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """The ranker's features of past moments, from the log."""

    frames: FeatureFrames

    def __call__(
        self,
        viewer_ids: IntArray,
        times_us: IntArray,
        post_ids: IntArray,
        family_scores: FloatArray,
    ) -> NDArray[np.float16]:
        """Compute features [Q, C, F] of candidates [Q, C] as of [Q] moments, float16-rounded."""
        exact = training_features(self.frames, viewer_ids, times_us, post_ids, family_scores)
        return exact.astype(np.float16)

    def hidden_from(self, viewer_ids: IntArray, from_us: IntArray) -> "FeatureSource":
        """Hide what some people did from a moment on, for sets split by each person's order."""
        if not len(viewer_ids):
            return self
        order = np.argsort(viewer_ids, kind="stable")
        people, first = viewer_ids[order], from_us[order]
        viewers = _ids(self.frames.events, "viewer_id")
        near = np.minimum(np.searchsorted(people, viewers), len(people) - 1)
        late = _last_unknown(self.frames.events) >= first[near]
        kept = self.frames.events.filter(pa.array(~((people[near] == viewers) & late)))
        return FeatureSource(replace(self.frames, events=kept))


@dataclass(frozen=True, slots=True)
class TrainingData:
    """One workspace, read for training."""

    dataset: Dataset
    features: FeatureSource
    impressions: Impressions | None


def read_training_data(workspace: Workspace) -> TrainingData:
    """Read posts and the whole log; the split is the one that ingest noted (by time without)."""
    facts = json.loads(workspace.meta_get("dataset") or "{}")
    up_to_seq = workspace.log.last_seq
    events = workspace.log.scan(columns=COLUMNS, up_to_seq=up_to_seq)
    catalog = workspace.catalog
    posts = catalog.posts().sort_by("post_id")
    frames = FeatureFrames(events, posts, catalog.people(), catalog.follows(), catalog.blocks())
    live = posts.filter(pc.invert(posts["deleted"]))
    post_ids = _ids(live, "post_id")
    rows = event_rows(events, post_ids)
    actions, undone = positive_actions(rows)
    viewer_ids, people = np.unique(actions.user_rows, return_inverse=True)
    has_impressions = bool(facts.get("has_impressions"))
    dataset = Dataset(
        str(facts.get("name", "events")),
        _protocol(facts),
        has_impressions,
        post_ids,
        viewer_ids,
        replace(actions, user_rows=people.astype(np.int64)),
        undone,
        _dislikes(rows, viewer_ids),
        read_content(live),
        up_to_seq,
    )
    seen = make_impressions(rows, viewer_ids) if has_impressions else None
    return TrainingData(dataset, FeatureSource(frames), seen)


def read_content(posts: pa.Table) -> PostContent:
    """Turn a table of `POSTS_SCHEMA` into arrays."""
    return PostContent(
        posts["text"].to_pylist(),
        posts["topics"].to_pylist(),
        _ids(posts, "author_id"),
        _ids(posts, "created"),
    )


def _last_unknown(events: pa.Table) -> IntArray:
    """Give the last moment at which a query may not know an event yet.

    A query at that moment does not see it, and is the one that can be asked to predict it.
    """
    last: IntArray = np.maximum(_ids(events, "event_time"), _ids(events, "known_time") - 1)
    return last


def event_rows(events: pa.Table, post_ids: IntArray) -> EventRows:
    """Read log rows on known posts, erased people left out, sorted by (viewer, time)."""
    types = _ids(events, "type").astype(np.int8)
    viewers, posts = _ids(events, "viewer_id"), _ids(events, "post_id")
    times = _last_unknown(events)
    near = np.minimum(np.searchsorted(post_ids, posts), max(len(post_ids) - 1, 0))
    known = post_ids[near] == posts if len(post_ids) else np.zeros(len(posts), dtype=bool)
    erased = np.unique(viewers[types == EventType.PERSON_ERASED])
    known &= ~np.isin(viewers, erased)
    order = np.flatnonzero(known)
    order = order[np.lexsort((times[order], viewers[order]))]
    value = events["value"].fill_null(0.0).to_numpy().astype(np.float32)
    return EventRows(
        viewers[order],
        near[order],
        times[order],
        types[order],
        value[order],
        _ids(events, "feed_id")[order],
    )


def positive_actions(rows: EventRows) -> tuple[Interactions, IntArray]:
    """Keep positive actions and say when each was taken back; user rows are viewer ids still."""
    mask = np.isin(rows.types, POSITIVE_ACTIONS)
    actions = Interactions(
        rows.viewer_ids[mask], rows.item_rows[mask], rows.times_us[mask], rows.types[mask]
    )
    return actions, taken_back(actions, rows)


def taken_back(actions: Interactions, rows: EventRows) -> IntArray:
    """Find for each action its first undo at or after it, `NEVER_US` where there is none."""
    undone = np.full(len(actions), NEVER_US, dtype=np.int64)
    for undo, done in UNDO_OF.items():
        undoing, mine = rows.types == undo, np.flatnonzero(actions.types == done)
        if not undoing.any() or not len(mine):
            continue
        pairs = np.stack([rows.viewer_ids[undoing], rows.item_rows[undoing]])
        wanted = np.stack([actions.user_rows[mine], actions.item_rows[mine]])
        _, code = np.unique(np.concatenate([pairs, wanted], axis=1), axis=1, return_inverse=True)
        moments = np.unique(np.concatenate([rows.times_us[undoing], actions.times_us[mine]]))
        width = len(moments) + 1
        keys = code[: pairs.shape[1]] * width + np.searchsorted(moments, rows.times_us[undoing])
        keys = np.sort(keys)
        ask = code[pairs.shape[1] :] * width + np.searchsorted(moments, actions.times_us[mine])
        found = np.searchsorted(keys, ask)
        there = found < len(keys)
        there[there] = keys[found[there]] // width == ask[there] // width
        undone[mine[there]] = moments[keys[found[there]] % width]
    return undone


def _dislikes(rows: EventRows, viewer_ids: IntArray) -> Interactions:
    mask = np.isin(rows.types, NEGATIVE_ACTIONS) & np.isin(rows.viewer_ids, viewer_ids)
    return Interactions(
        np.searchsorted(viewer_ids, rows.viewer_ids[mask]),
        rows.item_rows[mask],
        rows.times_us[mask],
        rows.types[mask],
    )


def _protocol(facts: dict[str, object]) -> Protocol:
    split = facts.get("split")
    kind = split.get("kind") if isinstance(split, dict) else split
    if kind == "month":
        return "month"
    return "order" if kind == "order" else "time"


def _ids(table: pa.Table, name: str) -> IntArray:
    """Read an id, number or time column as int64, null as -1."""
    column = table[name]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: IntArray = column.fill_null(-1).to_numpy().astype(np.int64)
    return values


def impressions_within(data: TrainingData, start_us: int, stop_us: int) -> Impressions:
    """Give what was shown in [start, stop), labelled with what was done before `stop` alone."""
    events = data.features.frames.events
    times = _last_unknown(events)
    inside = events.filter(pa.array((times >= start_us) & (times < stop_us)))
    return make_impressions(event_rows(inside, data.dataset.post_ids), data.dataset.viewer_ids)

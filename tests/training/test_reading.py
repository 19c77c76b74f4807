"""From log rows to arrays: undoing, erasing, late knowledge, and what followed an impression."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import DAY_US, HOUR_US
from contracts.events import EVENT_SCHEMA, UTC_US, EventType
from contracts.policy import ACTIONS, Action
from contracts.tables import POSTS_SCHEMA
from features.workspace import Workspace
from training.dataset import NEVER_US
from training.labels import make_impressions
from training.reading import (
    COLUMNS,
    FeatureSource,
    event_rows,
    impressions_within,
    positive_actions,
    read_training_data,
)

E = EventType
T0 = 1_700_000_000_000_000
Row = tuple[EventType, int, int, int]


def log(rows: list[Row], *, known_after: int = 0, value: float = 0.0) -> pa.Table:
    n = len(rows)
    times = np.array([T0 + row[3] for row in rows], np.int64)
    return pa.table(
        {
            "event_id": np.arange(n) + 1,
            "type": pa.array([int(r[0]) for r in rows], pa.int8()),
            "viewer_id": pa.array([r[1] for r in rows], pa.int64()),
            "post_id": pa.array([r[2] for r in rows], pa.int64()),
            "target_id": pa.nulls(n, pa.int64()),
            "event_time": pa.array(times).cast(UTC_US),
            "known_time": pa.array(times + known_after).cast(UTC_US),
            "known_assumed": pa.array([False] * n),
            "value": pa.array([value] * n, pa.float32()),
            "feed_id": pa.nulls(n, pa.int64()),
            "position": pa.nulls(n, pa.int16()),
        },
        schema=EVENT_SCHEMA,
    )


POSTS = np.array([5, 6, 7])


def test_an_action_ends_at_its_own_undo() -> None:
    rows = event_rows(
        log([(E.LIKE, 1, 5, 0), (E.CLICK, 1, 5, 1), (E.UNLIKE, 1, 5, 10), (E.LIKE, 1, 5, 20),
             (E.LIKE, 2, 5, 5), (E.UNLIKE, 2, 6, 9)]), POSTS
    )  # fmt: skip
    actions, undone = positive_actions(rows)
    found = {
        (int(u), EventType(t), int(when) - T0): int(end) - T0 if end < NEVER_US else None
        for u, t, when, end in zip(
            actions.user_rows, actions.types, actions.times_us, undone, strict=True
        )
    }
    assert found == {
        (1, E.LIKE, 0): 10, (1, E.CLICK, 1): None, (1, E.LIKE, 20): None, (2, E.LIKE, 5): None,
    }  # fmt: skip


def test_unknown_posts_and_erased_people_are_left_out() -> None:
    rows = event_rows(
        log([(E.LIKE, 1, 5, 0), (E.LIKE, 1, 99, 1), (E.LIKE, 2, 5, 2), (E.PERSON_ERASED, 2, 5, 3)]),
        POSTS,
    )
    assert rows.viewer_ids.tolist() == [1]


def test_what_is_known_late_happens_late() -> None:
    rows = event_rows(log([(E.LIKE, 1, 5, 0)], known_after=HOUR_US), POSTS)
    assert rows.times_us.tolist() == [T0 + HOUR_US - 1]


def test_an_action_is_credited_to_the_newest_impression_within_a_day() -> None:
    events = [
        (E.IMPRESSION, 1, 5, 0), (E.IMPRESSION, 1, 5, HOUR_US), (E.LIKE, 1, 5, 2 * HOUR_US),
        (E.IMPRESSION, 1, 6, 0), (E.CLICK, 1, 6, DAY_US + 1), (E.NOT_INTERESTED, 1, 7, 5),
        (E.IMPRESSION, 1, 7, 6), (E.IMPRESSION, 2, 5, 0), (E.CLICK, 2, 5, 0),
    ]  # fmt: skip
    found = make_impressions(event_rows(log(events), POSTS), np.array([1, 2]))
    labels = {
        (int(u), int(i), int(t) - T0): [ACTIONS[k].value for k in np.flatnonzero(row)]
        for u, i, t, row in zip(
            found.user_rows, found.item_rows, found.times_us, found.labels, strict=True
        )
    }
    assert labels == {
        (0, 0, 0): [], (0, 0, HOUR_US): ["like"], (0, 1, 0): [], (0, 2, 6): [],
        (1, 0, 0): ["click"],
    }  # fmt: skip


def test_dwell_adds_up_to_seconds() -> None:
    events = [(E.IMPRESSION, 1, 5, 0), (E.DWELL, 1, 5, 1), (E.DWELL, 1, 5, 2)]
    found = make_impressions(event_rows(log(events, value=1500.0), POSTS), np.array([1]))
    assert found.labels[0, ACTIONS.index(Action.DWELL)] == pytest.approx(3.0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    posts = pa.table(
        {
            "post_id": pa.array([5, 6, 7], pa.int64()),
            "author_id": pa.nulls(3, pa.int64()),
            "text": ["red", "blue", "gone"],
            "topics": pa.array([[1], [], [2]], pa.list_(pa.int64())),
            "language": pa.nulls(3, pa.string()),
            "created": pa.array([T0] * 3).cast(UTC_US),
            "known": pa.array([T0] * 3).cast(UTC_US),
            "deleted": pa.array([False, False, True]),
        },
        schema=POSTS_SCHEMA,
    )
    with Workspace.open(tmp_path) as workspace:
        workspace.catalog.upsert_posts(posts)
        workspace.catalog.delete_posts([7], T0 + 1)
        workspace.log.append(
            log([(E.LIKE, 30, 5, 1), (E.CLICK, 20, 6, 2), (E.CLICK, 20, 7, 3), (E.HIDE, 20, 5, 4)])
        )
        workspace.meta_set("dataset", '{"name": "tiny", "split": {"kind": "month"}}')
    return tmp_path


def test_reads_a_workspace(home: Path) -> None:
    with Workspace.open(home, read_only=True) as workspace:
        data = read_training_data(workspace)
    dataset = data.dataset
    assert (dataset.name, dataset.protocol, dataset.has_impressions) == ("tiny", "month", False)
    assert dataset.post_ids.tolist() == [5, 6]
    assert dataset.viewer_ids.tolist() == [20, 30]
    assert dataset.actions.item_rows.tolist() == [1, 0]
    assert dataset.dislikes.item_rows.tolist() == [0]
    assert dataset.content.topics[0] == [1]
    assert data.impressions is None


def test_what_was_shown_before_a_cut_is_not_labelled_by_what_came_after_it(home: Path) -> None:
    later = [(E.IMPRESSION, 20, 5, 10), (E.LIKE, 20, 5, 12), (E.CLICK, 20, 5, 30),
             (E.IMPRESSION, 30, 6, 25), (E.CLICK, 30, 6, 26)]  # fmt: skip
    events = log(later)
    ids = pa.array(np.arange(len(later)) + 100)
    with Workspace.open(home) as workspace:
        workspace.log.append(events.set_column(0, "event_id", ids.cast(EVENT_SCHEMA[0].type)))
        data = read_training_data(workspace)
    found = impressions_within(data, T0 + 10, T0 + 20)
    assert found.times_us.tolist() == [T0 + 10]
    assert [ACTIONS[k] for k in np.flatnonzero(found.labels[0])] == [Action.LIKE]
    assert not len(impressions_within(data, T0 + 40, T0 + 50))


def test_hides_what_a_person_did_from_a_moment_on(home: Path) -> None:
    with Workspace.open(home, read_only=True) as workspace:
        source: FeatureSource = read_training_data(workspace).features
    hidden = source.hidden_from(np.array([20]), np.array([T0 + 3]))
    assert hidden.frames.events["viewer_id"].to_pylist() == [30, 20]
    assert set(COLUMNS) <= set(hidden.frames.events.column_names)
    assert source.hidden_from(np.zeros(0, np.int64), np.zeros(0, np.int64)) is source

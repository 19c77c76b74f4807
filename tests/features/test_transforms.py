"""Features finished from state: known answers, null meaning, and one query equal to many."""

from collections.abc import Callable
from math import log

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.clock import DAY_US, HOUR_US
from contracts.events import UTC_US, EventType
from contracts.policy import FAMILIES
from contracts.tables import FOLLOWS_SCHEMA
from features.event_arrays import EventArrays
from features.frames import FeatureFrames, replay
from features.state import FeatureState
from features.views import FEATURES

E = EventType
ANN, BOB, CAT = 1, 2, 3
OLD, NEW, ORPHAN = 11, 12, 13


def named(
    state: FeatureState,
    viewer_id: int,
    post_ids: list[int],
    now: int,
    scores: NDArray[np.float32] | None = None,
):
    """Finish one viewer's features as {name: values [n]}."""
    viewers, times = state.people.slots_of(np.array([viewer_id])), np.array([now])
    block = state.block(viewers, times, state.histories.get(viewers))
    slots = state.posts.slots_of(np.array(post_ids))[None]
    if scores is None:
        scores = np.zeros((len(post_ids), len(FAMILIES)), np.float32)
    return dict(zip(FEATURES, state.features(block, slots, scores[None])[0].T, strict=True))


@pytest.fixture
def small(
    t0: int,
    log_of: Callable[..., pa.Table],
    posts_of: Callable[..., pa.Table],
    people_of: Callable[..., pa.Table],
):
    """Ann follows Bob; Bob wrote OLD (topics 5, 6) and NEW (topic 6), nobody wrote ORPHAN."""
    day = t0 + DAY_US
    events = log_of(
        [
            (E.IMPRESSION, ANN, OLD, None, day, day),
            (E.CLICK, ANN, OLD, None, day, day),
            (E.LIKE, ANN, OLD, None, day, day),
            (E.LIKE, CAT, OLD, None, day, day),
            (E.HIDE, CAT, NEW, None, day, day),
        ]
    )
    follows = pa.table(
        {"follower_id": [ANN], "followee_id": [BOB], "since": pa.array([t0]).cast(UTC_US)},
        schema=FOLLOWS_SCHEMA,
    )
    texts = ["what is https://x.y", "two words", ""]
    posts = posts_of(
        [OLD, NEW, ORPHAN], [BOB, BOB, None], [[5, 6], [6], []], [t0, t0 + HOUR_US, t0], texts
    )
    return replay(FeatureFrames(events, posts, people_of([ANN, BOB, CAT]), follows))


def test_every_feature_has_its_known_answer(small: FeatureState, t0: int) -> None:
    now = t0 + DAY_US + 7 * DAY_US  # one half-life after everything
    got = named(small, ANN, [OLD], now, np.array([[0.1, 0.2, np.nan, 0.3]], np.float32))
    week_two = log(1 + 2 * 0.5)
    expected = {
        "post_age": log(1 + 8 * 24),
        "post_positive_6h": log(1 + 3 * 2**-28),
        "post_click_7d": log(1.5), "post_like_7d": week_two, "post_comment_7d": 0.0,
        "post_repost_7d": 0.0, "post_save_7d": 0.0, "post_negative_7d": 0.0,
        "post_impression_7d": log(1.5),
        "post_click_all": log(2), "post_like_all": log(3), "post_impression_all": log(2),
        "post_positive_24h": 0.0,
        "post_positive_rate": (1 + 1.5) / (20 + 0.5),
        "post_text_length": log(20), "post_text_words": log(4), "post_topics": 2.0,
        "post_has_question": 0.0, "post_has_url": 1.0,
        "author_followers": log(2), "author_positive_7d": log(2.5),
        "author_negative_rate": 0.5 / (10 + 1.5 + 0.5),
        "author_posts_7d": log(1 + 2**-(8 / 7) + 2**-((8 * 24 - 1) / (7 * 24))),
        "viewer_click_7d": log(1.5), "viewer_like_7d": log(1.5), "viewer_comment_7d": 0.0,
        "viewer_repost_7d": 0.0, "viewer_negative_7d": 0.0,
        "viewer_follows": log(2), "viewer_hours_since": log(1 + 7 * 24),
        "in_network": 1.0, "author_affinity": log(2), "author_hours_since": log(1 + 7 * 24),
        "author_seen_count": log(3), "topic_affinity": log(2), "topic_share": 1.0,
        "same_language": np.nan,  # the post says none
        "score_collaborative": 0.1, "score_content": 0.2, "score_deep": np.nan,
        "score_neighbours": 0.3,
    }  # fmt: skip
    assert list(expected) == list(FEATURES)
    assert {k: float(v[0]) for k, v in got.items()} == pytest.approx(
        expected, rel=2e-5, abs=1e-6, nan_ok=True
    )


def test_null_is_not_zero(small: FeatureState, t0: int) -> None:
    now = t0 + 2 * DAY_US
    got = named(small, CAT, [ORPHAN, NEW], now)
    nan = {name for name, values in got.items() if np.isnan(values[0])}
    assert nan == {
        "post_positive_rate", "author_followers", "author_positive_7d", "author_negative_rate",
        "author_posts_7d", "author_affinity", "author_hours_since", "author_seen_count",
        "topic_affinity", "topic_share",
    }  # fmt: skip
    assert got["in_network"].tolist() == [0.0, 0.0]
    assert got["same_language"].tolist() == [0.0, 1.0]
    assert got["post_negative_7d"][1] > 0.6
    assert got["post_like_7d"][1] == 0.0


def test_an_unknown_viewer_has_counts_of_zero_and_no_history(small: FeatureState, t0: int) -> None:
    got = named(small, 999, [OLD], t0 + 2 * DAY_US)
    zero = [f for f in FEATURES if f.startswith("viewer_") and f != "viewer_hours_since"]
    assert len(zero) == 6
    assert all(got[name][0] == 0.0 for name in [*zero, "author_affinity", "in_network"])
    assert np.isnan(got["viewer_hours_since"][0])
    assert np.isnan(got["topic_share"][0])
    assert np.isnan(got["same_language"][0])


def test_an_unknown_viewer_is_not_the_last_one(
    world: Callable[..., FeatureFrames], t0: int
) -> None:
    """Slot -1 must not read the last row, here of a full table."""
    state = replay(world(2, people=16))
    assert len(state.people.as_viewer.values) == len(state.people) == 16
    now = t0 + 13 * DAY_US
    got = [named(state, viewer, [17], now)["viewer_click_7d"][0] for viewer in (16, 999)]
    assert got[0] > 0.0
    assert got[1] == 0.0


def test_an_author_never_acted_on_counts_zero_and_has_no_hours(
    small: FeatureState, t0: int, posts_of: Callable[..., pa.Table]
) -> None:
    small.add_posts(posts_of([14], [CAT], [[9]], [t0]))
    got = named(small, ANN, [14, OLD], t0 + 2 * DAY_US)
    assert got["author_affinity"][0] == got["author_seen_count"][0] == got["in_network"][0] == 0.0
    assert np.isnan(got["author_hours_since"][0])
    assert got["topic_affinity"][0] == got["topic_share"][0] == 0.0
    assert got["author_hours_since"][1] > 0.0


def test_only_the_first_four_topics_count(
    small: FeatureState, t0: int, posts_of: Callable[..., pa.Table]
) -> None:
    small.add_posts(posts_of([15], [CAT], [[7, 8, 9, 10, 5, 6]], [t0]))
    got = named(small, ANN, [15], t0 + 2 * DAY_US)
    assert got["post_topics"][0] == 4.0
    assert got["topic_affinity"][0] == 0.0  # Ann's topics stand fifth and sixth


def test_an_unknown_post_is_all_null_and_disturbs_nobody(small: FeatureState, t0: int) -> None:
    now = t0 + 2 * DAY_US
    got = named(small, ANN, [OLD, 777, NEW], now)
    alone = named(small, ANN, [NEW], now)
    assert all(np.isnan(values[1]) for values in got.values())
    assert all(got[f][2] == pytest.approx(alone[f][0], nan_ok=True, abs=0) for f in FEATURES)


def test_state_without_posts_gives_nulls() -> None:
    state = FeatureState()
    got = named(state, 1, [5, 6], 10)
    assert all(np.isnan(values).all() for values in got.values())


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_many_queries_equal_one_at_a_time(world: Callable[..., FeatureFrames], seed: int) -> None:
    frames = world(seed)
    state = replay(frames)
    rng = np.random.default_rng(seed)
    viewers = rng.integers(-1, len(state.people), 9)
    times = frames.events.column("event_time").cast(pa.int64()).to_numpy()[-1] + rng.integers(
        0, DAY_US, 9
    )
    slots = rng.integers(-1, len(state.posts), (9, 7))
    scores = rng.random((9, 7, len(FAMILIES)), dtype=np.float32)
    together = state.features(
        state.block(viewers, times, state.histories.get(viewers)), slots, scores
    )
    for q in range(9):
        one = slice(q, q + 1)
        block = state.block(viewers[one], times[one], state.histories.get(viewers[one]))
        single = state.features(block, slots[one], scores[one])
        assert np.array_equal(single[0], together[q], equal_nan=True)


def test_a_bound_on_memory_cuts_the_queries_and_not_the_values(
    world: Callable[..., FeatureFrames], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = replay(world(5))
    viewers, now = np.arange(8), np.full(8, 1_701_000_000_000_000)
    slots = np.tile(np.arange(6), (8, 1))
    block = state.block(viewers, now, state.histories.get(viewers))
    whole = state.features(block, slots, np.zeros((8, 6, len(FAMILIES)), np.float32))
    monkeypatch.setattr("features.state._BLOCK_BYTES", 1)
    cut = state.features(block, slots, np.zeros((8, 6, len(FAMILIES)), np.float32))
    assert np.array_equal(whole, cut, equal_nan=True)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 50))
def test_stream_and_batch_give_one_state(
    world: Callable[..., FeatureFrames], seed: int, size: int
) -> None:
    frames = world(seed, events=150)
    batch = replay(frames)
    stream = replay(FeatureFrames(frames.events.slice(0, 0), frames.posts, frames.people))
    stream.ensure_people(np.arange(1, 13))
    events = EventArrays.of(frames.events, stream.people.index, stream.posts.index)
    for start in range(0, len(events), size):
        stream.count(events[start : start + size])
    now = int(events.visible_us.max()) + DAY_US
    for one, other, n in (
        (batch.posts.counters, stream.posts.counters, len(batch.posts)),
        (batch.people.as_viewer, stream.people.as_viewer, len(batch.people)),
        (batch.people.as_author, stream.people.as_author, len(batch.people)),
    ):
        rows = np.arange(n)
        assert one.exact(rows, now) == pytest.approx(other.exact(rows, now), abs=1e-9)
    assert np.array_equal(batch.posts.window.read(rows, now), stream.posts.window.read(rows, now))

"""The certificate's parts: comparison, verdict, the walk to past moments, planted rows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.clock import DAY_US, HOUR_US
from contracts.events import UTC_US, EventType
from features.certificate import (
    CERTIFICATE_FILE,
    Asked,
    Certificate,
    Check,
    Pairs,
    code_hash,
    read_certificate,
    tolerance_steps,
)
from features.event_arrays import int_column, visible_from
from features.frames import FeatureFrames
from features.live_walk import (
    Moments,
    choose,
    known_at,
    met_too_early,
    served,
    start_serving,
    walk,
)
from features.offline import asof_join, training_features
from features.planting import SCENARIOS, check_join, newest_known, plant
from features.views import FAMILY_FEATURES, FEATURE_HASH, FEATURES, POST_VIEW
from features.workspace import Workspace

MakeWorld = Callable[..., FeatureFrames]
Fill = Callable[[Path, FeatureFrames], Workspace]


def pairs_of(served: np.ndarray, offline: np.ndarray) -> Pairs:
    n = len(served)
    return Pairs(
        np.arange(n) + 1, np.arange(n) + 100, np.full(n, DAY_US), served.astype(np.float16),
        offline.astype(np.float16),
    )  # fmt: skip


def column(name: str) -> int:
    return FEATURES.index(name)


def test_what_never_decays_is_exact_and_sums_may_be_a_step_apart() -> None:
    steps = dict(zip(FEATURES, tolerance_steps().tolist(), strict=True))
    for name in ("post_age", "post_like_all", "author_followers", "in_network", "score_deep"):
        assert steps[name] == 0
    for name in ("post_like_7d", "author_negative_rate", "author_affinity", "topic_share"):
        assert steps[name] == 1


def test_values_are_compared_in_float16_steps() -> None:
    left = np.full((4, len(FEATURES)), 1.0)
    right = left.copy()
    one_step = np.nextafter(np.float16(1.0), np.float16(2.0))
    right[0, column("post_like_7d")] = one_step
    right[1, column("post_like_all")] = one_step
    found = pairs_of(left, right)
    rows = {row.feature: row for row in found.rows()}
    assert (rows["post_like_7d"].different, rows["post_like_7d"].beyond) == (1, 0)
    assert (rows["post_like_all"].different, rows["post_like_all"].beyond) == (1, 1)
    assert rows["post_like_all"].max_abs == pytest.approx(2**-10)
    assert rows["post_like_all"].mean_abs == pytest.approx(2**-12)
    assert rows["post_age"].present == 4
    check = found.check("one")
    assert (check.compared, check.wrong, check.holds) == (4 * len(FEATURES), 1, False)
    for said in (
        "post_like_all differs in 1 of 4",
        "viewer 2, post 101",
        "served 1, offline 1.001",
    ):
        assert said in check.why


def test_null_equals_null_and_nothing_else() -> None:
    left = np.full((3, len(FEATURES)), np.nan)
    right = left.copy()
    assert pairs_of(left, right).check("same").holds
    right[2, column("post_like_7d")] = 0.0
    check = pairs_of(left, right).check("other")
    assert check.wrong == 1
    assert "served nan, offline 0" in check.why


@given(st.lists(st.floats(width=16, allow_infinity=False, allow_nan=False), min_size=1))
def test_a_step_is_the_next_float16(values: list[float]) -> None:
    left = np.zeros((len(values), len(FEATURES)), np.float16)
    left[:, 1] = values
    right = left.copy()
    right[:, 1] = np.nextafter(left[:, 1], np.float16(-np.inf))
    inside = np.isfinite(right[:, 1])
    left[~inside], right[~inside] = 0, 0
    row = pairs_of(left, right).rows()[1]
    assert (row.different, row.beyond) == (int(inside.sum()), 0)


def certificate_of(checks: list[Check]) -> Certificate:
    rows = pairs_of(np.ones((2, len(FEATURES))), np.ones((2, len(FEATURES)))).rows()
    return Certificate(
        FEATURE_HASH, "code", (1, 50), "2026-01-01T00:00:00+00:00", 20, 0.1, {}, rows, checks
    )


def test_a_certificate_is_red_for_each_broken_or_empty_promise(tmp_path: Path) -> None:
    held = certificate_of([Check("a", 3, 0)])
    assert held.green
    red = certificate_of([Check("a", 3, 0), Check("b", 3, 1, "x differs"), Check("c", 0, 0)])
    assert red.reasons == ["b: x differs", "c: nothing was compared"]
    assert not certificate_of([]).green
    red.write(tmp_path)
    stored = json.loads((tmp_path / CERTIFICATE_FILE).read_text())
    assert stored["green"] is False
    assert [row["feature"] for row in stored["features"]] == list(FEATURES)


def test_a_stored_certificate_vouches_for_its_code_and_log_alone(tmp_path: Path) -> None:
    assert read_certificate(tmp_path) is None
    certificate_of([Check("a", 3, 0)]).write(tmp_path)
    held = read_certificate(tmp_path)
    assert held is not None
    assert held.missing_for("code", 50) == ""
    assert "has changed since" in held.missing_for("other", 50)
    assert "ends at event 50, the bundle learnt up to 51" in held.missing_for("code", 51)
    assert "of the features abc" in held._replace(feature_hash="abc").missing_for("code", 1)
    assert held._replace(green=False).missing_for("code", 1) == "it is red"
    (tmp_path / CERTIFICATE_FILE).write_text("{")
    assert read_certificate(tmp_path) is None


def test_the_code_hash_tells_files_apart(tmp_path: Path) -> None:
    for name, text in (("a.py", "1"), ("b.py", "2")):
        (tmp_path / name).write_text(text)
    both = [tmp_path / "a.py", tmp_path / "b.py"]
    first = code_hash(both)
    assert code_hash(both[::-1]) == first
    (tmp_path / "b.py").write_text("3")
    assert code_hash(both) != first


def test_known_at_is_what_the_platform_could_know(world: MakeWorld) -> None:
    frames = world(3)
    moments = Moments.of(frames)
    assert moments.start_us < moments.half_us < moments.late_us <= moments.end_us
    events = known_at(frames, moments.half_us).events
    visible = visible_from(
        int_column(frames.events, "event_time"), int_column(frames.events, "known_time")
    )
    assert events.num_rows == int((visible <= moments.half_us).sum())
    assert known_at(frames, moments.end_us).events.num_rows == frames.events.num_rows


def test_a_walked_cache_is_what_training_recomputes(
    tmp_path: Path, world: MakeWorld, filled: Fill
) -> None:
    frames = world(4, events=600)
    rng = np.random.default_rng(1)
    with filled(tmp_path, frames) as workspace:
        frames = FeatureFrames.read(workspace)
        moments = Moments.of(frames)
        steps = list(moments)
        for now_us, cache in zip(steps[1:], walk(workspace, frames, steps), strict=True):
            asked = choose(frames, now_us, 12, 20, rng)
            offline = asked.offline(training_features, frames)
            found = Pairs.of(asked, served(cache, asked), offline)
            assert found.check("walk").holds, found.check("walk").why
            assert len(found.viewers) == asked.posts.size


def test_erased_people_are_known_to_neither_side(
    tmp_path: Path, world: MakeWorld, filled: Fill, log_of: Callable[..., pa.Table]
) -> None:
    frames = world(5, events=500)
    end = int(int_column(frames.events, "known_time").max()) + 1
    gone = log_of([(EventType.PERSON_ERASED, 4, None, None, end, end)], first_seq=10_000)
    events = pa.concat_tables([frames.events, gone])
    kept = [int_column(frames.follows, name) != 4 for name in ("follower_id", "followee_id")]
    follows = frames.follows.filter(pa.array(kept[0] & kept[1]))
    with filled(tmp_path, replace(frames, events=events, follows=follows)) as workspace:
        frames = FeatureFrames.read(workspace)
        steps = list(Moments.of(frames))
        for now_us, cache in zip(steps[1:], walk(workspace, frames, steps), strict=True):
            asked = choose(frames, now_us, 12, 20, np.random.default_rng(2))
            assert 4 not in asked.viewers
            offline = asked.offline(training_features, frames)
            check = Pairs.of(asked, served(cache, asked), offline).check("walk")
            assert check.holds, check.why


def test_chosen_posts_are_made_by_then_and_changing_ones_left_out(world: MakeWorld) -> None:
    frames = world(6)
    now_us = Moments.of(frames).half_us
    changing = np.array([2, 15])
    asked = choose(frames, now_us, 30, 20, np.random.default_rng(0), changing)
    made = int_column(frames.posts, "created") < now_us
    ids, authors = (int_column(frames.posts, name) for name in ("post_id", "author_id"))
    assert np.isin(asked.posts, ids[made & (authors != 2) & (ids != 15)]).all()
    assert 2 not in asked.viewers
    assert len(asked.viewers) >= 10
    assert asked.viewers[-1] not in int_column(frames.people, "person_id")


def test_posts_that_are_met_before_they_are_made_are_marked(
    t0: int, log_of: Callable[..., pa.Table], posts_of: Callable[..., pa.Table]
) -> None:
    posts = posts_of([13, 11, 12], [1, 1, 2], [[], [], []], [t0 + 9, t0 + 5, t0])
    happened = [(EventType.LIKE, 3, post, None, t0 + 5, t0 + 5) for post in (11, 12, 13, 99)]
    frames = FeatureFrames(log_of(happened), posts)
    assert met_too_early(frames).tolist() == [True, False, False]


def test_planted_labels_stand_as_their_scenario_says(world: MakeWorld) -> None:
    frames = world(7)
    moments = Moments.of(frames)
    now, until = moments.half_us, moments.late_us
    asked = choose(frames, now, 10, 8, np.random.default_rng(0))
    planted = plant(frames, asked, until, np.random.default_rng(0))
    new = planted.frames.events.slice(frames.events.num_rows)
    happened, known = int_column(new, "event_time"), int_column(new, "known_time")
    visible = visible_from(happened, known)
    assert (visible <= until).all()
    by_query = {int(v): int(s) for v, s in zip(asked.viewers, planted.scenarios, strict=True)}
    viewers = int_column(new, "viewer_id")
    # Each viewer asks once here, but may be a stranger elsewhere: look at the follows it planted.
    rules = (
        (happened < now) & (known > now), (happened == now) & (known == now), happened > now,
        known < now, (happened == now - 1) & (known == now),
    )  # fmt: skip
    stands = np.select(rules, range(5), default=-1)
    assert set(stands.tolist()) == set(range(len(SCENARIOS)))
    assert (np.isin(stands, (0, 1, 2)) == (visible > now)).all()
    nobody = int(asked.viewers[-1])
    assert set(stands[viewers == nobody].tolist()) == {by_query[nobody]}
    undone = np.isin(new.column("type").to_numpy(), (EventType.UNLIKE, EventType.UNFOLLOW))
    assert set(stands[undone].tolist()) == {3}


rows = st.tuples(st.integers(1, 3), st.integers(0, 12), st.integers(0, 6))


@given(
    st.sets(rows, min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 20))),
)
def test_the_definition_is_the_definition(
    held: set[tuple[int, int, int]], labels: list[tuple[int, int]]
) -> None:
    table = sorted(held)
    whose, times, lags = np.array(table).T
    asked = np.array(labels, np.int64).reshape(-1, 2)
    found = newest_known((whose, times, times + lags), (asked[:, 0], asked[:, 1]))
    for at, (who, now) in zip(found.tolist(), labels, strict=True):
        known = [(t, t + lag, k) for k, (w, t, lag) in enumerate(table)
                 if w == who and t <= now and t + lag <= now]  # fmt: skip
        assert at == (max(known)[2] if known else -1)


def joined_at(shift: int) -> Callable[..., np.ndarray]:
    return lambda ids, times, table, columns, *, key: asof_join(
        ids, times + shift, table, columns, key=key
    )


def ignoring_known_time(ids, times, table, columns, *, key):
    known = table.column_names.index("created_timestamp")
    table = table.set_column(known, "created_timestamp", table.column("event_timestamp"))
    return asof_join(ids, times, table, columns, key=key)


def ignoring_the_entity(ids, times, table, columns, *, key):
    same = table.set_column(0, key, pa.array(np.ones(table.num_rows, np.int64)))
    return asof_join(np.ones_like(ids), times, same, columns, key=key)


def next_row(ids, times, table, columns, *, key):
    """Take the first row at or after the label: the same join with time running backwards."""

    def back(name: str) -> pa.Array:
        return pa.array(-int_column(table, name)).cast(UTC_US)

    turned = table.set_column(1, "event_timestamp", back("event_timestamp"))
    turned = turned.set_column(2, "created_timestamp", back("event_timestamp"))
    return asof_join(ids, -times, turned, columns, key=key)


def many_to_many(ids, times, table, columns, *, key):
    """Keep every row that shares the newest known time, as a join in SQL would."""
    found = asof_join(ids, times, table, columns, key=key)
    twins = np.unique(table.column(columns[0]).to_numpy(), return_counts=True)
    again = twins[0][twins[1] > 1]
    return np.concatenate([found, found[np.isin(found[:, 0], again)]])


@pytest.mark.parametrize(
    ("join", "said"),
    [
        (ignoring_known_time, "before it was known"),
        (joined_at(-1), "older than the newest known"),
        (joined_at(1), "later arrives|before it was known"),
        (next_row, "later arrives"),
        (ignoring_the_entity, "a row of post_id"),
        (many_to_many, "the join fans out"),
    ],
)
def test_a_broken_join_is_named(join: Callable[..., np.ndarray], said: str) -> None:
    entities = np.arange(20, 60)
    rng = np.random.default_rng(3)
    now = 30 * DAY_US + 7 * HOUR_US
    assert check_join(POST_VIEW, entities, now, rng=rng).holds
    check = check_join(POST_VIEW, entities, now, join, rng=rng)
    assert not check.holds
    assert any(word in check.why for word in said.split("|")), check.why


class ServedRows(NamedTuple):
    """What R decision records hold: [R], [R], the place in the log [R], [R, C], [R, C, F]."""

    viewers: np.ndarray
    now_us: np.ndarray
    log_seqs: np.ndarray
    posts: np.ndarray
    features: np.ndarray


def record_pairs(frames: FeatureFrames, served: ServedRows) -> Pairs:
    """Recompute what records hold, each as of its moment and its place in the log."""
    seqs = int_column(frames.events, "seq")
    scores = served.features[:, :, -len(FAMILY_FEATURES) :].astype(np.float32)
    parts = []
    for r in range(len(served.viewers)):
        one = slice(r, r + 1)
        asked = Asked(int(served.now_us[r]), served.viewers[one], served.posts[one], scores[one])
        applied = frames.events.filter(pa.array(seqs <= served.log_seqs[r]))
        offline = asked.offline(training_features, replace(frames, events=applied))
        parts.append(Pairs.of(asked, served.features[one], offline))
    return Pairs.merged(parts)


def test_records_are_recomputed_as_of_their_place_in_the_log(
    tmp_path: Path, world: MakeWorld, filled: Fill
) -> None:
    with filled(tmp_path, world(8, events=500)) as workspace:
        frames = FeatureFrames.read(workspace)
        rng = np.random.default_rng(4)
        parts = []
        for seq in (200, 350, 500):
            upto = FeatureFrames.read(workspace, up_to_seq=seq)
            now = Moments.of(upto).end_us
            asked = choose(upto, now, 10, 20, rng)
            parts.append((asked, served(start_serving(upto), asked), seq))
        held = ServedRows(
            np.concatenate([a.viewers for a, _, _ in parts]),
            np.concatenate([a.moments_us for a, _, _ in parts]),
            np.repeat([s for _, _, s in parts], [len(a.viewers) for a, _, _ in parts]),
            np.concatenate([a.posts for a, _, _ in parts]),
            np.concatenate([f for _, f, _ in parts]),
        )
    check = record_pairs(frames, held).check("records")
    assert check.holds, check.why
    moved = held._replace(log_seqs=held.log_seqs - 60)
    assert not record_pairs(frames, moved).check("records").holds

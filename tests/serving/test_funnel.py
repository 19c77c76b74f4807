"""The funnel: sums over real feeds re-added by hand, calibration, recall, lag."""

import shutil
from dataclasses import replace
from itertools import count
from threading import Thread
from time import monotonic, sleep

import numpy as np
import pyarrow as pa
import pytest

import serving.watching.recall
from contracts.clock import SECOND_US, now_us, to_datetime
from contracts.degrade import DegradeLevel, DegradeReason, RemovalReason, SourceName
from contracts.events import EVENT_SCHEMA, LOG_SCHEMA, EventType
from contracts.ids import FeedId, Namespace, UserId, hash63
from contracts.policy import ACTIONS, Action
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from models.manifest import Manifest
from serving.aside import Aside
from serving.columns import POST_ID, SOURCES
from serving.opening import open_service
from serving.watching.calibration import WINDOW_US, CalibrationWatch
from serving.watching.feed_sums import PERSONAL, FeedFacts, FeedSums
from serving.watching.recall import best_live, blended

FEEDS = count(1)
NOW = 1_700_000_000 * SECOND_US


@pytest.fixture(scope="module")
def workspace(small_home, tmp_path_factory):
    home = shutil.copytree(small_home, tmp_path_factory.mktemp("funnel") / "home")
    with Workspace.open(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def service(workspace):
    settings = Settings(home=workspace.home, recall_share=0.0).unhurried()
    opened = open_service(workspace, settings, start=False)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def feeds(workspace, service):
    """Feeds of thirty viewers, with their snapshots."""
    champion = service._lineup.champion
    viewers = workspace.ids.all(Namespace.PERSON)[0][:30].tolist()
    queries = [FeedQuery(FeedId(next(FEEDS)), UserId(v), now_us(), 20) for v in viewers]
    return [service._rank_or_fall(champion, query) for query in queries]


def summed(feeds, window=2000):
    sums = FeedSums(window)
    for snapshot, ranked in feeds:
        sums.add(FeedFacts.of(snapshot, ranked))
    return sums


# Sums


def test_the_report_is_what_one_adds_by_hand(feeds):
    report = summed(feeds).report()
    assert (report.feeds, report.ranked, report.levels) == (30, 30, {"full": 30})
    slate_masks = [r.candidates[SOURCES][r.selected.slate] for _, r in feeds]
    for source in SourceName:
        if source is SourceName.CALLER:
            continue
        found = sum(r.trace.source_yield.get(source, 0) for _, r in feeds)
        reached = sum(int((masks & source.bit > 0).sum()) for masks in slate_masks)
        assert report.sources[source].found == pytest.approx(found / 30)
        assert report.sources[source].reached == pytest.approx(reached / 30)
        assert report.since_start.reached.get(source, 0) == reached
    personal = sum(source.bit for source in PERSONAL)
    shares = np.concatenate(slate_masks) & personal > 0
    assert report.personalised == pytest.approx(shares.mean())
    for reason in RemovalReason:
        rows = sum(int((r.removed.reasons == reason).sum()) for _, r in feeds)
        assert report.removed.get(reason.word, 0.0) == pytest.approx(rows / 30)
    entered = sum(len(r.candidates) + len(r.removed.post_ids) for _, r in feeds)
    assert report.candidates == pytest.approx(entered / 30)
    assert report.slate == pytest.approx(np.mean([len(r.selected.slate) for _, r in feeds]))
    assert report.followed == pytest.approx(np.mean([s.followed_share for s, _ in feeds]))
    times = np.array([r.trace.stage_us["score"] for _, r in feeds])
    assert report.stages["score"].p95_us == pytest.approx(np.percentile(times, 95))
    assert report.since_start.stage_seconds["score"] == pytest.approx(times.sum() / 1e6)
    assert sum(report.since_start.stage_counts["score"]) == 30


def test_the_window_forgets_and_the_totals_do_not(feeds):
    report = summed(feeds, window=7).report()
    last = summed(feeds[-7:]).report()
    of_floats = {name: getattr(last, name) for name in ("since_start", "followed", "kept_value")}
    assert report.model_copy(update=of_floats) == last
    assert report.kept_value == pytest.approx(last.kept_value)
    assert report.since_start == summed(feeds).report().since_start


def test_a_feed_of_the_ladder_counts_by_level_and_reason_alone(feeds):
    sums = summed(feeds[:2])
    snapshot = replace(
        feeds[0][0], level=DegradeLevel.CACHED, degrade_reasons=(DegradeReason.FEED_FAILED,)
    )
    before = sums.report()
    sums.add(FeedFacts.of(snapshot, None))
    report = sums.report()
    assert report.levels == {"full": 2, "cached": 1}
    assert report.reasons == {"feed_failed": 1}
    assert (report.feeds, report.ranked) == (3, 2)
    assert (report.sources, report.stages) == (before.sources, before.stages)


def test_a_component_counts_once_a_feed(feeds):
    sums = FeedSums(3)
    for failures in (("deep: a", "deep: b", "own: c"), ("deep: took 50 ms",), (), ("own: c",)):
        sums.add(FeedFacts.of(*feeds[0]), failures)
    assert sums.report().failed == {"deep": 1, "own": 1}  # the first has left the window


def test_a_source_is_empty_only_where_it_should_give(feeds):
    snapshot, ranked = next(feed for feed in feeds if len(feed[1].context.recent_slots))
    facts = FeedFacts.of(snapshot, ranked)
    nothing = dict.fromkeys(facts.found, 0)
    for warm, follows, expected in (
        (True, True, {*PERSONAL, "trending", "fresh"}),
        (False, True, {"in_network", "trending", "fresh"}),
        (False, False, {"trending", "fresh"}),
    ):
        sums = FeedSums()
        sums.add(replace(facts, found=nothing, warm=warm, follows=follows))
        flows = sums.report().sources
        assert {name for name, flow in flows.items() if flow.empty} == expected
    sums = FeedSums()
    sums.add(replace(facts, found={"trending": 0}))
    assert [n for n, flow in sums.report().sources.items() if flow.asked] == ["trending"]


def test_threads_lose_no_feed(feeds):
    sums = FeedSums()
    facts = [FeedFacts.of(*feed) for feed in feeds]
    threads = [Thread(target=lambda: [sums.add(f) for f in facts]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = sums.report()
    assert (report.feeds, report.since_start.feeds) == (120, 120)
    assert report.removed == pytest.approx(summed(feeds).report().removed)


def test_nothing_yet_is_a_report_too():
    report = FeedSums().report()
    assert (report.feeds, report.personalised, report.stages) == (0, None, {})


# Calibration


def events(*rows):
    """(feed, post, type) rows of the log."""
    at = to_datetime(NOW)
    made = [
        {
            "event_id": number, "type": int(kind), "viewer_id": 1, "post_id": post,
            "target_id": None, "event_time": at, "known_time": at, "known_assumed": False,
            "value": None, "feed_id": feed, "position": None,
        }
        for number, (feed, post, kind) in enumerate(rows)
    ]  # fmt: skip
    table = pa.Table.from_pylist(made, schema=EVENT_SCHEMA)
    return table.add_column(0, LOG_SCHEMA.field(0), pa.array(range(len(made)), pa.int64()))


def predictions(*clicks):
    found = np.zeros((len(clicks), len(ACTIONS)), dtype=np.float32)
    found[:, ACTIONS.index(Action.CLICK)] = clicks
    return found


@pytest.fixture
def manifest(service) -> Manifest:
    manifest = service._lineup.champion.runtime.bundle.manifest
    metrics = {"click.rate": 0.1, "click.ece": 0.02}
    return manifest.model_copy(update={"calibrated": True, "ranker_metrics": metrics})


def click_sums(watch, manifest):
    part = watch.report(manifest)["click"]
    return part.impressions, pytest.approx(part.expected), part.observed


def test_what_was_shown_is_compared_with_what_happened(manifest):
    watch = CalibrationWatch()
    posts = np.array([11, 12, 13])
    watch.serve("b", (7, NOW), posts, predictions(0.5, 0.25, 0.125))
    watch.serve("b", (8, NOW), posts, predictions(0.5, 0.5, 0.5))
    click, shown = EventType.CLICK, EventType.IMPRESSION
    watch.observe(
        events(
            (7, 11, shown), (7, 12, shown), (7, 11, click), (7, 11, click),  # one click, twice told
            (7, 13, click),  # never shown
            (9, 11, shown), (None, 11, shown), (7, 99, shown), (7, 11, EventType.DWELL),
        )
    )  # fmt: skip
    assert click_sums(watch, manifest) == (0, 0.0, 0)
    watch.serve("b", (10, NOW + WINDOW_US), posts, predictions(0.1, 0.1, 0.1))
    assert click_sums(watch, manifest) == (2, 0.75, 1)
    assert watch.report(manifest)["click"].tolerance == pytest.approx(1.2)
    assert watch.report(manifest)["like"].tolerance == 1.0
    assert watch.report(manifest.model_copy(update={"calibrated": False})) == {}


def test_another_bundle_starts_anew_and_full_means_wait(manifest):
    watch = CalibrationWatch(feeds=2, posts=1)
    shown = EventType.IMPRESSION
    for feed in (1, 2, 3):  # the third finds no place
        watch.serve("b", (feed, NOW), np.array([11, 12]), predictions(0.5, 0.5))
    watch.observe(events((1, 11, shown), (1, 12, shown), (2, 11, shown), (3, 11, shown)))
    watch.serve("b", (4, NOW + WINDOW_US), np.array([11]), predictions(0.5))
    assert click_sums(watch, manifest) == (2, 1.0, 0)  # the second post of a feed is not kept
    watch.observe(events((4, 11, shown)))
    watch.serve("c", (5, NOW + 3 * WINDOW_US), np.array([11]), predictions(0.5))
    assert click_sums(watch, manifest) == (0, 0.0, 0)


# Recall


def test_recall_is_the_share_of_the_best_that_were_candidates(service, feeds):
    """Half of the candidates are taken away: what is missing then is known exactly."""
    probe, champion = service._funnel._recall, service._lineup.champion
    for _, ranked in feeds[:3]:
        if not ranked.context.vectors:
            continue
        probe._found.clear()
        probe._search(serving.watching.recall._Served(champion, ranked))
        found = probe.report().mean
        assert found > 0.7  # 500 posts: the sources find nearly all; 0.83 was the least of 420
        order = ranked.candidates[POST_ID][np.argsort(-ranked.ledger.value, kind="stable")]
        worst = np.isin(ranked.candidates[POST_ID], order[50:])
        probe._found.clear()
        probe._search(
            serving.watching.recall._Served(
                champion, replace(ranked, candidates=ranked.candidates.take(worst))
            )
        )
        assert probe.report().mean == pytest.approx(found - 0.5, abs=0.05)


def test_of_many_posts_the_best_by_blend_are_searched(service, feeds, monkeypatch):
    runtime = service._lineup.champion.runtime
    ranked = next(ranked for _, ranked in feeds if ranked.context.vectors)
    blend = blended(runtime, ranked.context)
    everything = best_live(runtime, blend, np.empty(0, np.int64))
    assert len(everything) == (~runtime.cache.posts.deleted[: len(runtime.cache.posts)]).sum()
    monkeypatch.setattr(serving.watching.recall, "SCORED", 20)
    also = np.array([3, 5])
    few = best_live(runtime, blend, also)
    assert 20 <= len(few) <= 22
    assert np.isin(also, few).all()
    others = np.setdiff1d(runtime.slot_of_row[: len(blend)], few)
    rows = runtime.rows_of(np.setdiff1d(few, also)), runtime.rows_of(others)
    known = blend[rows[1]][np.isfinite(blend[rows[1]])]
    assert blend[rows[0]].min() >= known.max()


def test_only_the_sampled_share_is_searched(service, feeds, monkeypatch):
    probe, champion = service._funnel._recall, service._lineup.champion
    taken = []
    monkeypatch.setattr(probe.aside, "offer", taken.append)
    full = [ranked for _, ranked in feeds if ranked.context.vectors]
    for share, expected in ((0.0, 0), (1.0, len(full))):
        monkeypatch.setattr(probe, "_share", share)
        taken.clear()
        for _, ranked in feeds:
            probe.offer(champion, ranked)
        assert len(taken) == expected
    full[0].trace.level = DegradeLevel.NO_DEEP
    taken.clear()
    probe.offer(champion, full[0])
    assert not taken


def test_a_sample_is_by_feed_and_of_the_size_that_is_asked_for():
    ids = [hash63("feed", number) for number in range(50_000)]
    ids += [(number << 21) + 5 for number in range(50_000)]  # a feed a millisecond
    for share in (0.002, 0.3):
        drawn = [feed for feed in ids if serving.watching.recall.sampled(feed, share)]
        assert len(drawn) == pytest.approx(share * len(ids), rel=0.2)
    assert not serving.watching.recall.sampled(ids[0], 0.0)
    assert all(serving.watching.recall.sampled(feed, 1.0) for feed in ids)


def test_work_aside_is_done_or_dropped_and_counted():
    done = []
    aside = Aside("test", done.append)
    for piece in range(20):
        aside.offer(piece)
    assert aside.dropped == 4
    aside.start()
    deadline = monotonic() + 10
    while len(done) < 16:
        assert monotonic() < deadline
        sleep(0.01)
    aside.stop()
    assert done == list(range(16))


# Lag


def test_lag_is_the_age_of_what_waits(small_home_copy):
    with Workspace.open(small_home_copy) as opened:
        service = open_service(opened, Settings(home=small_home_copy), start=False)
        funnel, applied = service._funnel, service._follower.applied_seq
        assert funnel._lag_seconds(applied) == 0.0
        viewer = opened.ids.all(Namespace.PERSON)[0][0]
        row = events((None, None, EventType.FOLLOW)).drop_columns(["seq"])
        row = row.set_column(2, "viewer_id", pa.array([viewer]))
        opened.log.append(row)
        sleep(0.05)
        lag = funnel._lag_seconds(applied)
        assert 0.05 <= lag < 60  # the event says 2023, but it waits no longer than we run
        service._follower.catch_up()
        assert service.health()["funnel"]["lag_seconds"] == 0.0
        assert service.health()["funnel"]["ahead_seconds"] < 0
        service.close()

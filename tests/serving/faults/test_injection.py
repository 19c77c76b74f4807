"""Each component of the home feed, broken and slow: level and reasons named, never empty."""

import shutil
from collections import Counter
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from benchmarks.injection import injections, stages_of, use_pipeline
from contracts.clock import now_us
from contracts.degrade import DegradeLevel
from contracts.ids import FeedId, UserId
from contracts.policy import fixed_blend
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from serving.breakers import OPENS_AFTER
from serving.components import Deadlines
from serving.opening import open_service
from serving.pipeline import FeedPipeline, StageFailed
from serving.trace import Trace

FULL, NO_DEEP, BLEND, CACHED = (
    DegradeLevel.FULL, DegradeLevel.NO_DEEP, DegradeLevel.FIXED_BLEND, DegradeLevel.CACHED
)  # fmt: skip
RAISES = {
    "viewer": (CACHED, "query_hydrator_failed"),
    "vector.collaborative": (FULL, "source_failed"),
    "vector.content": (FULL, "source_failed"),
    "vector.deep": (NO_DEEP, "deep_source_failed"),
    "vector.neighbours": (FULL, "source_failed"),
    "source.in_network": (FULL, "source_failed"),
    "source.collaborative": (FULL, "source_failed"),
    "source.deep": (NO_DEEP, "deep_source_failed"),
    "source.content": (FULL, "source_failed"),
    "source.item_to_item": (FULL, "source_failed"),
    "source.trending": (FULL, "source_failed"),
    "source.fresh": (FULL, "source_failed"),
    "source.follows_of_follows": (FULL, "source_failed"),
    "post": (CACHED, "feed_failed"),
    "viewer_state": (FULL, "viewer_state_failed"),
    "family_scores": (CACHED, "feed_failed"),
    "deleted": (CACHED, "filter_failed"),
    "own": (FULL, "filter_failed"),
    "blocked": (CACHED, "filter_failed"),
    "muted_author": (CACHED, "filter_failed"),
    "seen": (FULL, "filter_failed"),
    "served_this_session": (FULL, "filter_failed"),
    "too_old": (FULL, "filter_failed"),
    "language": (FULL, "filter_failed"),
    "inventory_holdout": (FULL, "filter_failed"),
    "visibility": (CACHED, "filter_failed"),
    "ensemble": (BLEND, "ranker_failed"),
    "fixed_blend": (CACHED, "ranker_failed"),
    "velocity": (CACHED, "ranker_failed"),
    "slate": (CACHED, "feed_failed"),
}
SLOW_SECONDS = 0.6
DEADLINES = Deadlines(feed_ms=500, component_ms=250, scorer_ms=250)
SLOW_AFTER_THE_CHECKS = {"ensemble": FULL, "fixed_blend": BLEND, "slate": FULL}
"""Nothing cheaper is left to fall to: the late answer is used."""
SLOW = [name for name in RAISES if name not in {*SLOW_AFTER_THE_CHECKS, "velocity"}]
FEEDS = count(1)
HOUR_US = 3600 * 10**6  # a feed an hour: what was served is not withheld any more


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time that passes where a fault sleeps, and nowhere else: no machine is too slow for it."""
    now_ns = [0]

    def sleep(seconds):
        now_ns[0] += round(seconds * 10**9)

    def trace(*given, **more):
        return Trace(*given, **{"started_ns": now_ns[0], **more})

    monkeypatch.setattr("benchmarks.injection.time", SimpleNamespace(sleep=sleep))
    for name in ("serving.pipeline", "serving.trace"):
        monkeypatch.setattr(f"{name}.perf_counter_ns", lambda: now_ns[0])
    monkeypatch.setattr("serving.pipeline.Trace", trace)


@pytest.fixture(scope="module")
def service(small_home, tmp_path_factory):
    home = shutil.copytree(small_home, tmp_path_factory.mktemp("faults") / "home")
    settings = Settings(home=home).unhurried()
    with Workspace.open(home) as workspace:
        opened = open_service(workspace, settings, start=False)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def stages(service):
    return stages_of(service)


@pytest.fixture(scope="module")
def viewer(small_home):
    with Workspace.open(small_home, read_only=True) as workspace:
        log = workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_pylist()
    return Counter(log).most_common(1)[0][0]


@pytest.fixture
def ask(service, stages, viewer):
    """Ask feeds of one viewer, who was served before anything broke."""

    def one(pipeline=None):
        if pipeline is not None:
            use_pipeline(service, pipeline)
        number = next(FEEDS)
        at = now_us() + number * HOUR_US
        return service.open(FeedQuery(FeedId(number), UserId(viewer), at, 20))

    healthy = one(FeedPipeline(stages, 10_000.0))
    assert (healthy.level, healthy.degrade_reasons) == (FULL, ())
    return one


def broken(stages, component, slow_seconds=None):
    found = [i.stages for i in injections(stages, slow_seconds) if i.component == component]
    assert len(found) == 1
    return found[0]


def test_every_component_is_injected(stages):
    assert [i.component for i in injections(stages)] == list(RAISES)


@pytest.mark.parametrize("component", RAISES)
def test_a_component_that_raises_is_named_and_soon_left_alone(service, stages, ask, component):
    pipeline = FeedPipeline(broken(stages, component), 10_000.0)
    level, reason = RAISES[component]
    for _ in range(OPENS_AFTER):
        page = ask(pipeline)
        assert (page.level, page.degrade_reasons) == (level, (reason,))
        assert len(page.items) == 20
    after = ask()
    assert (after.level, len(after.items)) == (level, 20)
    assert after.degrade_reasons[0] == reason
    unreached = component == "velocity"  # what it would stand in for has a better stand-in
    assert ("fixed_blend" if unreached else component) in pipeline.open_breakers


@pytest.mark.parametrize("component", SLOW)
def test_a_component_that_spends_the_budget_ends_the_ranking(stages, ask, component):
    page = ask(FeedPipeline(broken(stages, component, SLOW_SECONDS), 10_000.0, DEADLINES))
    assert page.level is CACHED
    assert "feed_deadline" in page.degrade_reasons
    assert len(page.items) == 20


@pytest.mark.parametrize("component", SLOW_AFTER_THE_CHECKS)
def test_a_late_answer_is_used_where_nothing_is_cheaper(stages, ask, component):
    page = ask(FeedPipeline(broken(stages, component, SLOW_SECONDS), 10_000.0, DEADLINES))
    assert page.level is SLOW_AFTER_THE_CHECKS[component]
    assert "component_slow" in page.degrade_reasons
    assert len(page.items) == 20


def test_a_slow_component_is_named_used_and_left_alone_after_five(stages, ask):
    deadlines = Deadlines(component_ms=100)
    pipeline = FeedPipeline(broken(stages, "source.fresh", 0.12), 10_000.0, deadlines)
    for _ in range(OPENS_AFTER):
        assert ask(pipeline).degrade_reasons == ("component_slow",)
    after = ask()
    assert after.degrade_reasons == ("source_failed", "breaker_open")
    assert after.level is FULL


def test_a_slow_source_costs_the_deep_one_its_turn_and_the_level_says_so(stages, ask):
    page = ask(FeedPipeline(broken(stages, "source.in_network", 0.12), 100.0))
    assert (page.level, page.degrade_reasons) == (NO_DEEP, ("source_deadline",))
    assert len(page.items) == 20


def test_with_most_of_the_budget_spent_the_ranker_is_left_out(stages, ask):
    pipeline = FeedPipeline(broken(stages, "post", 0.7), 10_000.0, Deadlines(feed_ms=1000))
    page = ask(pipeline)
    assert (page.level, page.degrade_reasons) == (BLEND, ("feed_deadline",))
    assert len(page.items) == 20


def test_what_a_failed_run_found_on_its_way_is_named_too(service, stages, viewer):
    both = replace(broken(stages, "vector.deep"), selector=broken(stages, "slate").selector)
    pipeline = FeedPipeline(both, 10_000.0)
    query = FeedQuery(FeedId(1), UserId(viewer), now_us(), 20)
    for _ in range(OPENS_AFTER + 1):
        with pytest.raises(StageFailed) as failed:
            pipeline.run(query, fixed_blend())
    assert failed.value.reasons == ("deep_source_failed", "breaker_open", "feed_failed")
    assert failed.value.reason == "feed_failed"

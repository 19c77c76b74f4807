"""The doctor over running services, broken for real: the first finding names the cause.

A healthy one comes first: whatever binds after that was put in.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from sqlite3 import connect
from time import sleep
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.injection import Faulty, stages_of, use_pipeline
from contracts.clock import DAY_US, HOUR_US, SECOND_US, now_us, to_datetime
from contracts.degrade import SourceName
from contracts.events import EVENT_SCHEMA, EventType
from contracts.funnel import FunnelReport
from contracts.ids import UNKNOWN_ID, FeedId, UserId
from contracts.policy import Filters, Policy, fixed_blend
from contracts.query import FeedQuery
from contracts.record import RECORD_VERSION
from contracts.settings import Settings
from features.workspace import Workspace
from pipelines.doctor import Looked, observe_home, of_service
from pipelines.server_process import free_port
from serving.bundles import CHAMPION_FILE
from serving.components import Deadlines
from serving.opening import open_service
from serving.pipeline import FeedPipeline
from serving.service import FeedService
from serving.watching.checks import CHECKS
from serving.watching.doctor import Finding, Observed, Status, binding, diagnose

FEEDS = 40
FEED_IDS = count(1)


def first(observed: Observed) -> Finding:
    found = binding(diagnose(observed, CHECKS))
    assert found is not None, "nothing binds"
    assert found.advice
    return found


def status_of(observed: Observed, name: str) -> Status:
    return next(f.status for f in diagnose(observed, CHECKS) if f.name == name)


@contextmanager
def running(
    home: Path, policy: Policy | None = None, **settings: Any
) -> Iterator[tuple[FeedService, Workspace]]:
    """A service over a home, as a server has it."""
    with Workspace.open(home) as workspace:
        given = {"recall_share": 0.0, **settings}
        chosen = Settings(home=home, **given).unhurried().model_copy(update=settings)
        service = open_service(workspace, chosen, policy=policy)
        try:
            yield service, workspace
        finally:
            service.close()


def people(workspace: Workspace) -> list[int]:
    """Who does most, first."""
    log = workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_numpy()
    found, counts = np.unique(log, return_counts=True)
    return found[np.argsort(-counts, kind="stable")].tolist()


def ask(service: FeedService, viewers: list[int], feeds: int = FEEDS, at: int | None = None) -> Any:
    """Ask feeds hours apart, so that what was served does not run out."""
    start = at or now_us()
    return [
        service.open(query(viewers[n % len(viewers)], start + n * HOUR_US)) for n in range(feeds)
    ]


def query(viewer: int, at: int) -> FeedQuery:
    return FeedQuery(FeedId(next(FEED_IDS)), UserId(viewer), at, 20)


def look(service: FeedService) -> Looked:
    health = dict(service.health())
    return Looked(health, FunnelReport.model_validate(health.pop("funnel")))


def observed(service: FeedService) -> Observed:
    before = look(service)
    assert service._records.flush(60.0)
    return of_service(before, look(service))


def rows(
    viewers: list[int], posts: list[int], kind: EventType, number: int, **more: Any
) -> pa.Table:
    """One event a viewer and post, their ids from `number` on."""
    made = [
        {
            "event_id": 10**15 + number + place, "type": int(kind), "viewer_id": viewer,
            "post_id": post, "target_id": None, "event_time": to_datetime(more.get("at", now_us())),
            "known_time": to_datetime(more.get("known", now_us())), "known_assumed": False,
            "value": None, "feed_id": more.get("feed"), "position": None,
        }
        for place, (viewer, post) in enumerate(zip(viewers, posts, strict=True))
    ]  # fmt: skip
    return pa.Table.from_pylist(made, schema=EVENT_SCHEMA)


def broken_stages(service: FeedService, group: str, name: str, make: Callable[[Any], Any]) -> None:
    """Put another component in the place of one."""
    stages = stages_of(service)
    parts = [make(part) if part.name == name else part for part in getattr(stages, group)]
    use_pipeline(service, FeedPipeline(replace(stages, **{group: parts}), 10_000.0))


def test_nothing_binds_in_a_healthy_home_and_service(small_home_copy: Path) -> None:
    with running(small_home_copy, recall_share=1.0) as (service, workspace):
        for _ in range(4):
            ask(service, people(workspace), FEEDS // 4)
            sleep(0.2)  # for the search of recall, whose queue is short
        live = observed(service)
    home = observe_home(small_home_copy, Settings(home=small_home_copy))
    whole = diagnose(live.over(home), CHECKS)
    assert [f.name for f in whole if f.bad and f.name not in {"disk", "latency"}] == []
    unknown = {f.name for f in whole if f.status is Status.UNKNOWN}
    assert unknown <= {"online_store", "calibration", "recall"}
    assert home.funnel is not None
    assert live.funnel is not None
    assert home.funnel.sources.keys() == live.funnel.sources.keys()
    assert home.funnel.sources["trending"] == live.funnel.sources["trending"]
    assert home.funnel.removed == live.funnel.removed
    assert home.funnel.stages == live.funnel.stages


def test_a_service_without_a_bundle(small_home_copy: Path) -> None:
    (small_home_copy / "bundles" / CHAMPION_FILE).unlink()
    with running(small_home_copy) as (service, workspace):
        ask(service, people(workspace))
        assert first(observed(service)).name == "bundle"


def test_a_champion_that_a_running_service_refuses(small_home_copy: Path) -> None:
    bundles = small_home_copy / "bundles"
    with running(small_home_copy) as (service, workspace):
        (bundles / CHAMPION_FILE).write_text("0123456789abcdef")
        service._bundles.check()
        ask(service, people(workspace))
        found = first(observed(service))
    assert (found.name, found.status) == ("bundle_fit", Status.BROKEN)
    assert "0123456789abcdef" in found.sentence


def test_a_ranker_that_cannot_be_reached(small_home_copy: Path) -> None:
    remote = {"ranker": "bentoml", "ranker_url": f"http://127.0.0.1:{free_port(0)}"}
    with running(small_home_copy, **remote) as (service, workspace):
        ask(service, people(workspace))
        found = first(observed(service))
    assert (found.name, found.status) == ("ranker", Status.BROKEN)
    # The records tell it too, after the server has gone.
    assert first(observe_home(small_home_copy, Settings())).name == "ranker"


def test_a_source_that_raises(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, workspace):
        broken_stages(service, "sources", "source.content", Faulty)
        ask(service, people(workspace))
        found = first(observed(service))
    assert (found.name, found.status) == ("source", Status.BROKEN)
    assert found.sentence.startswith("source.content fails in 100% of feeds (source_failed)")


class Nothing(Faulty):
    """A source that has lost what it knew."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        return (lambda *_: np.empty(0, dtype=np.int64)) if name == "find" else found


def test_a_source_that_finds_nothing(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, workspace):
        broken_stages(service, "sources", "source.collaborative", Nothing)
        ask(service, people(workspace))
        found = first(observed(service))
    assert (found.name, found.status) == ("empty_source", Status.BROKEN)
    assert "source collaborative finds nothing" in found.sentence


def test_a_hydrator_that_fails_until_it_is_left_alone(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, workspace):
        broken_stages(service, "hydrators", "viewer_state", Faulty)
        ask(service, people(workspace))
        found = first(observed(service))
    assert (found.name, found.status) == ("component", Status.BROKEN)
    assert "viewer_state fails" in found.sentence
    assert "breaker is open" in found.sentence


def test_a_policy_whose_filter_removes_nearly_everything(small_home_copy: Path) -> None:
    policy = fixed_blend().model_copy(update={"filters": Filters(max_age_hours=0.5)})
    with running(small_home_copy, policy) as (service, workspace):
        pages = ask(service, people(workspace))
        found = first(observed(service))
    assert "no_candidates" in pages[-1].degrade_reasons  # and the funnel has seen why
    assert (found.name, found.status) == ("filters", Status.BROKEN)
    assert "most of it as too_old" in found.sentence


def test_viewers_who_have_seen_nearly_everything(small_home_copy: Path) -> None:
    with Workspace.open(small_home_copy) as workspace:
        viewers = people(workspace)[:4]
        posts = workspace.catalog.posts()["post_id"].to_pylist()[20:]
        for number, viewer in enumerate(viewers):
            shown = rows([viewer] * len(posts), posts, EventType.VIEW, number * 10**6)
            workspace.log.append(shown)
    with running(small_home_copy) as (service, _):
        ask(service, viewers)
        found = first(observed(service))
    assert (found.name, found.status) == ("seen", Status.BROKEN)


def test_feeds_that_fall_for_want_of_time(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, workspace):
        sources = stages_of(service).sources
        slow = replace(stages_of(service), sources=[Faulty(sources[0], 0.11), *sources[1:]])
        use_pipeline(service, FeedPipeline(slow, 10_000.0, Deadlines(feed_ms=100)))
        ask(service, people(workspace), 20)
        found = first(observed(service))
    assert (found.name, found.status) == ("degraded", Status.BROKEN)
    assert "because of feed_deadline" in found.sentence


def test_a_log_that_is_not_followed_any_more(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, workspace):
        ask(service, people(workspace))
        service._follower.stop()
        viewer, post = people(workspace)[0], int(workspace.catalog.posts()["post_id"][0].as_py())
        past = now_us() - 600 * SECOND_US
        workspace.log.append(rows([viewer], [post], EventType.CLICK, 1, at=past, known=past))
        sleep(1.1)
        found = first(observed(service))
    assert found.name == "log_lag"
    assert "1 events behind" in found.sentence


def test_records_that_cannot_be_written(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, workspace):
        ask(service, people(workspace), 20)
        assert service._records.flush()
        hot = connect(small_home_copy / "records" / f"hot-v{RECORD_VERSION}.db")
        hot.execute("DROP TABLE decisions")
        hot.close()
        ask(service, people(workspace), 20)
        found = first(observed(service))
    assert (found.name, found.status) == ("records", Status.BROKEN)
    assert found.sentence.startswith("20 decision records (50.0%)")


def test_predictions_that_do_not_come_true(small_home_copy: Path) -> None:
    """Nobody clicks on or likes anything: far off, however large a bundle's predictions are."""
    with running(small_home_copy) as (service, workspace):
        at = now_us()
        for page in [service.open(query(person, at)) for person in people(workspace)]:
            posts = [item.post_id for item in page.items]
            viewers, number = [page.viewer_id] * len(posts), page.feed_id * 10**4
            shown = rows(viewers, posts, EventType.IMPRESSION, number, feed=page.feed_id)
            workspace.log.append(shown)
        assert service.wait_applied(workspace.log.last_seq, 20.0)
        before = observed(service)
        assert status_of(before, "calibration") is Status.UNKNOWN  # the window is still open
        service.open(query(people(workspace)[0], at + 3 * DAY_US))
        found = first(observed(service))
    assert (found.name, found.status) == ("calibration", Status.BROKEN)
    assert "times as many happen as predicted" in found.sentence


def test_sources_that_miss_what_would_rank_best(small_home_copy: Path) -> None:
    policy = Policy(name="starved", quotas={SourceName.FRESH: 60})
    with running(small_home_copy, policy, recall_share=1.0) as (service, workspace):
        for tried in range(30):
            ask(service, people(workspace), 10, at=now_us() + tried * DAY_US)
            seen = observed(service)
            if status_of(seen, "recall") is not Status.UNKNOWN:
                break
    found = first(seen)
    assert (found.name, found.status) == ("recall", Status.BROKEN)


def test_posts_that_no_personal_source_found(small_home_copy: Path) -> None:
    policy = Policy(name="impersonal", quotas={SourceName.TRENDING: 100, SourceName.FRESH: 100})
    with running(small_home_copy, policy) as (service, workspace):
        ask(service, people(workspace))
        found = first(observed(service))
    assert (found.name, found.status) == ("personalised", Status.BROKEN)


def test_viewers_whom_nobody_knows(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, _):
        ask(service, [UNKNOWN_ID])
        found = first(observed(service))
    assert found.name == "cold_viewers"
    assert found.sentence.startswith("100% of feeds are of viewers who have done nothing")


def test_a_stage_that_is_slow(small_home_copy: Path) -> None:
    with running(small_home_copy) as (service, workspace):
        stages = stages_of(service)
        slow = replace(stages, selector=Faulty(stages.selector, 0.2))
        use_pipeline(service, FeedPipeline(slow, 10_000.0))
        ask(service, people(workspace), 20)
        found = first(observed(service))
    assert (found.name, found.status) == ("latency", Status.BROKEN)
    assert "slowest stage is select" in found.sentence

"""The shadow: a challenger beside the champion, off the request path, and their differences."""

import json
from dataclasses import replace
from threading import Lock
from time import monotonic, sleep

import numpy as np
import pytest

import serving.bundles
from contracts.clock import now_us
from contracts.ids import FeedId, Namespace, UserId
from contracts.query import FeedQuery
from contracts.settings import Settings
from experiments.assignment import BUCKETS, buckets
from features.workspace import Workspace
from models.bundle import Bundle
from serving.bundles import Share
from serving.lineup import Trial
from serving.opening import open_service
from serving.watching.shadow import Shadow, difference

FEEDS = 40


@pytest.fixture
def workspace(small_home_copy):
    with Workspace.open(small_home_copy) as opened:
        yield opened


@pytest.fixture
def bundles(workspace):
    return workspace.home / "bundles"


@pytest.fixture
def champion(bundles):
    return (bundles / "CHAMPION").read_text().strip()


@pytest.fixture
def service(workspace, monkeypatch):
    monkeypatch.setattr(serving.bundles, "POLL_SECONDS", 0.05)
    opened = open_service(workspace, Settings(home=workspace.home).unhurried())
    yield opened
    opened.close()


def challenger(bundles, bundle_id: str, factor: float) -> str:
    bundle = Bundle.load(bundles / bundle_id)
    weights = bundle.ranker.weights
    skip = (weights["skip.weight"] * factor).astype(np.float32)
    ranker = replace(bundle.ranker, weights={**weights, "skip.weight": skip})
    notes = {"seed": bundle.manifest.seed, "created": "2000-01-01T00:00:00+00:00"}
    manifest = bundle.manifest.model_copy(update=notes)
    return replace(bundle, ranker=ranker, manifest=manifest).save(bundles).bundle_id


def twin(bundles, bundle_id: str) -> str:
    """Save a bundle of other bytes whose ranker computes with the same numbers."""
    bundle = Bundle.load(bundles / bundle_id)
    was, weights = bundle.ranker._exact, bundle.ranker.weights
    for place in range(weights["skip.weight"].size):
        skip = weights["skip.weight"].copy()
        skip.flat[place] = np.nextafter(skip.flat[place], np.float32(np.inf))
        ranker = replace(bundle.ranker, weights={**weights, "skip.weight": skip})
        if all(np.array_equal(ranker._exact[name], was[name]) for name in was):
            return replace(bundle, ranker=ranker).save(bundles).bundle_id
    raise AssertionError("every last bit counts")


def ask(workspace, service, feeds: int = FEEDS) -> None:
    viewers = workspace.ids.all(Namespace.PERSON)[0].tolist()
    for number in range(1, feeds + 1):
        viewer = UserId(viewers[number % len(viewers)])
        service.open(FeedQuery(FeedId(number), viewer, now_us(), 20))


def shadow_of(service) -> dict:
    return service.health()["shadow"] or {}


def until(holds, seconds: float = 20.0) -> None:
    deadline = monotonic() + seconds
    while not holds():
        assert monotonic() < deadline, "it did not come to hold"
        sleep(0.01)


def run_shadow(workspace, service, bundles, name: str, share: float = 1.0) -> dict:
    (bundles / "SHADOW").write_text(Share(name, share).line)
    until(lambda: shadow_of(service).get("bundle_id") == name)
    for start in range(5):  # the queue is short: a few at a time
        ask(workspace, service, FEEDS // 5)
        until(lambda start=start: _done(service) == (start + 1) * FEEDS // 5 or share < 1.0)
    return shadow_of(service)


def _done(service) -> int:
    told = shadow_of(service)
    return int(told["compared"] + told["dropped"] + told["failed"])


def test_a_challenger_that_ranks_otherwise_is_told_apart(workspace, bundles, champion, service):
    name = challenger(bundles, champion, -1.0)
    told = run_shadow(workspace, service, bundles, name)
    assert (told["bundle_id"], told["champion"]) == (name, champion)
    assert told["compared"] > FEEDS // 2
    assert told["failed"] == 0
    assert 0.0 <= told["overlap_20"] < 0.9
    assert told["mean_move_20"] > 1.0
    assert -1.0 <= told["value_correlation"] < 0.95
    assert service.health()["bundle_id"] == champion
    service._shadow.stop()
    written = json.loads((bundles / f"{name}.shadow.json").read_text())
    assert written == told


def test_a_challenger_that_ranks_alike_is_not_told_apart(workspace, bundles, champion, service):
    """Also proves that the shadow sees a request as it was: nothing counts as served meanwhile."""
    name = twin(bundles, champion)
    assert name != champion
    told = run_shadow(workspace, service, bundles, name)
    assert told["compared"] > FEEDS // 2
    assert (told["overlap_20"], told["mean_move_20"]) == (1.0, 0.0)
    assert told["value_correlation"] == pytest.approx(1.0)


def test_a_share_of_the_requests_is_ranked_again(workspace, bundles, champion, service):
    name = challenger(bundles, champion, -1.0)
    (bundles / "SHADOW").write_text(Share(name, 0.5).line)
    until(lambda: shadow_of(service))
    drawn = buckets(f"shadow:{name}", np.arange(1, 11)) < 0.5 * BUCKETS
    for _ in range(10):
        ask(workspace, service, 10)  # the same ten feeds: the share is by feed
        sleep(0.1)
    until(lambda: _done(service) >= 10 * drawn.sum())
    sleep(0.1)
    assert _done(service) == 10 * drawn.sum()


def test_the_shadow_ends_and_begins_anew(workspace, bundles, champion, service):
    one, two = (challenger(bundles, champion, factor) for factor in (-1.0, -2.0))
    run_shadow(workspace, service, bundles, one)
    (bundles / "SHADOW").write_text(Share(two, 1.0).line)
    until(lambda: shadow_of(service)["bundle_id"] == two)
    assert shadow_of(service)["compared"] == 0
    assert json.loads((bundles / f"{one}.shadow.json").read_text())["compared"] > 0
    (bundles / "SHADOW").unlink()
    until(lambda: not shadow_of(service))
    ask(workspace, service, 5)


def test_what_does_not_fit_the_queue_is_dropped_and_counted(workspace, service):
    """A shadow whose thread never runs: requests do not wait for it."""
    champion = service._lineup.champion
    query = FeedQuery(FeedId(1), UserId(1), now_us(), 20)
    ranked = champion.pipeline.run(query, champion.policy)
    stuck = Shadow(service._bundles._builder, Lock(), None)
    assert stuck.report() is None
    stuck.offer(ranked)
    stuck.use(Trial(champion, 1.0), champion.bundle_id)
    for _ in range(20):
        stuck.offer(ranked)
    assert stuck.report()["dropped"] == 4
    assert stuck.report()["overlap_20"] is None


def test_a_feed_differs_in_nothing_from_itself(workspace, service):
    champion = service._lineup.champion
    one, two = (
        champion.pipeline.run(FeedQuery(FeedId(1), UserId(viewer), now_us(), 20), champion.policy)
        for viewer in (1, 2)
    )
    assert difference(one, one) == (1.0, 0.0, pytest.approx(1.0))
    there, back = difference(one, two), difference(two, one)
    assert there.overlap == back.overlap < 1.0
    assert there.correlation == pytest.approx(back.correlation)

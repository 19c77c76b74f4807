"""Publish, canary, shadow, rollback: what moves, what is refused, and what it says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import now_us
from contracts.errors import BundleMismatch, Conflict, InvalidInput, NotFound
from contracts.events import EVENT_SCHEMA, UTC_US, EventType
from contracts.ids import UNKNOWN_ID
from features.caches import FeatureCache
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.commands.publish import publish, rollback, share_of
from pipelines.golden import golden_queries, replay_golden
from pipelines.publish import champion_id, publish_bundle, roll_back, start_canary
from serving.bundles import Pointers, Share


@pytest.fixture
def home(small_home_copy: Path) -> Path:
    return small_home_copy


@pytest.fixture
def champion(home: Path) -> str:
    return str(champion_id(home))


@pytest.fixture
def other(home: Path, champion: str) -> str:
    return variant(home, champion, -1.0)


def variant(home: Path, bundle_id: str, factor: float) -> str:
    """Save a bundle whose ranker has a part of its weights multiplied."""
    bundle = Bundle.load(home / "bundles" / bundle_id)
    weights = bundle.ranker.weights
    skip = (weights["skip.weight"] * factor).astype(np.float32)
    ranker = replace(bundle.ranker, weights={**weights, "skip.weight": skip})
    return replace(bundle, ranker=ranker).save(home / "bundles").bundle_id


def without_a_bias(home: Path, bundle_id: str) -> str:
    """Save a bundle that loads, and whose ranker fails at the first request."""
    bundle = Bundle.load(home / "bundles" / bundle_id)
    weights = {k: v for k, v in bundle.ranker.weights.items() if k != "first.bias"}
    ranker = replace(bundle.ranker, weights=weights)
    return replace(bundle, ranker=ranker).save(home / "bundles").bundle_id


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_golden_people_are_cold_regular_and_heavy_and_one_is_a_stranger(home: Path) -> None:
    with Workspace.open(home, read_only=True) as workspace:
        cache = FeatureCache.load(workspace)
    queries = golden_queries(cache, 1)
    viewers = [query.viewer_id for query in queries]
    assert len(set(viewers)) == len(viewers) == 25
    assert UNKNOWN_ID in viewers
    events = sorted(
        cache.histories.version(cache.viewer_slot(viewer)) for viewer in viewers if viewer >= 0
    )
    everyone = np.sort(cache.histories.versions[: len(cache.people)])
    assert events[:8] == everyone[:8].tolist()
    assert events[-8:] == everyone[-8:].tolist()
    assert abs(np.median(events) - np.median(everyone)) <= 0.1 * np.median(everyone)
    assert queries == golden_queries(cache, 1)


def test_a_bundle_agrees_with_itself_and_less_with_another(
    home: Path, champion: str, other: str
) -> None:
    assert replay_golden(home, champion, champion).overlap == 1.0
    found = replay_golden(home, other, champion)
    assert found.asked == 25
    assert found.overlap is not None
    assert found.overlap < 0.9
    assert replay_golden(home, other).overlap is None


def test_who_has_acted_on_everything_is_no_hindrance(home: Path, champion: str) -> None:
    """They get what trends; a bundle that finds nothing for anybody is refused all the same."""
    with Workspace.open(home) as workspace:
        posts = workspace.catalog.posts()["post_id"].to_numpy()
        viewer = int(workspace.catalog.people()["person_id"].to_numpy()[-1])
        n = len(posts)
        at = pa.array(np.full(n, now_us())).cast(UTC_US)
        columns = {
            "event_id": np.arange(n) + 10**15, "type": np.full(n, EventType.LIKE, np.int8),
            "viewer_id": np.full(n, viewer), "post_id": posts, "target_id": pa.nulls(n, pa.int64()),
            "event_time": at, "known_time": at, "known_assumed": np.zeros(n, np.bool_),
            "value": pa.nulls(n, pa.float32()), "feed_id": pa.nulls(n, pa.int64()),
            "position": pa.nulls(n, pa.int16()),
        }  # fmt: skip
        workspace.write(pa.table(columns, schema=EVENT_SCHEMA))
        cache = FeatureCache.load(workspace)
        assert viewer in {query.viewer_id for query in golden_queries(cache, now_us())}
    assert replay_golden(home, champion).asked == 25


def test_golden_requests_leave_no_trace(home: Path, champion: str) -> None:
    before = sorted(path for path in home.rglob("*") if path.suffix != ".db-shm")
    replay_golden(home, champion)
    assert sorted(path for path in home.rglob("*") if path.suffix != ".db-shm") == before


def test_a_bundle_that_degrades_is_refused_and_nothing_moves(home: Path, champion: str) -> None:
    broken = without_a_bias(home, champion)
    before = Pointers.read(home)
    for move in (publish_bundle, lambda h, b: start_canary(h, b, 0.05)):
        with pytest.raises(BundleMismatch, match="at level fixed_blend: ranker_failed"):
            move(home, broken)
    assert Pointers.read(home) == before


def test_a_former_champion_that_loads_no_more_is_no_hindrance(
    home: Path, champion: str, other: str
) -> None:
    (home / "bundles" / champion / "manifest.json").unlink()
    done = publish_bundle(home, other)
    assert (done.before, done.golden.overlap) == (champion, None)
    with pytest.raises(BundleMismatch, match="there is no bundle in"):
        roll_back(home)
    assert champion_id(home) == other


def test_a_canary_is_promoted_by_publishing_it(
    home: Path, champion: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(other, canary=share_of("5%"), home=home, as_json=True)
    said = last_json(capsys)
    assert said["canary"] == {"bundle_id": other, "share": 0.05}
    assert (said["bundle_id"], said["champion"], said["before"]) == (other, champion, champion)
    assert said["golden_requests"] == 25
    assert Pointers.read(home) == Pointers(champion, Share(other, 0.05), None)
    publish(other, home=home)
    assert Pointers.read(home) == Pointers(other, None, None)
    assert f"Champion is {other}, before it {champion}" in capsys.readouterr().out


def test_rollback_drops_the_canary_first(
    home: Path, champion: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    third = variant(home, champion, 2.0)
    publish(other, home=home)
    publish(third, canary=0.05, home=home)
    capsys.readouterr()
    rollback(home=home, as_json=True)
    said = last_json(capsys)
    assert (said["dropped"], said["champion"], said["registered"]) == (third, other, False)
    assert Pointers.read(home) == Pointers(other, None, None)
    rollback(home=home, as_json=True)
    assert last_json(capsys)["bundle_id"] == champion == champion_id(home)
    with pytest.raises(NotFound, match="no canary runs, and no bundle was champion before"):
        rollback(home=home)


def test_a_shadow_needs_no_gate_and_is_ended_with_nothing(
    home: Path, champion: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = {"promote": False, "why": "worse than popularity"}
    (home / "bundles" / f"{other}.report.json").write_text(json.dumps(noted))
    with pytest.raises(Conflict, match="worse than popularity"):
        publish(other, canary=0.05, home=home)
    publish(other, shadow=0.01, home=home, as_json=True)
    assert last_json(capsys)["shadow"] == {"bundle_id": other, "share": 0.01}
    assert Pointers.read(home) == Pointers(champion, None, Share(other, 0.01))
    publish(shadow=0.0, home=home, as_json=True)
    assert last_json(capsys) == {"bundle_id": other, "shadow": None}
    assert Pointers.read(home) == Pointers(champion, None, None)
    with pytest.raises(NotFound, match="no shadow runs"):
        publish(shadow=0.0, home=home)


def test_what_cannot_be_is_said(home: Path, champion: str, other: str) -> None:
    with pytest.raises(InvalidInput, match="canary or shadow, not both"):
        publish(other, canary=0.1, shadow=0.1, home=home)
    with pytest.raises(InvalidInput, match="a part of the viewers, not 100%"):
        publish(other, canary=1.0, home=home)
    with pytest.raises(Conflict, match="is the champion already"):
        publish(champion, canary=0.1, home=home)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 100 % ", 1.0)])
def test_shares_are_read(text: str, share: float) -> None:
    assert share_of(text) == share


@pytest.mark.parametrize("text", ["five", "", "101%", "-1%", "nan", "5%%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="a share is 0% to 100%, got"):
        share_of(text)

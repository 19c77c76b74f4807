"""Replay: a record rebuilds its feed to the bit, and notices every change."""

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import now_us, to_datetime
from contracts.errors import BundleMismatch, InvalidInput, NotFound, SchemaMismatch
from contracts.events import EVENT_SCHEMA, EventType
from contracts.ids import FeedId, UserId
from contracts.policy import Action, Exploration, Fatigue, Policy, fixed_blend, popular
from contracts.query import FeedQuery
from contracts.record import RECORD_SCHEMA
from contracts.settings import Settings
from features.workspace import Workspace
from models.bundle import Bundle
from serving.bundles import champion_folder, champion_id
from serving.opening import open_service
from serving.proof.replay import counterfactual, replay
from serving.records.codec import record_digest
from serving.records.writer import RecordStore
from serving.shelves import Shelves
from serving.stages.decision import Decision

POLICIES = [Policy(name="ensemble"), fixed_blend(), popular()]


def _people(workspace, count=12):
    log = workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_numpy()
    people, counts = np.unique(log, return_counts=True)
    return people[np.argsort(-counts)][:: max(1, len(people) // count)].tolist()


@pytest.fixture
def workspace(small_home_copy):
    with Workspace.open(small_home_copy) as opened:
        yield opened


def _impressions(viewer_id, post_ids, feed_id):
    at = to_datetime(now_us())
    rows = [
        {
            "event_id": 10**15 + feed_id * 100 + place, "type": int(EventType.IMPRESSION),
            "viewer_id": viewer_id, "post_id": post_id, "event_time": at, "known_time": at,
            "known_assumed": True, "feed_id": feed_id, "position": place,
        }
        for place, post_id in enumerate(post_ids)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)


def _serve(workspace, policy, feeds=range(1, 25)):
    service = open_service(workspace, Settings(home=workspace.home).unhurried(), policy=policy)
    people = _people(workspace)
    for feed in feeds:
        page = service.open(
            FeedQuery(FeedId(feed), UserId(people[feed % len(people)]), now_us(), 20)
        )
        assert page.items
        shown = [item.post_id for item in page.items[:5]]
        workspace.log.append(_impressions(page.viewer_id, shown, feed))
        service.wait_applied(workspace.log.last_seq, 5.0)
    service.close()


def _records(workspace):
    store = RecordStore(workspace.home / "records")
    found = [record for feed in range(1, 25) if (record := store.find(feed))]
    store.close()
    return found


def _ranker(workspace):
    return Shelves(workspace.home).ranker(champion_id(workspace.home))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_feed_replays_to_the_bit_after_a_restart_with_live_updates(workspace, policy):
    _serve(workspace, policy)
    ranker = _ranker(workspace)
    records = _records(workspace)
    assert len(records) == 24
    for record in records:
        found = replay(record, ranker, policy)
        assert found.identical, found.differences
        assert Decision.of(record).ordered_ids[:5].tolist()
    if policy.scorer == "ensemble":
        shown = np.concatenate([Decision.of(r).adjustments.author_shown for r in records])
        assert (shown > 0).any()  # later feeds know what earlier ones showed


def test_any_changed_byte_is_noticed(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    record, ranker = _records(workspace)[0], _ranker(workspace)
    for field in RECORD_SCHEMA:
        changed = {**record, field.name: _flipped(record[field.name])}
        found = replay(changed, ranker, POLICIES[0])
        assert not found.within_tolerance, field.name
        assert found.differences == ("digest: the record was changed after it was written",)


def _flipped(value):
    """Change one bit, or what is nearest to it."""
    if isinstance(value, np.ndarray):
        raw = bytearray(value.tobytes() or b"\0" * value.itemsize)
        raw[len(raw) // 2] ^= 1
        return np.frombuffer(bytes(raw), value.dtype)
    if isinstance(value, list):
        return [*value, "x"]
    return value + type(value)(1)


def _forged(record, **changes):
    """Change a record and sign it again, as one would who knows the digest."""
    changed = {**record, **changes}
    return {**changed, "digest": record_digest(changed, RECORD_SCHEMA)}


def test_what_a_forger_signs_again_is_noticed_where_it_moves_the_feed(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    record, ranker = _records(workspace)[0], _ranker(workspace)
    assert replay(_forged(record), ranker, POLICIES[0]).identical
    slate = np.array(record["slate"])
    slate[[0, 1]] = slate[[1, 0]]
    assert "slate" in replay(_forged(record, slate=slate), ranker, POLICIES[0]).differences[0]
    likely = np.array(record["probabilities"])
    likely[3] += np.float32(0.01)
    found = replay(_forged(record, probabilities=likely), ranker, POLICIES[0])
    assert "predictions differ" in found.differences[0]
    chances = np.array(record["propensities"]) * np.float32(0.9)
    found = replay(_forged(record, propensities=chances), ranker, POLICIES[0])
    assert found.differences == ("propensities differ",)
    assert replay(record, None, POLICIES[0]).differences == ("no ranker to predict with",)


def test_other_weights_are_noticed_and_last_bits_are_within_tolerance(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    bundle = Bundle.load(champion_folder(workspace.home))
    record = _records(workspace)[0]
    bundle.ranker.weights["head.bias"][:] += 0.01
    found = replay(record, bundle.ranker, POLICIES[0])
    assert not found.within_tolerance
    assert "predictions differ" in found.differences[0]
    near = np.nextafter(np.array(record["probabilities"]), np.float32(1.0))
    found = replay(_forged(record, probabilities=near), _ranker(workspace), POLICIES[0])
    assert found.within_tolerance


def test_another_bundle_or_policy_under_its_name_is_refused(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    home, bundle_id = workspace.home, champion_id(workspace.home)
    weights = home / "bundles" / bundle_id / "ranker" / "arrays.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(BundleMismatch, match=r"arrays\.safetensors"):
        Shelves(home).ranker(bundle_id)
    other = home / "bundles" / ("0" * 16)
    (home / "bundles" / bundle_id).rename(other)
    with pytest.raises(BundleMismatch, match="another bundle than its name says"):
        Shelves(home).ranker(other.name)
    with pytest.raises(NotFound, match=bundle_id):
        Shelves(home).ranker(bundle_id)
    path = home / "records" / "policies" / f"{POLICIES[0].hash}.json"
    assert Shelves(home).policy(POLICIES[0].hash) == POLICIES[0]
    path.write_bytes(path.read_bytes().replace(b"0.75", b"0.76", 1))
    with pytest.raises(SchemaMismatch, match="was changed"):
        Shelves(home).policy(POLICIES[0].hash)


def test_a_counterfactual_orders_the_same_pool_and_names_the_moves(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    record = _records(workspace)[0]
    same = counterfactual(record, POLICIES[0])
    assert same.moves == ()
    steady = Exploration(temperature=0.0)
    clicks = POLICIES[0].model_copy(update={"weights": {Action.CLICK: 1.0}, "exploration": steady})
    other = counterfactual(record, clicks)
    assert other.moves
    assert set(other.otherwise.tolist()) <= set(record["pool_ids"].tolist())
    places = {post: place for place, post in enumerate(other.otherwise.tolist())}
    for move in other.moves:
        assert places.get(move.post_id) == move.otherwise


def test_a_ranker_cannot_order_what_none_has_ranked(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    record = _records(workspace)[0]
    ranker = Shelves(workspace.home).ranker(champion_id(workspace.home))
    assert counterfactual(record, POLICIES[0], ranker).moves == ()
    with pytest.raises(InvalidInput, match=r"no ranker took part in this feed: .* by velocity"):
        counterfactual({**record, "scorer": "velocity"}, POLICIES[0], ranker)


def test_another_scorer_orders_what_the_record_holds_of_it(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    record = _records(workspace)[0]
    otherwise = counterfactual(record, fixed_blend()).otherwise
    assert otherwise.tolist() != counterfactual(record, POLICIES[0]).otherwise.tolist()
    with pytest.raises(InvalidInput, match="velocity, which this record does not hold"):
        counterfactual(record, popular())


def test_more_exposure_never_raises_a_value(workspace):
    _serve(workspace, POLICIES[0], feeds=[1])
    decision = Decision.of(_records(workspace)[0])
    strong = POLICIES[0].model_copy(
        update={"fatigue": Fatigue(author_strength=1.0, topic_strength=1.0)}
    )
    before = decision.ledger(strong).value
    for field in ("author_shown", "topic_shown"):
        more = getattr(decision.adjustments, field) + np.float16(2.0)
        after = decision.ledger(
            strong, adjustments=decision.adjustments._replace(**{field: more})
        ).value
        assert (after <= before).all()
        assert (after < before).any()

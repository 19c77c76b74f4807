"""Decision records survive: hot, sealed, and read back the same."""

import numpy as np
import pytest

from contracts.record import RECORD_SCHEMA
from serving.records import RecordStore
from serving.snapshots import ServedLog, Snapshot, SnapshotCache

LISTS = ("post_ids", "sources", "reason_refs", "removed_ids", "removed_reasons")


def record(feed_id):
    generator = np.random.default_rng(feed_id)
    made = {
        "record_version": 1, "feed_id": feed_id, "viewer_id": 5, "now": 1_700_000_000_000_000,
        "bundle_id": "b", "policy_hash": "h", "log_seq": 9, "history_version": 3,
        "assignments": "{}", "level": "full", "reasons": ["unknown_viewer"],
        "source_yield": "{}", "stage_us": "{}", "post_ids": generator.integers(0, 2**62, 4),
        "slate": 2, "sources": np.array([1, 2, 3, 4], np.int32), "family_scores": b"\x00" * 12,
        "features": b"f", "feature_hash": "x", "probabilities": b"p", "in_network": b"\x01\x00",
        "cold_start": b"\x00\x00", "values": np.arange(4.0).tobytes(), "selection": b"s",
        "reason_codes": ["following", "trending", "topic", "topic"],
        "reason_refs": np.array([1, -1, 2, 2]), "removed_ids": np.array([8, 9]),
        "removed_reasons": np.array([6, 6], np.int8),
    }  # fmt: skip
    assert made.keys() == set(RECORD_SCHEMA.names)
    return made


def same(left, right):
    return all(
        np.array_equal(left[k], right[k]) if k in LISTS else left[k] == right[k] for k in left
    )


@pytest.fixture
def store(tmp_path):
    opened = RecordStore(tmp_path / "records")
    yield opened
    opened.close()


def test_a_record_is_found_as_it_was_written_hot_and_sealed(store):
    for feed_id in range(1, 6):
        store.put(lambda k=feed_id: record(k))
    assert store.flush()
    assert same(record(3), store.find(3))
    assert store.seal() == 5
    assert store.seal() == 0
    assert same(record(3), store.find(3))
    assert store.find(77) is None


def test_sealing_keeps_the_newest_hot_and_loses_none(store):
    for feed_id in range(1, 701):
        store.put(lambda k=feed_id: {**record(k), "now": 1_700_000_000_000_000 + k})
    assert store.flush()
    assert store.seal(keep=100) == 600
    for feed_id in (1, 300, 600, 601, 700):
        expected = {**record(feed_id), "now": 1_700_000_000_000_000 + feed_id}
        assert same(expected, store.find(feed_id))
    hot = store._database.execute("SELECT min(feed_id), count(*) FROM decisions").fetchone()
    assert hot == (601, 100)


def test_queued_records_are_written_at_close_and_found_by_the_next_process(tmp_path):
    first = RecordStore(tmp_path)
    for feed_id in range(1, 40):
        first.put(lambda k=feed_id: record(k))
    first.close()
    second = RecordStore(tmp_path)
    assert same(record(39), second.find(39))
    second.close()


def snapshot(feed_id, viewer_id=1):
    return Snapshot(
        feed_id, viewer_id, 0, np.arange(3), ("topic",) * 3, np.arange(3), np.zeros(3),
        "full", (), "", "", 0.0,
    )  # fmt: skip


def test_snapshots_are_bounded_and_the_latest_is_known():
    cache = SnapshotCache(capacity=2)
    for feed_id in (1, 2, 3):
        cache.put(snapshot(feed_id, viewer_id=feed_id))
    assert cache.get(1) is None
    assert cache.latest(1) is None
    assert cache.latest(3).feed_id == 3


def test_what_was_served_is_forgotten_after_the_window():
    served = ServedLog(viewers=2)
    minute = 60_000_000
    served.add(1, 0, np.array([4]))
    served.add(1, 10 * minute, np.array([5]))
    assert served.within(1, 11 * minute, 30.0).tolist() == [4, 5]
    assert served.within(1, 35 * minute, 30.0).tolist() == [5]
    served.add(2, 0, np.array([1]))
    served.add(3, 0, np.array([1]))
    assert served.within(1, 11 * minute, 30.0).tolist() == []

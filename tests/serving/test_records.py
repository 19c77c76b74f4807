"""Decision records survive: hot, sealed, merged; old ones go; a kill is counted."""

import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import DAY_US, Clock, now_us
from contracts.errors import NotFound
from contracts.ids import UNKNOWN_ID
from contracts.policy import fixed_blend
from contracts.record import RECORD_SCHEMA
from features.workspace import Workspace
from serving.policies import PolicyShelf
from serving.records import codec
from serving.records.archive import DECISIONS, KINDS, PAGES, RecordArchive, RecordsDamaged
from serving.records.codec import record_digest, records_of, table_of, to_row
from serving.records.counts import lost_so_far
from serving.records.keeping import RecordKeeper
from serving.records.writer import RecordStore
from serving.snapshots import ServedLog, Snapshot, SnapshotCache

START_US = 1_700_000_000_000_000
LISTS = [f.name for f in RECORD_SCHEMA if pa.types.is_list(f.type) and f.name != "reasons"]


def record(feed_id, **changes):
    generator = np.random.default_rng(feed_id)
    made = {
        "record_version": 3, "feed_id": feed_id, "viewer_id": 5, "now": START_US,
        "limit": 2, "bundle_id": "b", "policy_hash": "h", "log_seq": 9, "history_version": 3,
        "assignments": "{}", "level": "full", "reasons": ["unknown_viewer"],
        "source_yield": "{}", "stage_us": "{}", "scorer": "ensemble",
        "pool_ids": generator.integers(0, 2**62, 4), "authors": np.array([1, 2, -1, 3]),
        "topics": np.array([4, -1, 4, 4]), "sources": np.array([1, 2, 3, 4], np.int32),
        "in_network": np.array([True, False, True, True]), "cold_start": np.zeros(4, bool),
        "author_shown": generator.random(4).astype(np.float16),
        "topic_shown": np.full(4, np.nan, np.float16), "control": np.array([0, 1, -1, 0], np.int8),
        "impressions": np.zeros(4, np.float32), "positives": np.zeros(4, np.float32),
        "content_codes": generator.integers(0, 2**64, 4, dtype=np.uint64),
        "features": generator.random(12).astype(np.float16), "feature_hash": "x",
        "probabilities": generator.random(40).astype(np.float32),
        "family_scores": np.empty(0, np.float16), "trend_ranks": np.empty(0, np.int32),
        "slate": np.array([0, 2], np.int16), "propensities": np.array([0.9, 1.0], np.float32),
        "kept_value": float(np.float32(0.99)), "reserve_ids": np.array([11, 12]),
        "reserve_values": np.array([0.5, 0.25], np.float32),
        "reason_codes": np.array([0, 1, 2, 2], np.int8), "reason_refs": np.array([1, -1, 2, 2]),
        "removed_ids": np.array([8, 9]), "removed_reasons": np.array([6, 6], np.int8),
        "removed_counts": "{}", "removed_rate": float(np.float32(0.7)), "blanked": 0,
        "checksum": -7, **changes,
    }  # fmt: skip
    assert made.keys() | {"digest"} == set(RECORD_SCHEMA.names)
    return made


def page(feed_id, offset=2, **changes):
    return {
        "feed_id": feed_id, "viewer_id": 5, "now": START_US + offset, "log_seq": 9,
        "offset": offset, "posts": np.array([11, 12]), "gaps": 1, **changes,
    }  # fmt: skip


def same(left, right):
    return all(
        left[k].tobytes() == right[k].tobytes() if k in LISTS else left[k] == right[k] for k in left
    )


@pytest.fixture
def store(tmp_path):
    opened = RecordStore(tmp_path / "records")
    yield opened
    opened.close()


@pytest.fixture
def log(tmp_path):
    with Workspace.open(tmp_path / "home") as workspace:
        yield workspace.log


@pytest.fixture
def keeper(store, log):
    return RecordKeeper(store, log, 30, Clock(START_US - now_us()))


def put(store, *records):
    for one in records:
        store.put(lambda made=one: made)
    assert store.flush()


def test_a_record_is_found_as_it_was_written_hot_and_sealed(store, keeper):
    put(store, *(record(feed_id) for feed_id in range(1, 6)))
    assert same(record(3), store.find(3))
    assert keeper.seal() == 5
    assert keeper.seal() == 0
    found = store.find(3)
    assert same(record(3), found)
    assert found["digest"] == record_digest(record(3), RECORD_SCHEMA)
    assert store.find(77) is None


def test_a_row_is_the_same_in_sqlite_and_parquet():
    rows = [to_row(record(feed_id), RECORD_SCHEMA) for feed_id in range(1, 4)]
    for one, row in zip(records_of(table_of(rows, RECORD_SCHEMA).slice(1)), rows[1:], strict=True):
        assert to_row(one, RECORD_SCHEMA) == row


def test_sealing_keeps_the_newest_hot_and_loses_none(store, keeper):
    put(store, *(record(k, now=START_US + k) for k in range(1, 701)))
    assert keeper.seal(keep=100) == 600
    for feed_id in (1, 300, 600, 601, 700):
        assert same(record(feed_id, now=START_US + feed_id), store.find(feed_id))
    hot = store.archive.ask("SELECT min(feed_id), count(*) FROM decisions")
    assert hot == [(601, 100)]
    assert sorted(store.archive.ids().tolist()) == list(range(1, 701))


def test_later_pages_stand_beside_their_record_and_follow_it(store, keeper):
    put(store, record(1), record(2))
    for offset in (4, 2):
        store.put_page(lambda offset=offset: page(1, offset))
    store.put_page(lambda: page(2))
    assert store.flush()
    assert [found["offset"] for found in store.find(1)["pages"]] == [2, 4]
    keeper.seal()
    store.put_page(lambda: page(1, 6, now=START_US + 9))
    assert store.flush()
    pages = store.find(1)["pages"]
    assert [found["offset"] for found in pages] == [2, 4, 6]
    assert pages[0]["posts"].tolist() == [11, 12]
    assert pages[0]["gaps"] == 1
    keeper.seal()
    assert store.archive.hot_rows(PAGES) == 0
    assert [found["offset"] for found in store.find(1)["pages"]] == [2, 4, 6]


def test_records_go_by_the_day_and_small_files_become_one(store, keeper):
    for day in (45, 31, 30, 0):
        for feed_id in range(5):
            put(store, record(day * 10 + feed_id, now=START_US - day * DAY_US))
            keeper.seal()
    put(store, record(999, now=START_US - 40 * DAY_US))
    assert len(store.archive.parts()) == 20
    assert keeper.compact() == 16
    assert len(store.archive.parts()) == 4
    assert len(list(store.archive.folder.glob("decisions-*"))) == 4
    assert keeper.purge() == 11
    assert {part.day for part in store.archive.parts()} == {"20231015", "20231114"}
    assert store.find(450) is None
    assert store.find(999) is None
    assert same(record(302, now=START_US - 30 * DAY_US), store.find(302))


def test_files_that_were_never_listed_go_and_a_new_database_takes_what_lies_there(
    store, keeper, tmp_path
):
    put(store, record(1))
    keeper.seal()
    (listed,) = store.archive.folder.glob("decisions-*.parquet")
    orphan = listed.with_name(listed.name.replace("-1", "-9"))
    orphan.write_bytes(listed.read_bytes())
    store.archive.folder.joinpath("decisions-v3-20231114-7.tmp").write_bytes(b"half")
    store.archive.tidy()
    assert list(store.archive.folder.glob("decisions-*")) == [listed]
    moved = tmp_path / "moved"
    moved.mkdir()
    listed.rename(moved / listed.name)
    archive = RecordArchive(moved)
    archive.tidy()
    assert archive.ids().tolist() == [1]
    archive.close()


def test_a_file_that_is_replaced_while_it_is_read_is_looked_for_again(store, keeper):
    for feed_id in range(4):
        put(store, record(feed_id))
        keeper.seal()
    reading = store.archive.read(np.arange(4))
    seen = next(reading).column("feed_id").to_pylist()
    assert keeper.compact() == 3
    seen += [feed_id for table in reading for feed_id in table.column("feed_id").to_pylist()]
    assert sorted(seen) == [0, 1, 2, 3]


def test_a_flipped_byte_of_a_file_is_refused_or_moves_nothing(store, keeper, tmp_path):
    put(store, *(record(feed_id) for feed_id in range(50)))
    keeper.seal()
    (path,) = store.archive.folder.glob("decisions-*.parquet")
    raw = path.read_bytes()
    end = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")  # where the footer begins
    refused = []
    places = np.random.default_rng(5).choice(end, 200, replace=False)
    for place in places.tolist():
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        try:
            assert same(record(7), store.find(7))
        except RecordsDamaged as error:
            refused.append(str(error))
    assert all(path.name in text for text in refused)
    assert len(refused) > 0.8 * len(places)  # the others are statistics and names in page headers


def test_queued_records_are_written_at_close_and_found_by_the_next_process(tmp_path):
    first = RecordStore(tmp_path)
    for feed_id in range(1, 40):
        first.put(lambda k=feed_id: record(k))
    first.close()
    second = RecordStore(tmp_path)
    assert same(record(39), second.find(39))
    assert second.lost == 0
    second.close()
    assert not list(tmp_path.glob("due-*"))


def test_a_record_that_cannot_be_made_is_lost_alone_and_counted(tmp_path):
    store = RecordStore(tmp_path)
    store.put(lambda: record(1, limit=None))
    put(store, record(2))
    assert store.lost == 1
    assert store.find(2) is not None
    store.close()
    store = RecordStore(tmp_path)
    assert (store.lost, lost_so_far(store.archive.database)) == (0, 1)
    store.close()


SERVES = """
import os, sys, time
from pathlib import Path
from serving.records.writer import RecordStore
store = RecordStore(Path(sys.argv[1]))
write = store._write_rows
def timed(batch):
    os.write(1, f"begins {time.monotonic()}\\n".encode())
    write(batch)
    os.write(1, f"ends {time.monotonic()}\\n".encode())
store._write_rows = timed
pattern = store.find(1)
del pattern["pages"]
for feed_id in range(2, 10_000):
    store.put(lambda k=feed_id: {**pattern, "feed_id": k})
    os.write(1, f"{feed_id} {time.monotonic()}\\n".encode())
    time.sleep(0.002)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.9, 1.3, 1.7])
def test_a_killed_server_loses_less_than_a_second_and_the_loss_is_counted(tmp_path, after):
    """Half a second in the queue and a write, twice: less than a second where a disk is none."""
    first = RecordStore(tmp_path)
    put(first, record(1))
    first.close()
    child = subprocess.Popen(
        [sys.executable, "-c", SERVES, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    told = [child.stdout.readline().split()]
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        told.append(child.stdout.readline().split())
    killed = time.monotonic()
    child.kill()
    told.extend(line.split() for line in child.communicate()[0].splitlines())
    served = {int(line[0]): float(line[1]) for line in told if line[0].isdigit() and line[1:]}
    begun, ended = ([float(at) for word, at in told if word == w] for w in ("begins", "ends"))
    writes = [end - begin for begin, end in zip(begun, [*ended, killed], strict=False)]
    store = RecordStore(tmp_path)
    kept = set(store.archive.ids().tolist())
    missing = [at for feed_id, at in served.items() if feed_id not in kept]
    assert kept >= ({1, 2} if ended else {1})
    assert all(killed - at < max(1.0, 0.5 + 2 * max(writes)) for at in missing)
    assert sorted(kept) == list(range(1, len(kept) + 1))
    assert len(missing) <= store.lost <= len(missing) + 1  # counted just before it was told
    assert store.lost > 0
    store.close()
    again = RecordStore(tmp_path)
    assert again.lost == 0  # it counts once, in the process that found it
    assert lost_so_far(again.archive.database) == store.lost
    again.close()


def test_the_loss_of_a_process_that_lives_is_not_counted(tmp_path):
    first = RecordStore(tmp_path)
    first.put(lambda: record(1))
    second = RecordStore(tmp_path)
    assert second.lost == 0
    first.close()
    second.close()


def test_lists_of_records_are_stored_in_the_type_of_their_column():
    for kind in KINDS:
        for field in kind.schema:
            if pa.types.is_list(field.type) and not pa.types.is_string(field.type.value_type):
                assert codec._dtype(field) == field.type.value_type.to_pandas_dtype()


def test_kinds_name_their_columns():
    assert DECISIONS.columns.startswith('"record_version", "feed_id"')
    assert '"limit"' in DECISIONS.columns


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
    served.add(UNKNOWN_ID, 0, np.array([1]))
    assert served.within(UNKNOWN_ID, 0, 30.0).tolist() == []
    served.add(2, 0, np.array([1]))
    served.add(3, 0, np.array([1]))
    assert served.within(1, 11 * minute, 30.0).tolist() == []


def test_a_policy_of_another_version_is_not_found(tmp_path):
    shelf = PolicyShelf(tmp_path, fixed_blend())
    (tmp_path / "0a.json").write_text('{"name": "old", "gone": 1}', encoding="utf-8")
    for unknown in ("0a", "0b"):
        with pytest.raises(NotFound):
            shelf.by_hash(unknown)
    assert shelf.by_hash(fixed_blend().hash) == fixed_blend()

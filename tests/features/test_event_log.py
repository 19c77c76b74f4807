"""The event log: idempotence, order, tail across segments and outbox, orphans, threads."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidInput, SchemaMismatch
from contracts.events import EVENT_SCHEMA, LOG_SCHEMA, UTC_US, EventType
from features.compaction import TARGET_ROWS, merge_plan
from features.event_log import EventLog
from features.segments import Segment
from features.workspace import Workspace

JUNE_US = 1_590_969_600_000_000  # 2020-06-01
DAY_US = 86_400_000_000


def make_events(
    ids: Iterable[int], times_us: Iterable[int] | None = None, kind: EventType = EventType.LIKE
):
    numbers = np.fromiter(ids, dtype=np.int64)
    times = JUNE_US + numbers * 1_000_000 if times_us is None else np.fromiter(times_us, np.int64)
    n = len(numbers)
    columns = {
        "event_id": pa.array(numbers),
        "type": pa.array(np.full(n, kind, dtype=np.int8)),
        "viewer_id": pa.array(numbers % 7 + 1),
        "post_id": pa.array(numbers % 5 + 1),
        "target_id": pa.nulls(n, pa.int64()),
        "event_time": pa.array(times, pa.int64()).cast(UTC_US),
        "known_time": pa.array(times, pa.int64()).cast(UTC_US),
        "known_assumed": pa.array(np.ones(n, dtype=bool)),
        "value": pa.nulls(n, pa.float32()),
        "feed_id": pa.nulls(n, pa.int64()),
        "position": pa.nulls(n, pa.int16()),
    }
    return pa.table(columns, schema=EVENT_SCHEMA)


def ids_of(table: pa.Table):
    return table.column("event_id").to_pylist()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(tmp_path / "home") as opened:
        yield opened


def test_append_acknowledges_and_skips_known_ids(workspace: Workspace):
    assert workspace.log.append(make_events([3, 1, 3])) == (2, 1, 2)
    assert workspace.log.append(make_events([1, 2])) == (1, 1, 3)
    assert ids_of(workspace.log.tail(0)) == [3, 1, 2]
    assert workspace.log.tail(0).schema == LOG_SCHEMA
    assert workspace.log.last_seq == 3


def test_bulk_loads_of_one_transaction_know_each_other(workspace: Workspace):
    with workspace.atomic():
        assert workspace.log.append_bulk(make_events([1, 2])) == (2, 0, 2)
        assert workspace.log.append_bulk(make_events([2, 3])) == (1, 1, 3)
        assert workspace.log.append(make_events([3, 4])) == (1, 1, 4)
    assert ids_of(workspace.log.tail(0)) == [1, 2, 3, 4]
    assert workspace.log.append_bulk(make_events([1, 2, 3, 4])) == (0, 4, 4)


def test_ids_stay_known_across_outbox_segments_and_reopening(tmp_path: Path):
    with Workspace.open(tmp_path) as first:
        first.log.append(make_events([1, 2]))
        first.log.append_bulk(make_events([2, 3, 4]))
        first.log.compact()
        first.log.append(make_events([5]))
    with Workspace.open(tmp_path) as second:
        assert second.log.append(make_events(range(1, 6))) == (0, 5, 5)
        assert second.log.append_bulk(make_events(range(1, 7))) == (1, 5, 6)
        assert sorted(ids_of(second.log.scan())) == [1, 2, 3, 4, 5, 6]


def test_every_column_survives_the_outbox_and_the_segment(workspace: Workspace):
    rows = make_events([1, 2]).to_pylist()
    rows[0] |= {"value": 2.5, "feed_id": 2**62, "position": 3, "known_assumed": False}
    rows[1] |= {"post_id": None, "target_id": 9, "type": int(EventType.FOLLOW)}
    table = pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)
    workspace.log.append(table)
    assert workspace.log.scan(columns=EVENT_SCHEMA.names).to_pylist() == rows
    workspace.log.compact()
    assert workspace.log.outbox_rows == 0
    assert workspace.log.scan(columns=EVENT_SCHEMA.names).to_pylist() == rows
    assert workspace.log.tail(0).to_pylist() == [{"seq": i + 1} | r for i, r in enumerate(rows)]


def test_scan_filters_by_time_type_place_and_columns(workspace: Workspace):
    workspace.log.append_bulk(make_events([1, 2, 3], [JUNE_US, JUNE_US + 40 * DAY_US, JUNE_US + 5]))
    workspace.log.append(make_events([4], [JUNE_US + 1], EventType.CLICK))
    log = workspace.log
    assert ids_of(log.scan()) == [1, 4, 3, 2]
    assert ids_of(log.scan(start_us=JUNE_US + 1, end_us=JUNE_US + 40 * DAY_US)) == [4, 3]
    assert ids_of(log.scan(types=[EventType.CLICK])) == [4]
    assert ids_of(log.scan(up_to_seq=3)) == [1, 3, 2]
    assert log.scan(columns=["post_id", "seq"]).column_names == ["post_id", "seq"]
    assert log.scan(start_us=JUNE_US + 99 * DAY_US).schema == LOG_SCHEMA
    with pytest.raises(SchemaMismatch, match="no columns colour"):
        log.scan(columns=["colour"])


def test_equal_times_keep_the_order_of_the_log(workspace: Workspace):
    workspace.log.append_bulk(make_events([9, 2, 7], [JUNE_US] * 3))
    workspace.log.append(make_events([1], [JUNE_US]))
    assert ids_of(workspace.log.scan()) == [9, 2, 7, 1]


def test_tail_pages_through_interleaved_segments_and_outbox(workspace: Workspace):
    log = workspace.log
    for start in range(0, 60, 20):  # each batch lies in two months
        ids = np.arange(start, start + 20)
        log.append_bulk(make_events(ids, JUNE_US + (ids % 2) * 40 * DAY_US))
        log.append(make_events([1000 + start]))
    log.compact()
    log.append(make_events([5000]))
    seen, after = [], 0
    while (page := log.tail(after, limit=7)).num_rows:
        assert page.num_rows <= 7
        seen += page.column("seq").to_pylist()
        after = seen[-1]
    assert seen == list(range(1, 65))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(
        st.tuples(
            st.sampled_from(["append", "bulk", "compact", "reopen"]),
            st.lists(st.integers(0, 30), max_size=8),
        ),
        max_size=8,
    )
)
def test_any_sequence_of_writes_behaves_like_a_set_in_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[str, list[int]]]
):
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home)
    expected: set[int] = set()
    for action, ids in batches:
        if action == "compact":
            workspace.log.compact()
        elif action == "reopen":
            workspace.close()
            workspace = Workspace.open(home)
        else:
            add = workspace.log.append if action == "append" else workspace.log.append_bulk
            times = JUNE_US + np.array(ids, dtype=np.int64) * 3 * DAY_US
            appended = add(make_events(ids, times))
            new = set(ids) - expected
            expected |= new
            assert appended == (len(new), len(ids) - len(new), len(expected))
    tailed, scanned = workspace.log.tail(0), workspace.log.scan()
    workspace.close()
    assert set(ids_of(tailed)) == expected
    assert tailed.column("seq").to_pylist() == list(range(1, len(expected) + 1))
    assert scanned.sort_by("seq").equals(tailed)
    keys = list(zip(scanned["event_time"].to_pylist(), scanned["seq"].to_pylist(), strict=True))
    assert keys == sorted(keys)


def test_files_without_a_registration_are_removed_at_open(tmp_path: Path):
    with Workspace.open(tmp_path) as workspace:
        workspace.log.append_bulk(make_events([1]))
    orphan = tmp_path / "events" / "month=2020-06" / "seg-2-3-2.parquet"
    orphan.write_bytes(b"part of a file")
    (tmp_path / "events" / ".tmp-ids-2-2.npy").write_bytes(b"")
    with Workspace.open(tmp_path, read_only=True) as reader:
        assert ids_of(reader.log.scan()) == [1]
        assert orphan.exists()
    with Workspace.open(tmp_path) as workspace:
        assert not orphan.exists()
        assert len(list((tmp_path / "events").rglob("*.*"))) == 2
        assert ids_of(workspace.log.scan()) == [1]


def test_compaction_merges_small_files_and_removes_the_old(tmp_path: Path):
    with Workspace.open(tmp_path) as workspace:
        for i in range(5):
            workspace.log.append_bulk(make_events([i]))
        result = workspace.log.compact()
        assert (result.segments_before, result.segments_after) == (5, 1)
        assert len(list((tmp_path / "events").rglob("*.parquet"))) == 1
        assert ids_of(workspace.log.scan()) == [0, 1, 2, 3, 4]
        assert workspace.log.append(make_events([3])).duplicates == 1


@given(st.lists(st.tuples(st.integers(1, 600_000), st.sampled_from("AB")), max_size=20))
def test_a_merge_plan_stays_within_months_and_the_row_target(sizes: list[tuple[int, str]]):
    segments = [Segment(str(i), m, rows, i, i, 0, 0) for i, (rows, m) in enumerate(sizes)]
    plan = merge_plan(segments)
    chosen = [segment.path for group in plan for segment in group]
    assert len(chosen) == len(set(chosen))
    for group in plan:
        assert len(group) > 1
        assert len({segment.month for segment in group}) == 1
        assert sum(segment.rows for segment in group) <= TARGET_ROWS


def test_readers_never_see_a_gap_while_writing_and_compacting(tmp_path: Path):
    with Workspace.open(tmp_path) as writer, Workspace.open(tmp_path, read_only=True) as reader:
        failures: list[str] = []
        stop = threading.Event()

        def follow(log: EventLog) -> None:
            after = 0
            while not stop.is_set():
                seqs = log.tail(after, limit=50).column("seq").to_pylist()
                if seqs != list(range(after + 1, after + 1 + len(seqs))):
                    failures.append(f"after {after}: {seqs}")
                after += len(seqs)
                total = log.scan(columns=["seq"]).num_rows
                if total < after:
                    failures.append(f"scan {total} < {after}")

        threads = [threading.Thread(target=follow, args=(ws.log,)) for ws in (writer, reader)]
        for thread in threads:
            thread.start()
        for i in range(40):
            writer.log.append(make_events([i * 10, i * 10 + 1]))
            writer.log.append_bulk(make_events([i * 10 + 2, i * 10 + 3]))
            if i % 3 == 0:
                writer.log.compact()
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert writer.log.last_seq == 160


def test_threads_append_without_loss(workspace: Workspace):
    def add(start: int) -> None:
        for i in range(20):
            workspace.log.append(make_events([start + i, 999_999]))

    threads = [threading.Thread(target=add, args=(k * 100,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert workspace.log.tail(0).column("seq").to_pylist() == list(range(1, 82))


@pytest.mark.parametrize(
    ("break_table", "error", "message"),
    [
        (lambda t: t.drop_columns(["value"]), SchemaMismatch, "lack the columns value"),
        (
            lambda t: t.set_column(2, "viewer_id", pa.array(["a"])),
            SchemaMismatch,
            "other types than the log's",
        ),
        (
            lambda t: t.set_column(2, "viewer_id", pa.nulls(1, pa.int64())),
            SchemaMismatch,
            "viewer_id",
        ),
        (
            lambda t: t.set_column(1, "type", pa.array([99], pa.int8())),
            InvalidInput,
            r"outside 1\.\.\d+",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_whole(
    workspace: Workspace,
    break_table: Callable[[pa.Table], pa.Table],
    error: type[Exception],
    message: str,
):
    with pytest.raises(error, match=message):
        workspace.log.append(break_table(make_events([1])))
    assert workspace.log.last_seq == 0


def test_an_empty_batch_is_fine(workspace: Workspace):
    assert workspace.log.append(make_events([])) == (0, 0, 0)
    assert workspace.log.append_bulk(make_events([])) == (0, 0, 0)
    assert workspace.log.compact() == (0, 0, 0)

"""Parity with Feast: our join equals its historical read, our cache equals its online read."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.clock import DAY_US, HOUR_US
from contracts.errors import InvalidInput, NotFound
from contracts.events import EVENT_SCHEMA
from contracts.settings import load_settings
from features.event_arrays import int_column
from features.frames import FeatureFrames
from features.materialize import Materialized, materialize, read_snapshots, snapshot_path
from features.offline import asof_join
from features.parity import Parity, compared, draw_labels, historical_parity, online_parity
from features.store import FeastStore, _online_config
from features.views import POST_VIEW, VIEWS, View
from features.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:feast.*"),
]


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory,
    world: Callable[..., FeatureFrames],
    filled: Callable[[Path, FeatureFrames], Workspace],
) -> Iterator[Workspace]:
    frames = world(7, people=25, posts=60, events=1500, days=20)
    with filled(tmp_path_factory.mktemp("home"), frames) as opened:
        yield opened


@pytest.fixture(scope="module")
def done(workspace: Workspace) -> Materialized:
    return materialize(workspace, cadence_us=6 * HOUR_US)


@pytest.fixture(scope="module")
def feast(workspace: Workspace, done: Materialized) -> FeastStore:
    store = FeastStore(workspace.home)
    store.apply()
    store.materialize(done.end_us)
    return store


def test_our_join_equals_feast(workspace: Workspace, feast: FeastStore) -> None:
    found = historical_parity(workspace, feast, labels=400)
    assert found == {v.name: Parity(440, 440 * len(v.columns), 0) for v in VIEWS}


def test_labels_ask_for_what_is_there_and_what_is_not(workspace: Workspace) -> None:
    snapshots = read_snapshots(workspace.home, POST_VIEW)
    ids, times = draw_labels(
        int_column(snapshots, "post_id"), int_column(snapshots, "event_timestamp"), 400, 0
    )
    joined = asof_join(ids, times, snapshots, ["like_all"], key="post_id")
    assert 0.05 < np.isnan(joined).mean() < 0.6
    assert len(set(zip(ids.tolist(), times.tolist(), strict=True))) < len(ids)


def test_late_rows_equal_times_and_ttl_equal_feast(tmp_path: Path) -> None:
    """Rows of equal event time, created later than events, and too old, as Feast joins them."""
    rng = np.random.default_rng(0)
    n, base = 3000, 1_700_000_000_000_000
    events = base + rng.integers(0, 300, n) * HOUR_US
    created = events + rng.choice([0, 0, HOUR_US, 50 * HOUR_US], n) + np.arange(n)  # no ties left
    ttl_us = 2 * DAY_US
    view = View(
        POST_VIEW.name,
        "post_id",
        POST_VIEW.counters,
        POST_VIEW.extras,
        timedelta(microseconds=ttl_us),
    )
    utc = pa.timestamp("us", tz="UTC")
    table = pa.table(
        {
            "post_id": rng.integers(1, 40, n),
            "event_timestamp": pa.array(events).cast(utc),
            "created_timestamp": pa.array(created).cast(utc),
            **{column: rng.random(n) for column in view.columns},
        }
    )
    home = tmp_path
    for each in VIEWS:
        snapshot_path(home, each).parent.mkdir(parents=True)
        renamed = table.rename_columns([each.key, *table.column_names[1:]])
        held = {c: renamed.column(3 + k) for k, c in enumerate(each.columns)}
        kept = renamed.select([each.key, "event_timestamp", "created_timestamp"])
        for name, values in held.items():
            kept = kept.append_column(name, values)
        pq.write_table(kept, snapshot_path(home, each))
    store = FeastStore(home, views=(view, *VIEWS[1:]))
    store.apply()
    ids = rng.integers(1, 45, 2000)
    times = base + rng.integers(-10, 400, 2000) * HOUR_US
    ours = asof_join(ids, times, table, view.columns, key="post_id", ttl_us=ttl_us)
    theirs = store.historical(view, ids, times)
    assert ours.shape == theirs.shape
    assert np.array_equal(ours, theirs, equal_nan=True)
    unbounded = asof_join(ids, times, table, view.columns, key="post_id")
    blind = asof_join(ids, times, without_lag(table), view.columns, key="post_id", ttl_us=ttl_us)
    for other in (unbounded, blind):
        assert not np.array_equal(ours, other, equal_nan=True), "time to live and lag both bite"


def without_lag(table: pa.Table) -> pa.Table:
    return table.set_column(2, "created_timestamp", table.column("event_timestamp"))


def test_the_cache_equals_feast_online(workspace: Workspace, feast: FeastStore) -> None:
    found = online_parity(workspace, feast)
    assert [v.unequal for v in found.values()] == [0, 0, 0]
    assert found["post_state"] == Parity(60, 60 * 12, 0)
    assert all(v.rows > 10 for v in found.values())


def test_a_difference_is_counted(
    tmp_path: Path,
    world: Callable[..., FeatureFrames],
    filled: Callable[[Path, FeatureFrames], Workspace],
) -> None:
    """The comparison can fail: here the online store lags behind the log."""
    two = np.array([[1.0, np.nan], [2.0, 3.0]])
    assert compared(two, two, tolerance=0.0) == Parity(2, 4, 0)
    assert compared(two, np.array([[1.0, 0.0], [2.0, 3.0 + 1e-6]]), tolerance=1e-9).unequal == 2
    frames = world(8)
    first = replace(frames, events=frames.events.slice(0, 100))
    with filled(tmp_path, first) as workspace:
        done = materialize(workspace)
        store = FeastStore(tmp_path)
        store.apply()
        store.materialize(done.end_us)
        assert online_parity(workspace, store)["post_state"].unequal == 0
        workspace.log.append_bulk(frames.events.slice(100).select(EVENT_SCHEMA.names))
        assert online_parity(workspace, store)["post_state"].unequal > 50


def test_unknown_entities_are_null_online(feast: FeastStore) -> None:
    assert np.isnan(feast.online_read(POST_VIEW, np.array([10**9]))).all()


def test_a_store_needs_snapshots(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no snapshots of post_state"):
        FeastStore(tmp_path)


def test_a_wrong_url_is_named(workspace: Workspace, done: Materialized) -> None:
    assert done.rows
    for url in ("http://u:hidden@x", "redis://u:hidden@x:port", "redis://u:hidden%2Cssl@x"):
        with pytest.raises(InvalidInput, match="a URL like redis://host:6379/0") as refused:
            FeastStore(workspace.home, online_url=url)
        assert "hidden" not in str(refused.value)


def test_a_url_is_read_whole(tmp_path: Path) -> None:
    options = _online_config(tmp_path, "rediss://us%40er:p%3Ass@host:6380/2")["connection_string"]
    assert options == "host:6380,db=2,username=us@er,password=p:ss,ssl=true"


@pytest.fixture
def redis_url() -> Iterator[str]:
    configured = load_settings().online_store_url
    if configured:
        yield configured
        return
    server = shutil.which("redis-server")
    if server is None:
        if load_settings().require_services:
            pytest.fail("redis-server is absent and HEADWATER_REQUIRE_SERVICES is set")
        pytest.skip("redis-server is absent")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [server, "--port", str(port), "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 0.2).close())
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def wait_for(attempt: Callable[[], None], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.integration
def test_the_cache_equals_feast_on_redis(
    workspace: Workspace, done: Materialized, redis_url: str
) -> None:
    store = FeastStore(workspace.home, online_url=redis_url)
    store.apply()
    store.materialize(done.end_us)
    assert all(v.rows > 10 and v.unequal == 0 for v in online_parity(workspace, store).values())

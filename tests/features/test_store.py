"""Parity with Feast: our join equals its historical read, our cache equals its online read."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.clock import DAY_US, HOUR_US
from contracts.errors import InvalidInput, NotFound
from contracts.settings import load_settings
from features.caches import FeatureCache
from features.event_arrays import int_column
from features.frames import FeatureFrames
from features.materialize import Materialized, materialize, read_snapshots, snapshot_path
from features.offline import asof_join
from features.slots import Float64s
from features.store import FeastStore
from features.views import AUTHOR_VIEW, POST_VIEW, VIEWS, View
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


def labels_of(snapshots: pa.Table, view: View, n: int = 400) -> tuple:
    """Draw labels on, just before, between and long after snapshots; some of unknown entities."""
    rng = np.random.default_rng(3)
    ids, events = int_column(snapshots, view.key), int_column(snapshots, "event_timestamp")
    at = rng.integers(0, len(ids), n)
    shift = rng.choice([0, -1, 1, HOUR_US, -5 * DAY_US, 40 * DAY_US], n)
    who = np.where(rng.random(n) < 0.1, 10**9, ids[at])
    times = events[at] + shift
    # The same label twice must come back twice.
    return np.r_[who, who[:50]], np.r_[times, times[:50]]


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)
def test_our_join_equals_feast(workspace: Workspace, feast: FeastStore, view: View) -> None:
    snapshots = read_snapshots(workspace.home, view)
    ids, times = labels_of(snapshots, view)
    ours = asof_join(ids, times, snapshots, view.columns, key=view.key)
    theirs = feast.historical(view, ids, times)
    assert ours.shape == theirs.shape == (450, len(view.columns))
    assert 0.02 < np.isnan(ours[:, 0]).mean() < 0.6, "some labels find nothing, most do"
    assert np.array_equal(ours, theirs, equal_nan=True)


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


def cache_values(cache: FeatureCache, view: View, ids: np.ndarray, now: int) -> Float64s:
    if view is POST_VIEW:
        slots = cache.posts.slots_of(ids)
        extra = cache.posts.window.read(slots, now)
        return np.column_stack([cache.posts.counters.exact(slots, now), extra])
    slots = cache.people.slots_of(ids)
    if view is AUTHOR_VIEW:
        counters, extra = cache.people.as_author, cache.graph.followers
    else:
        counters, extra = cache.people.as_viewer, cache.graph.follows
    return np.column_stack([counters.exact(slots, now), extra[slots]])


def assert_cache_equals(
    store: FeastStore, workspace: Workspace, done: Materialized
) -> dict[str, int]:
    """Compare every entity's online row, as of the time it was written, with the cache then."""
    cache = FeatureCache.load(workspace)
    assert cache.applied_seq == done.seq
    compared = {}
    for view in VIEWS:
        snapshots = read_snapshots(workspace.home, view).to_pandas()
        last = snapshots.groupby(view.key)["event_timestamp"].max()
        ids = last.index.to_numpy()
        written = last.astype("int64").to_numpy()
        online = store.online_read(view, ids)
        assert online.shape == (len(ids), len(view.columns))
        decayed = online * decay_factors(view, done.end_us - written)
        ours = cache_values(cache, view, ids, done.end_us)
        kept = [k for k, c in enumerate(view.columns) if c != "positive_24h"]
        assert ours[:, kept] == pytest.approx(decayed[:, kept], abs=1e-9)
        fresh = written == done.end_us
        assert fresh.any()
        assert ours[fresh] == pytest.approx(online[fresh], abs=1e-9)
        compared[view.name] = ours.size
    return compared


def decay_factors(view: View, elapsed_us: np.ndarray) -> np.ndarray:
    lives = [c.half_life_us for c in view.counters] + [np.inf] * len(view.extras)
    return np.exp2(-elapsed_us[:, None] / np.array(lives))


def test_the_cache_equals_feast_online(
    workspace: Workspace, done: Materialized, feast: FeastStore
) -> None:
    compared = assert_cache_equals(feast, workspace, done)
    assert compared.keys() == {v.name for v in VIEWS}


def test_unknown_entities_are_null_online(feast: FeastStore) -> None:
    assert np.isnan(feast.online_read(POST_VIEW, np.array([10**9]))).all()


def test_a_store_needs_snapshots(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no snapshots of post_state"):
        FeastStore(tmp_path)


def test_a_wrong_url_is_named(workspace: Workspace, done: Materialized) -> None:
    assert done.rows
    with pytest.raises(InvalidInput, match="got 'http://x'"):
        FeastStore(workspace.home, online_url="http://x")


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
    assert_cache_equals(store, workspace, done)

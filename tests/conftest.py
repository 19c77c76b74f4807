"""What many rooms test against: one small home, trained once a test process, copied per test."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import time_ns

import prometheus_client  # noqa: F401 - before feast, whose import turns its numbers into shared files
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from contracts.clock import DAY_US, SECOND_US, now_us, to_datetime
from contracts.settings import load_settings
from features.materialize import materialize
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.ingestion.ingest import ingest, open_dataset
from simulator.world import World
from training.config import small_config
from training.ranking import train_ranking
from training.reading import read_training_data
from training.stages import StageClock

# A slow machine is no failure: pytest's own timeout ends what hangs. Two runs try the same
# examples, so that the change is to blame for a red one; `make verify` looks for new ones.
settings.register_profile("headwater", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile("headwater")


@pytest.fixture(scope="session", autouse=True)
def noon_us() -> Iterator[int]:
    """Set the project's clock back so that every run of the tests begins at noon UTC; give noon.

    A simulated world is the same whatever day it ends on, not whatever hour: people sleep at night.
    With this, two runs test the same worlds. A process that a test starts has the machine's clock;
    a server that serves such a world takes `server_clock`.
    """
    noon = (now_us() - DAY_US // 2) // DAY_US * DAY_US + DAY_US // 2
    if to_datetime(noon).month == 1:  # posts are described by their year: keep to one
        noon -= 31 * DAY_US
    behind_ns = (now_us() - noon) // SECOND_US * SECOND_US * 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contracts.clock.time_ns", lambda: time_ns() - behind_ns)
        yield noon


@pytest.fixture(scope="session", autouse=True)
def same_examples() -> Iterator[None]:
    """Keep Hypothesis from drawing from the literals of the modules imported so far.

    Which those are depends on the tests that ran before. `make verify` lets it.
    """
    with pytest.MonkeyPatch.context() as patch:
        if settings.default.derandomize:
            patch.setattr(providers, "_get_local_constants", Constants)
        yield


@pytest.fixture(scope="session")
def server_clock(noon_us: int) -> dict[str, str]:
    """Give the setting by which a server process has the clock of the tests."""
    behind_ns = time_ns() - now_us() * 1000
    return {"HEADWATER_CLOCK_OFFSET_SECONDS": str(-round(behind_ns / 10**9))}


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory, noon_us: int) -> Path:
    """A home with a small world that ends at noon, its features, and a published bundle."""
    folder = tmp_path_factory.mktemp("small")
    home = folder / "home"
    World.generate(3, people=120, posts=500, days=10, end_us=noon_us).write(folder / "files")
    with Workspace.open(home) as workspace:
        ingest(workspace, open_dataset(folder / "files"), Reporter(as_json=True))
        materialize(workspace)
        data = read_training_data(workspace)
        result = train_ranking(data, small_config(), StageClock())
        bundle = result.bundle.save(home / "bundles")
        (home / "bundles" / "CHAMPION").write_text(bundle.bundle_id, encoding="utf-8")
    return home


@pytest.fixture
def small_home_copy(small_home: Path, tmp_path: Path) -> Path:
    """A copy of `small_home` that a test may write to."""
    return Path(shutil.copytree(small_home, tmp_path / "home"))


@pytest.fixture(scope="session")
def grown_home(tmp_path_factory: pytest.TempPathFactory, noon_us: int) -> Path:
    """A home whose published bundle was trained 4 of 12 days ago: people and posts came since."""
    folder = tmp_path_factory.mktemp("grown")
    cut = to_datetime(noon_us - 4 * DAY_US)
    World.generate(3, people=200, posts=800, days=12, end_us=noon_us).write(folder / "whole")
    shutil.copytree(folder / "whole", folder / "early")
    events = pq.read_table(folder / "whole" / "events.parquet")
    early = events.filter(pc.less(events["known_time"], cut))
    pq.write_table(early, folder / "early" / "events.parquet")
    posts = (folder / "whole" / "posts.jsonl").read_text().splitlines(keepends=True)
    made = [line for line in posts if json.loads(line)["created"] < cut.isoformat()]
    (folder / "early" / "posts.jsonl").write_text("".join(made))
    with Workspace.open(folder / "home") as workspace:
        ingest(workspace, open_dataset(folder / "early"), Reporter(as_json=True))
        data = read_training_data(workspace)
        bundle = train_ranking(data, small_config(), StageClock()).bundle
        bundle_id = bundle.save(folder / "home" / "bundles").bundle_id
        (folder / "home" / "bundles" / "CHAMPION").write_text(bundle_id, encoding="utf-8")
        ingest(workspace, open_dataset(folder / "whole"), Reporter(as_json=True))
        materialize(workspace)
    return folder / "home"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the public data sets; skips with the reason where it is absent."""
    folder = load_settings().data_dir
    if not folder.is_dir():
        pytest.skip(f"no public data in {folder}: set HEADWATER_DATA_DIR")
    return folder

"""What many rooms test against: one small home, trained once a test process, copied per test."""

import json
import shutil
from pathlib import Path

import prometheus_client  # noqa: F401 - before feast, whose import turns its numbers into shared files
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from contracts.clock import DAY_US, now_us, to_datetime
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

# A slow machine is no failure: pytest's own timeout ends what hangs.
settings.register_profile("headwater", deadline=None)
settings.load_profile("headwater")


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a small world that ends now, its features, and a published bundle."""
    folder = tmp_path_factory.mktemp("small")
    home = folder / "home"
    World.generate(3, people=120, posts=500, days=10, end_us=now_us()).write(folder / "files")
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
def grown_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose published bundle was trained 4 of 12 days ago: people and posts came since."""
    folder = tmp_path_factory.mktemp("grown")
    end_us = now_us()
    cut = to_datetime(end_us - 4 * DAY_US)
    World.generate(3, people=200, posts=800, days=12, end_us=end_us).write(folder / "whole")
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

"""What many rooms test against: one small home, trained once a test process, copied per test."""

import shutil
from pathlib import Path

import prometheus_client  # noqa: F401 - before feast, whose import turns its numbers into shared files
import pytest
from hypothesis import settings

from contracts.clock import now_us
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
def data_dir() -> Path:
    """The folder of the public data sets; skips with the reason where it is absent."""
    folder = load_settings().data_dir
    if not folder.is_dir():
        pytest.skip(f"no public data in {folder}: set HEADWATER_DATA_DIR")
    return folder

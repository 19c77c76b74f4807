"""Two workers on Ray: the shards, weights, lists and metrics of one process; a worker lost."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from contracts.errors import InvalidInput, NotFound
from contracts.settings import load_settings
from models.base import TrainingContext
from models.bundle import read_manifest
from pipelines import ray_option
from pipelines.commands import recommend as single
from pipelines.flow import read_home, run_training
from pipelines.publish import champion_id
from pipelines.ray_option import ray_jobs
from training.config import small_config
from training.ranking import train_ranking
from training.recipes.deep import DeepRecipe
from training.recipes.sequences import merge_repeats
from training.stages import StageClock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.timeout(600),  # groups of workers start five times
    pytest.mark.filterwarnings("default"),  # Ray warns of its own settings
]


def test_wrong_input_is_said_before_any_worker_starts(small_home: Path, tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    with pytest.raises(InvalidInput, match="there is no model 'best'"):
        single.recommend(out, all_users=True, model="best", home=small_home, ray=2)
    with pytest.raises(NotFound, match="there is no bundle 'nope'"):
        single.recommend(out, all_users=True, bundle="nope", home=small_home, ray=2)
    with pytest.raises(NotFound, match="there is no data in"):
        ray_option.ray_session(2, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_ray_the_option_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_option, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"pip install .*'\.\[ray\]'"):
        ray_jobs()


@pytest.fixture(scope="module")
def home(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(small_home, tmp_path_factory.mktemp("ray") / "home"))


@pytest.fixture(scope="module")
def jobs(home: Path) -> Iterator[Any]:
    """A session of two workers, all of it on this machine's loopback."""
    if find_spec("ray") is None:
        if load_settings().require_services:
            pytest.fail("the extra `ray` is absent and HEADWATER_REQUIRE_SERVICES is set")
        pytest.skip("the extra `ray` is absent: pip install -c constraints.txt -e '.[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else tests beside these starve the workers
        with ray_jobs().session(2, home) as session:
            yield session
    assert not list(home.glob("ray-*"))


def test_each_worker_gets_its_people_with_repeats_merged(jobs: Any, tmp_path: Path) -> None:
    data = read_home(jobs.folder.parent).dataset
    ray_jobs().write_shards(data.actions, data.n_items, 2, tmp_path / "people")
    shards = [ray_jobs().read_shard(tmp_path / "people", rank) for rank in (0, 1)]
    assert not set(shards[0].user_rows) & set(shards[1].user_rows)
    whole = merge_repeats(data.actions, data.n_items)
    for name in ("user_rows", "item_rows", "times_us", "types"):
        joined = np.concatenate([getattr(shard, name) for shard in shards])
        people = np.concatenate([shard.user_rows for shard in shards])
        np.testing.assert_array_equal(
            joined[np.argsort(people, kind="stable")], getattr(whole, name)
        )


def test_more_workers_than_people_are_refused(jobs: Any, tmp_path: Path) -> None:
    data = read_home(jobs.folder.parent).dataset
    with pytest.raises(InvalidInput, match="500 workers are more than"):
        ray_jobs().write_shards(data.actions, data.n_items, 500, tmp_path)


def test_a_killed_worker_is_replaced_and_the_bundle_is_as_good(jobs: Any, home: Path) -> None:
    """Passes are fixed: when to stop is a matter of chance among so few people.

    An interval knows the chance of who is asked, not that of a fit: other batches are like another
    seed. So the intervals are those of three seeds in one process.
    """
    deep = small_config().deep.model_copy(update={"epochs": 15, "patience": 15, "held_people": 0})
    config = small_config().model_copy(update={"deep": deep, "deep_seconds": 200.0})
    seeds = [config.model_copy(update={"seed": seed}) for seed in (config.seed, 5, 6)]
    alone, *others = (train_ranking(read_home(home), each, StageClock()) for each in seeds)
    with Killer(jobs.folder) as killer:
        found = run_training(home, config, StageClock(), fit_deep=jobs.fit_deep)
    assert killer.killed is not None
    bundle, other = read_manifest(home / "bundles" / found.bundle_id), alone.bundle.manifest
    assert bundle.data == other.data
    assert bundle.config == other.config
    assert bundle.families["deep"] == other.families["deep"]
    by_one = [{row.model: row.metrics for row in fit.rows} for fit in (alone, *others)]
    for row in found.rows:
        if row.model in {"deep", "retrieval-blend", "ensemble"}:
            for name in ("recall@20", "ndcg@20"):
                single = [metrics[row.model][name] for metrics in by_one]
                low, high = min(one.low for one in single), max(one.high for one in single)
                assert low <= row.metrics[name].mean <= high, (row.model, name)


def test_a_fit_that_lost_a_worker_gives_the_same_weights(jobs: Any, home: Path) -> None:
    data = read_home(home).dataset
    frame = data.frame(np.ones(len(data.actions), dtype=bool))
    config = small_config().deep.model_copy(update={"epochs": 8, "patience": 8})
    context = TrainingContext(4, 1)
    recipe = DeepRecipe(config, start=DeepRecipe(config).fit(frame, TrainingContext(3, 1)))
    undisturbed, report = jobs.fit_deep(recipe, frame, context)
    with Killer(jobs.folder) as killer:
        retried, again = jobs.fit_deep(recipe, frame, context)
    assert killer.killed is not None
    assert (again.scores, again.best_epoch) == (report.scores, report.best_epoch)
    np.testing.assert_array_equal(retried.vectors, undisturbed.vectors)


@pytest.mark.parametrize("model", ["ensemble", "deep"])
def test_lists_are_those_of_one_process(
    model: str, jobs: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = str(champion_id(home))
    for module in (ray_jobs(), single):  # equal batches, for matrix products round by their shape
        monkeypatch.setattr(module, "BATCH", 50)
    seen: list[int] = []
    counts = jobs.recommend_all(home, bundle, model, 7, tmp_path / "ray.parquet", seen.append)
    alone = tmp_path / "alone.parquet"
    assert counts == single.recommend_all(home, bundle, model, 7, alone, lambda _: None)
    assert sum(seen) == counts[0]
    assert pq.read_table(tmp_path / "ray.parquet").equals(pq.read_table(alone))


class Killer(threading.Thread):
    """Kills one training worker, a child of this process, after its first checkpoint."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.killed: int | None = None
        self.over = threading.Event()
        """Set after the fit, which is as long as there is somebody to kill."""

    def run(self) -> None:
        while self.killed is None and not self.over.wait(0.02):
            with suppress(OSError):  # a checkpoint was taken away while it was looked for
                if any(self.folder.glob("deep-*/train/**/state.pt")):
                    self.killed = kill_one_worker()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def kill_one_worker() -> int | None:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it may have ended meanwhile
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::RayTrainWorker"):
                process.kill()
                return process.pid
    return None

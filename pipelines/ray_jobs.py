"""What runs on Ray, and nothing else that touches it: data preparation, training, batch scoring.

The recipes are those of one process (`recipes/deep.py`, `commands/recommend.py`). What workers
share lies in one folder of the home, which on several machines must be one that all of them see.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from contracts.errors import InvalidInput, Unavailable
from contracts.ids import Namespace
from features.workspace import Workspace
from models.base import Interactions, TrainingContext, TrainingFrame
from models.deep import DeepModel
from pipelines.commands.recommend import BATCH, SCHEMA, Lists, write_lists
from training.loop import LoopReport, torch_run
from training.recipes.base import item_counts
from training.recipes.deep import DeepInputs, DeepRecipe, DeepRecipeConfig, fit_network
from training.recipes.sequences import merge_repeats
from training.recipes.two_tower import TwoTower
from training.workers import Workers

# Ray reads these when it is imported: nothing leaves the machine, unless a cluster is named.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if "RAY_ADDRESS" not in os.environ:
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 127.0.0.1 on Linux too
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

import ray
import ray.data
from ray import train
from ray.train.torch import TorchConfig, TorchTrainer

STORE_BYTES: Final = 200 << 20
"""Shared memory of a Ray started here; what does not fit spills to disk."""
RETRIES: Final = 3
"""Times that a fit goes on from its checkpoint after a worker was lost."""
_STATE: Final = "state.pt"
_START: Final = "start"
_BLOCK: Final = 1_000_000
"""Actions handed to Ray Data at a time."""
_COLUMNS: Final = ("user", "item", "time", "type")


@dataclass(frozen=True, slots=True)
class RayJobs:
    """Jobs of one session."""

    workers: int
    folder: Path
    """Seen by all workers; gone when the session ends."""

    def fit_deep(
        self, recipe: DeepRecipe, frame: TrainingFrame, context: TrainingContext
    ) -> tuple[DeepModel, LoopReport]:
        """Fit the deep family on several workers; Unavailable where too many are lost."""
        config = recipe.config
        inputs = DeepInputs.of(frame, recipe, context.seed)
        with TemporaryDirectory(dir=self.folder, prefix="deep-") as name:
            folder = Path(name)
            np.save(folder / "side.npy", inputs.side)
            if recipe.start is not None:
                (folder / _START).mkdir()
                recipe.start.save(folder / _START)
            write_shards(frame.interactions, frame.n_items, self.workers, folder / "people")
            job = {
                "folder": name,
                "config": config.model_dump(mode="json"),
                "seed": context.seed,
                "threads": max(1, context.threads // self.workers),
                "seconds": context.time_budget_seconds,
            }
            saved = _read_state(_train(job, self.workers, folder / "train").checkpoint)
        report = LoopReport(**(saved or {})["report"])
        counts = item_counts(frame.interactions, frame.n_items)
        network = TwoTower(config.shape, inputs.side, counts, config.dropout)
        network.load_state_dict(report.state)
        return inputs.freeze(network.eval()), report

    def recommend_all(
        self, home: Path, bundle: str, model: str, k: int, out: Path, advance: Callable[[int], None]
    ) -> tuple[int, int]:
        """Write everybody's lists, as `pipelines.commands.recommend.recommend_all` does."""
        with Workspace.open(home, read_only=True) as workspace:
            people = len(workspace.ids.all(Namespace.PERSON)[0])
        # Blocks, not `range`: the workers take every CPU, and nothing is left for tasks that read.
        starts = range(0, people, BATCH)
        rows = [pa.table({"id": np.arange(s, min(s + BATCH, people))}) for s in starts]
        ranked = ray.data.from_arrow(rows).map_batches(
            _Scoring,
            fn_constructor_args=(home.absolute(), bundle, model, k),
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=self.workers),
            num_cpus=1,
        )
        tables = ranked.iter_batches(batch_size=None, batch_format="pyarrow")
        return people, write_lists(out, (table.cast(SCHEMA) for table in tables), advance)


@contextmanager
def session(workers: int, home: Path) -> Iterator[RayJobs]:
    """Join the cluster of `RAY_ADDRESS`, or start Ray on this machine; left at the end."""
    with (
        TemporaryDirectory(prefix="ray-") as logs,
        TemporaryDirectory(dir=home.absolute(), prefix="ray-") as folder,
    ):
        ours = {
            "address": "local",
            "num_cpus": workers,
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": logs,
        }
        given = {} if "RAY_ADDRESS" in os.environ else ours
        ray.init(log_to_driver=False, logging_level="WARNING", **given)
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        try:
            settings = ray.data.DataContext.get_current()
            settings.enable_progress_bars = False
            settings.execution_options.preserve_order = True
            yield RayJobs(workers, Path(folder))
        finally:
            ray.shutdown()


def write_shards(actions: Interactions, n_items: int, workers: int, folder: Path) -> None:
    """Merge repeated actions with Ray Data and write each worker's people into `shard=<rank>`."""
    people, person = np.unique(actions.user_rows, return_inverse=True)
    if len(people) < workers:
        msg = f"{workers} workers are more than the {len(people)} people who have acted"
        raise InvalidInput(msg, hint="use fewer workers")
    table = _table(actions, person % workers)
    blocks = [table.slice(start, _BLOCK) for start in range(0, len(table), _BLOCK)]
    shards = ray.data.from_arrow(blocks).groupby("shard", num_partitions=workers)
    merged = shards.map_groups(_merge, fn_args=(n_items,), batch_format="pyarrow")
    merged.write_parquet(str(folder), partition_cols=["shard"])


def read_shard(folder: Path, rank: int) -> Interactions:
    """Read one worker's merged actions, people ascending."""
    return _actions(pq.read_table(folder / f"shard={rank}", columns=["row", *_COLUMNS]))


def _merge(table: pa.Table, n_items: int) -> pa.Table:
    """Merge the repeats of one shard."""
    merged = merge_repeats(_actions(table), n_items)
    return _table(merged, np.full(len(merged), table["shard"][0].as_py()))


def _table(actions: Interactions, shard: np.ndarray) -> pa.Table:
    columns = [actions.user_rows, actions.item_rows, actions.times_us, actions.types]
    return pa.table([*columns, np.arange(len(actions)), shard], names=[*_COLUMNS, "row", "shard"])


def _actions(table: pa.Table) -> Interactions:
    """Turn columns into arrays, in the order that the rows had before the shuffle."""
    ordered = table.sort_by("row")
    return Interactions(*(ordered[name].to_numpy() for name in _COLUMNS))


def _train(job: dict[str, Any], workers: int, folder: Path) -> train.Result:
    run = train.RunConfig(
        name="fit",
        storage_path=str(folder),
        failure_config=train.FailureConfig(max_failures=RETRIES),
        checkpoint_config=train.CheckpointConfig(num_to_keep=1),
    )
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config=job,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=train.ScalingConfig(num_workers=workers),
        run_config=run,
    )
    try:
        return trainer.fit()
    except train.TrainingFailedError as error:
        last = str(error).strip().splitlines()[-1]
        msg = f"{workers} workers failed {RETRIES + 1} times, at last so: {last}"
        raise Unavailable(msg, hint="train without --ray, or with fewer workers") from error


def _train_worker(job: dict[str, Any]) -> None:
    """Fit with the other workers, from the newest checkpoint where one was lost."""
    folder, place = Path(job["folder"]), train.get_context()
    workers = Workers(
        place.get_world_rank(),
        place.get_world_size(),
        _read_state(train.get_checkpoint()),
        _report,
    )
    side, merged = np.load(folder / "side.npy"), read_shard(folder / "people", workers.rank)
    begun = folder / _START
    start = DeepModel.load(begun) if begun.exists() else None
    recipe = DeepRecipe(DeepRecipeConfig.model_validate(job["config"]), start=start)
    context = TrainingContext(job["seed"], job["threads"], job["seconds"])
    with torch_run(context):
        fit_network(side, merged, recipe, context, workers)


def _report(state: Mapping[str, Any]) -> None:
    """Keep a checkpoint; one worker writes it, for all hold the same weights."""
    with TemporaryDirectory() as folder:
        checkpoint = None
        if train.get_context().get_world_rank() == 0:
            torch.save(state, Path(folder) / _STATE)
            checkpoint = train.Checkpoint.from_directory(folder)
        train.report({"epochs": len(state["report"]["scores"])}, checkpoint=checkpoint)


def _read_state(checkpoint: train.Checkpoint | None) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / _STATE, weights_only=True)
    return state


class _Scoring:
    """One scoring worker: reads the home and the bundle once, then ranks batch after batch."""

    def __init__(self, *opened: Any) -> None:  # noqa: ANN401  # what `Lists.open` takes
        self.lists = Lists.open(*opened)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> pa.Table:
        """Rank for the people of some rows."""
        return self.lists.table(batch["id"])

"""MLflow, and nothing else that touches it: runs, metrics, plots, the registry and its aliases."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.config import TrainingConfig
from training.evaluate import DECIDING, ModelRow
from training.ranking import TrainingResult
from training.search import Searched, Tried
from training.stages import StageCost

# mlflow reads this when it is imported: nothing leaves the machine.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

EXPERIMENT: Final = "headwater"
MODEL: Final = "headwater-bundle"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
_MOST_PARAMS: Final = 100
_LONGEST_PARAM: Final = 500


def tracking_uri(home: Path) -> str:
    """Name the SQLite store of a home folder."""
    return f"sqlite:///{(home / 'mlflow' / 'mlflow.db').absolute()}"


def log_run(
    home: Path, result: TrainingResult, config: TrainingConfig, bundle_folder: Path
) -> tuple[str, str]:
    """Log one training run and register its bundle as challenger: (run id, version)."""
    client = _client(home)
    identity = _experiment(client, home)
    manifest = result.bundle.manifest
    tags = {
        "bundle_id": bundle_folder.name,
        "data_fingerprint": manifest.data.fingerprint,
        "protocol": manifest.protocol,
        "measured_on": manifest.measured_on,
        "gate": result.verdict.why,
    }
    name = f"{manifest.data.dataset} {bundle_folder.name}"
    run = client.create_run(identity, tags=tags, run_name=name).info.run_id
    params = dict(_flat({"data": manifest.data.model_dump(), **config.model_dump(mode="json")}))
    client.log_batch(run, metrics=_metrics(result), params=_params(params))
    with TemporaryDirectory() as folder:
        _draw_models(result.rows, Path(folder) / "models.png")
        _draw_stages(result.costs, Path(folder) / "stages.png")
        table = [row.model_dump(mode="json") for row in result.rows]
        (Path(folder) / "models.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
        client.log_artifacts(run, folder)
    client.log_artifact(run, str(bundle_folder / "manifest.json"))
    client.set_terminated(run)
    return run, _register(client, run, bundle_folder)


def log_search(home: Path, searched: Searched, tried: Sequence[Tried]) -> str:
    """Log a search as a run and each trial as a run below it; give the search's run id."""
    client = _client(home)
    identity = _experiment(client, home)

    def log(
        name: str, tags: dict[str, str], figures: Mapping[str, float], params: Mapping[str, Any]
    ) -> str:
        run: str = client.create_run(identity, tags=tags, run_name=name).info.run_id
        client.log_batch(run, metrics=_usable(figures), params=_params(params))
        client.set_terminated(run)
        return run

    tags = {"kind": "search", "data_fingerprint": searched.data_fingerprint}
    gains = {f"{name}.gain": tuned.gain.mean for name, tuned in searched.tuned.items()}
    params = dict(_flat(searched.model_dump(mode="json")))
    parent = log(f"search {searched.dataset}", tags, gains, params)
    for number, (model, chosen, value, seconds) in enumerate(tried):
        figures = {"seconds": seconds, "ndcg@20": nan if value is None else value}
        state = "pruned" if value is None else "complete"
        tags = {"kind": "trial", "model": model, "state": state, MLFLOW_PARENT_RUN_ID: parent}
        log(f"{model} {number}", tags, figures, chosen)
    return parent


def set_alias(home: Path, alias: str, bundle_id: str) -> bool:
    """Point a registry alias at a bundle; False where the registry does not know the bundle."""
    client = _client(home)
    try:
        versions = client.search_model_versions(f"name='{MODEL}'")
    except MlflowException:
        return False
    for version in versions:
        if version.tags.get("bundle_id") == bundle_id:
            client.set_registered_model_alias(MODEL, alias, version.version)
            return True
    return False


def _experiment(client: mlflow.MlflowClient, home: Path) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    artifacts = (home / "mlflow" / "artifacts").absolute().as_uri()
    return str(client.create_experiment(EXPERIMENT, artifacts))


def _client(home: Path) -> mlflow.MlflowClient:
    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri(home)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def _register(client: mlflow.MlflowClient, run: str, folder: Path) -> str:
    try:
        client.get_registered_model(MODEL)
    except MlflowException:
        client.create_registered_model(MODEL, description="Bundles: families, ranker, indexes")
    version = client.create_model_version(
        MODEL, source=folder.absolute().as_uri(), run_id=run, tags={"bundle_id": folder.name}
    )
    client.set_registered_model_alias(MODEL, CHALLENGER, version.version)
    return str(version.version)


def _metrics(result: TrainingResult) -> list[Metric]:
    named: dict[str, float] = {}
    for row in result.rows:
        named |= {f"{row.model}.{k}": v.mean for k, v in row.metrics.items()}
        named |= {f"{row.model}.{k}": v for k, v in row.lists.items()}
    named |= {f"ranker.{k}": v for k, v in result.ranker_metrics.items()}
    named |= {f"seconds.{cost.name}": cost.seconds for cost in result.costs}
    return _usable(named)


def _usable(named: Mapping[str, float]) -> list[Metric]:
    now = int(time() * 1000)
    usable = {k: v for k, v in named.items() if not isnan(v)}  # MLflow's SQLite refuses NaN
    return [Metric(_key(k), float(v), now, 0) for k, v in usable.items()]


def _key(name: str) -> str:
    """MLflow takes letters, digits and a few signs in a name."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name.replace("@", "_at_"))


def _params(params: Mapping[str, Any]) -> list[Param]:
    short = [(k, str(v)[:_LONGEST_PARAM]) for k, v in params.items()]
    return [Param(_key(k), v) for k, v in short[:_MOST_PARAMS]]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _draw_models(rows: list[ModelRow], target: Path) -> None:
    """Draw NDCG@20 of each model with its interval."""
    ordered = sorted(rows, key=lambda row: row.metrics[DECIDING].mean)
    figure = Figure(figsize=(7, 0.4 * len(ordered) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, row in enumerate(ordered):
        found = row.metrics[DECIDING]
        axes.plot([found.low, found.high], [place, place], color="tab:blue")
        axes.plot(found.mean, place, "o", color="tab:blue")
    axes.set_yticks(range(len(ordered)), [row.model for row in ordered])
    axes.set_xlabel(f"{DECIDING}, mean over people and 95 % interval")
    figure.savefig(target, dpi=120)


def _draw_stages(costs: Sequence[StageCost], target: Path) -> None:
    """Draw the seconds of each stage, in order from the top."""
    ordered = list(reversed(costs))
    figure = Figure(figsize=(7, 0.3 * len(ordered) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(range(len(ordered)), [cost.seconds for cost in ordered])
    axes.set_yticks(range(len(ordered)), [cost.name for cost in ordered])
    axes.set_xlabel("seconds")
    figure.savefig(target, dpi=120)

"""One training run as a flow: read, train, write the bundle, judge, track, report."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from json import dumps, loads
from pathlib import Path
from typing import Any, Final

from contracts.errors import BundleMismatch, NotFound
from features.storage import write_durably
from features.workspace import Workspace
from models.bundle import Bundle
from models.deep import DeepModel
from models.manifest import Manifest
from pipelines.publish import champion_id
from training.config import TrainingConfig
from training.evaluate import ModelRow
from training.ranking import TrainingResult, train_ranking
from training.reading import TrainingData, read_training_data
from training.recipes.deep import DeepRecipe, FitDeep
from training.report import write_results
from training.stages import StageClock, StageCost
from training.tracking import log_run
from training.warm import FirstFit, WarmStart

CHALLENGER_FILE: Final = "CHALLENGER"
REPORT_SUFFIX: Final = ".report.json"
FIRST_SUFFIX: Final = ".first"
"""Folder beside a bundle: its deep family as the first fit left it, for the next warm start."""


@dataclass(frozen=True, slots=True)
class FlowResult:
    """What a run left behind."""

    bundle_id: str
    run_id: str
    rows: list[ModelRow]
    ranker_metrics: dict[str, float]
    why: str
    promote: bool
    notes: dict[str, Any] = field(default_factory=dict)
    costs: list[StageCost] = field(default_factory=list)


def run_training(
    home: Path,
    config: TrainingConfig,
    clock: StageClock,
    results: Path | None = None,
    *,
    warm: bool = False,
    fit_deep: FitDeep = DeepRecipe.fit_reported,
) -> FlowResult:
    """Train on a home folder's log and leave a bundle there, registered as challenger.

    `results`: a Markdown file whose section of this set is replaced; `warm`: begin from the
    champion's weights; `fit_deep`: where the deep family is fitted.
    """
    with clock.stage("read"):
        data = read_home(home)
    champion = load_champion(home)
    start = read_start(home, champion, data, config) if warm and champion else None
    found, _ = train_on(home, data, config, clock, champion, start, fit_deep)
    if warm:
        found.notes.setdefault("Warm start", "nothing could: every fit was cold")
    set_challenger(home, found.bundle_id)
    if results is not None:
        write_results(results, found.rows, found.ranker_metrics, found.notes, found.costs)
    return found


def train_on(
    home: Path,
    data: TrainingData,
    config: TrainingConfig,
    clock: StageClock,
    champion: Bundle | None,
    start: WarmStart | None = None,
    fit_deep: FitDeep = DeepRecipe.fit_reported,
) -> tuple[FlowResult, Bundle]:
    """Train on what was read, judge it beside a champion, and write bundle, run and report.

    Gives the bundle as it was tested, for the next one to be judged beside.
    """
    result = train_ranking(data, config, clock, champion, start, fit_deep)
    with clock.stage("write bundle"):
        bundle = result.bundle.save(home / "bundles")
    with clock.stage("track"):
        saved = replace(result, bundle=bundle)
        run_id, _ = log_run(home, saved, config, home / "bundles" / bundle.bundle_id)
    notes = notes_of(bundle.manifest)
    if result.warm:
        notes["Warm start"] = "; ".join(result.warm)
    _write_report(home, bundle.bundle_id, result, run_id)
    found = FlowResult(
        bundle.bundle_id,
        run_id,
        result.rows,
        result.ranker_metrics,
        result.verdict.why,
        result.verdict.promote,
        notes,
        clock.costs,
    )
    return found, result.tested


def read_home(home: Path) -> TrainingData:
    """Read a home folder for training or evaluation."""
    with Workspace.open(home, read_only=True) as workspace:
        return read_training_data(workspace)


def read_report(home: Path, bundle_id: str) -> Mapping[str, Any] | None:
    """Read what was noted of a bundle when it was trained; None where nothing was."""
    path = home / "bundles" / f"{bundle_id}{REPORT_SUFFIX}"
    if not path.exists():
        return None
    report: Mapping[str, Any] = loads(path.read_text(encoding="utf-8"))
    return report


def challenger_id(home: Path) -> str | None:
    """Read which bundle was trained last; None where none was."""
    pointer = home / "bundles" / CHALLENGER_FILE
    return pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None


def set_challenger(home: Path, bundle_id: str) -> None:
    """Name the bundle that `headwater publish` takes."""
    write_durably(home / "bundles" / CHALLENGER_FILE, f"{bundle_id}\n".encode())


def find_bundle(home: Path, wanted: str | None) -> str:
    """Give the wanted bundle's id, else the challenger's; NotFound where there is none."""
    found = wanted or challenger_id(home)
    if found is None:
        msg = f"there is no bundle in {home / 'bundles'}"
        raise NotFound(msg, hint="train one with `headwater train`")
    if not (home / "bundles" / found / "manifest.json").is_file():
        msg = f"there is no bundle {found!r} in {home / 'bundles'}"
        raise NotFound(msg, hint="`ls` that folder for what there is, or train one")
    return found


def load_champion(home: Path) -> Bundle | None:
    """Load the champion; None where there is none, or it does not fit this code any more."""
    name = champion_id(home)
    if name is None:
        return None
    try:
        return Bundle.load(home / "bundles" / name)
    except BundleMismatch:
        return None


def read_start(
    home: Path, champion: Bundle, data: TrainingData, config: TrainingConfig
) -> WarmStart:
    """Read what a run may begin from; the first fit lies beside its bundle."""
    folder = home / "bundles" / f"{champion.bundle_id}{FIRST_SUFFIX}"
    noted = read_report(home, champion.bundle_id) or {}
    first = None
    if "first_seen_us" in noted and folder.is_dir():
        first = FirstFit(DeepModel.load(folder), int(noted["first_seen_us"]))
    return WarmStart.of(champion, first, data.dataset, config)


def notes_of(manifest: Manifest) -> dict[str, Any]:
    """Say in words what a bundle was trained on, measured on, and what validation chose."""
    neighbours = manifest.families["neighbours"].model
    weight = manifest.families["content"].config["prior_weight"]
    blend = ", ".join(f"{name} {weight:g}" for name, weight in manifest.blend.items())
    return {
        "Data": (
            f"{manifest.data.events:,} actions trained on, {manifest.data.people:,} people, "
            f"{manifest.data.posts:,} posts, fingerprint {manifest.data.fingerprint}"
        ),
        "Measured on": manifest.measured_on,
        "Chosen on validation": (
            f"content with prior weight {weight:g}, neighbours are {neighbours}, "
            f"retrieval blend {blend}"
        ),
        "Calibration": (
            "claimed: impressions are known"
            if manifest.calibrated
            else "not claimed: without impressions nobody knows what was ignored"
        ),
        "Bundle": manifest.bundle_id,
    }


def _write_report(home: Path, bundle_id: str, result: TrainingResult, run_id: str) -> None:
    report = {
        "bundle_id": bundle_id,
        "run_id": run_id,
        "promote": result.verdict.promote,
        "why": result.verdict.why,
        "first_seen_us": result.first.seen_us,
        "rows": [row.model_dump(mode="json") for row in result.rows],
        "costs": [cost._asdict() for cost in result.costs],
    }
    folder = home / "bundles"
    result.first.deep.save(folder / f"{bundle_id}{FIRST_SUFFIX}")
    text = dumps(report, indent=2) + "\n"
    write_durably(folder / f"{bundle_id}{REPORT_SUFFIX}", text.encode())

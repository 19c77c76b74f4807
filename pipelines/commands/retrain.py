"""`headwater retrain`: train again on a schedule; what passes the gate is published."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.markup import escape

from contracts.errors import BundleMismatch, Conflict, NotFound
from features.storage import WriterLock
from features.workspace import require_data
from feed_api.signals import Ending, signals_lead_to
from models.bundle import read_manifest
from pipelines.amounts import seconds_of
from pipelines.commands.drift import drift_home
from pipelines.commands.publish import publish_in
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.flow import run_training
from pipelines.publish import champion_id
from training.config import TrainingConfig
from training.stages import StageClock

LOCK: Final = "retrain.lock"
_NAP_SECONDS: Final = 0.2

Turn = dict[str, str | None]
"""`outcome` (`kept`: no drift, `refused`, `published` or `failed`), `why`, `bundle_id`."""


def retrain(
    every: Annotated[
        float, typer.Option(parser=seconds_of, help="Time from one start to the next.")
    ] = "1d",  # type: ignore[assignment]  # typer parses it
    once: Annotated[bool, typer.Option("--once", help="One turn, as a timer wants it.")] = False,
    if_drift: Annotated[
        bool, typer.Option("--if-drift", help="Train only where `headwater drift` says it is due.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Train from the champion's weights, and publish what passes the gate; again and again.

    Never publishes past the gate, the feature certificate or the golden requests. Each turn is a
    process of its own: one that fails is logged, and the next one goes on. SIGTERM ends it.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    if not once:
        _loop(report, folder, every, if_drift=if_drift)
        return
    clock = StageClock(done=lambda cost: report.say(f"{cost.name}: {cost.seconds:.1f} s"))
    turn = retrain_once(folder, clock, if_drift=if_drift, report=report)
    _log(report, turn)
    report.finish({**turn, "seconds": sum(cost.seconds for cost in clock.costs)})


def retrain_once(
    home: Path,
    clock: StageClock,
    *,
    if_drift: bool,
    config: TrainingConfig | None = None,
    report: Reporter | None = None,
) -> Turn:
    """Take one turn under the lock; Conflict where another holds it, NotFound without data.

    The choices of training are those of the champion unless given. What is published has passed
    the gate, the feature certificate and the golden requests: `headwater publish` itself does it.
    """
    require_data(home)
    lock = WriterLock(home / LOCK)
    try:
        calm = _calm(home) if if_drift else None
        if calm is not None:
            return {"outcome": "kept", "why": calm, "bundle_id": champion_id(home)}
        trained = run_training(home, config or _choices(home), clock, warm=True)
        turn: Turn = {"outcome": "published", "why": trained.why, "bundle_id": trained.bundle_id}
        try:
            publish_in(report or Reporter(as_json=True), home, trained.bundle_id)
        except (Conflict, BundleMismatch) as refused:
            turn |= {"outcome": "refused", "why": refused.detail}
        return turn
    finally:
        lock.release()


def _calm(home: Path) -> str | None:
    """Say why no retrain is due; None where one is, or no champion fits this code."""
    try:
        found = drift_home(home)
    except (NotFound, BundleMismatch):
        return None
    return None if found.due else found.why


def _choices(home: Path) -> TrainingConfig:
    """Give the champion's choices; the usual ones where there is none that this code reads."""
    try:
        manifest = read_manifest(home / "bundles" / str(champion_id(home)))
        return TrainingConfig.model_validate(dict(manifest.config))
    except (BundleMismatch, ValidationError):
        return TrainingConfig()


def _loop(report: Reporter, home: Path, every_seconds: float, *, if_drift: bool) -> None:
    """Run turn after turn as children until a signal comes."""
    ending = Ending()
    children: list[subprocess.Popen[bytes]] = []

    def end(number: int, frame: object) -> None:
        ending.note(number, frame)
        for child in children:
            child.terminate()

    command = [sys.executable, "-m", "pipelines", "retrain", "--once", "--json"]
    command += ["--home", str(home), *(["--if-drift"] if if_drift else [])]
    with signals_lead_to(end, signal.SIGTERM, signal.SIGINT):
        while not ending.told():
            began = monotonic()
            children[:] = [subprocess.Popen(command, stdout=subprocess.PIPE)]  # noqa: S603 - ours
            if ending.told():  # the signal came before there was a child to end
                children[0].terminate()
            said = children[0].communicate()[0]
            if not ending.told():
                _log(report, _told(said, children[0].returncode))
            while not ending.told() and (rest := began + every_seconds - monotonic()) > 0.0:
                sleep(min(rest, _NAP_SECONDS))
    stopped: Turn = {"outcome": "stopped", "why": "told to", "bundle_id": champion_id(home)}
    _log(report, stopped)
    report.finish(stopped)


def _told(said: bytes, status: int) -> Turn:
    """Read what a turn came to from the last line that its process printed."""
    try:
        told: dict[str, dict[str, str]] = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        told = {"error": {"detail": f"its process ended with status {status}"}}
    failed: Turn = {"outcome": "failed", "why": told.get("error", {}).get("detail")}
    return failed if "error" in told else dict(told)  # type: ignore[arg-type]  # a turn


def _log(report: Reporter, turn: Turn) -> None:
    line = f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%SZ} retrain {turn['outcome']} "
    report.console.print(
        escape(line + f"{turn.get('bundle_id') or '-'}: {turn['why']}"), soft_wrap=True
    )

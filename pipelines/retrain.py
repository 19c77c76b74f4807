"""One turn of the scheduled retrain: drift, train from the champion, gate, certificate, publish."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.errors import Conflict
from features.storage import WriterLock
from models.bundle import read_manifest
from pipelines.commands.publish import publish
from pipelines.drift import drift_home
from pipelines.flow import run_training
from pipelines.publish import champion_id
from training.config import TrainingConfig
from training.stages import StageClock

LOCK: Final = "retrain.lock"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn came to."""

    outcome: str
    """`kept` (no drift), `refused` (by gate, certificate or golden requests) or `published`."""
    why: str
    bundle_id: str | None = None


def retrain_once(
    home: Path, *, if_drift: bool, config: TrainingConfig | None = None, clock: StageClock
) -> Turn:
    """Take one turn under the lock; Conflict where another holds it.

    The choices of training are those of the champion unless given. What is published has passed
    the gate, the feature certificate and the golden requests: `headwater publish` itself does it.
    """
    lock = WriterLock(home / LOCK)
    try:
        return _turn(home, if_drift, config, clock)
    finally:
        lock.release()


def _turn(home: Path, if_drift: bool, config: TrainingConfig | None, clock: StageClock) -> Turn:
    champion = champion_id(home)
    if if_drift and champion is not None:
        found = drift_home(home)
        if not found.due:
            return Turn("kept", found.why, champion)
    if config is None and champion is not None:
        manifest = read_manifest(home / "bundles" / champion)
        config = TrainingConfig.model_validate(dict(manifest.config))
    trained = run_training(home, config or TrainingConfig(), clock, warm=True)
    try:
        publish(trained.bundle_id, home=home)
    except Conflict as refused:
        return Turn("refused", refused.detail, trained.bundle_id)
    return Turn("published", trained.why, trained.bundle_id)

"""Runs a published protocol on its public files, and says how it came out."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from contracts.errors import NotFound
from models.base import TrainingContext
from pipelines.ingestion.adapters.checksums import check_files
from training.protocols.report import write_protocol
from training.protocols.run import ProtocolResult, reproduce
from training.protocols.sets import SETS, ProtocolSet
from training.stages import StageClock

ALL: Final = "all"


def sets_here(name: str, data: Path) -> list[ProtocolSet]:
    """Find the set of a name, or with `all` every set whose folder is there; NotFound if none."""
    if name != ALL:
        if name not in SETS:
            raise NotFound(f"there is no set {name!r}", hint=f"one of {', '.join(SETS)}, {ALL}")
        return [SETS[name]]
    found = [each for each in SETS.values() if (data / each.folder).is_dir()]
    if not found:
        folders = ", ".join(each.folder for each in SETS.values())
        raise NotFound(f"{data} holds none of {folders}", hint="give their folder with --data")
    return found


def run_protocol(
    chosen: ProtocolSet,
    data: Path,
    context: TrainingContext,
    clock: StageClock,
    results: Path | None,
    done: Callable[[int], None] | None = None,
) -> ProtocolResult:
    """Check the files, run the protocol, and write its section of `results` where it is given."""
    folder = data / chosen.folder
    warnings = check_files(folder, list(chosen.files))
    split = chosen.read(folder)
    result = reproduce(chosen, split, context, clock, done)
    if results is not None:
        notes = {
            "Data": f"{len(split.learned.values):,} actions trained on, {split.n_people:,} people, "
            f"{split.n_items:,} items" + "".join(f"; {warning}" for warning in warnings),
            "Seed": f"{context.seed}, {context.threads} threads",
        }
        write_protocol(results, result, notes)
    return result

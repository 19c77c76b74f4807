"""`headwater reproduce`: published protocols on public sets, ours beside their figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from contracts.errors import InvalidInput, NotFound
from contracts.settings import load_settings
from models.base import TrainingContext
from pipelines.console import AsJson, Reporter, Results
from pipelines.ingestion.adapters.checksums import check_files
from training.protocols.report import comparison, write_protocol
from training.protocols.run import ENSEMBLE, ProtocolResult
from training.protocols.run import reproduce as run_set
from training.protocols.sets import SETS, ProtocolSet
from training.stages import StageClock

ALL: Final = "all"
_NAMES: Final = ", ".join(sorted(SETS))


def reproduce(
    name: Annotated[str, typer.Argument(metavar="SET", help=f"{_NAMES}, or {ALL}.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the sets' folders; the setting `data_dir` by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training libraries.")] = 2,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Run a published protocol exactly: models, an ensemble chosen on validation, one test.

    Prints our figures beside those of papers on the same split, with the difference.
    """
    report = Reporter(as_json)
    folder = data or load_settings().data_dir
    found = []
    for chosen in _sets_here(name, folder):
        report.say(f"{chosen.name}: {chosen.protocol}", style="bold")
        clock = StageClock(
            begins=lambda stage: report.say(f"{stage} ..."),
            done=lambda cost: report.say(f"  {cost.seconds:.1f} s, {cost.peak_mb:.0f} MB"),
        )
        with report.progress("people ranked") as advance:
            context = TrainingContext(seed, threads)
            result = _run_protocol(chosen, folder, context, clock, results, advance)
        head, rows = comparison(result, brief=True)
        title = f"{chosen.name}: {result.people:,} people tested (ours less theirs in brackets)"
        report.table(title, head, rows)
        found.append(result)
    report.finish({"ok": True, "sets": [_summary(result) for result in found]})


def _sets_here(name: str, data: Path) -> list[ProtocolSet]:
    """Find the set of a name, or with `all` every set whose folder is there.

    Raises:
        InvalidInput: where no set has the name.
        NotFound: where no folder is there.
    """
    if name != ALL:
        if name not in SETS:
            raise InvalidInput(f"there is no set {name!r}", hint=f"one of {_NAMES}, {ALL}")
        return [SETS[name]]
    found = [each for each in SETS.values() if (data / each.folder).is_dir()]
    if not found:
        folders = ", ".join(each.folder for each in SETS.values())
        raise NotFound(f"{data} holds none of {folders}", hint="give their folder with --data")
    return found


def _run_protocol(
    chosen: ProtocolSet,
    data: Path,
    context: TrainingContext,
    clock: StageClock,
    results: Path | None,
    done: Callable[[int], None],
) -> ProtocolResult:
    """Check the files, run the protocol, and write its section of `results` where it is given."""
    folder = data / chosen.folder
    warnings = check_files(folder, list(chosen.files))
    split = chosen.read(folder)
    result = run_set(chosen, split, context, clock, done)
    if results is not None:
        notes = {
            "Data": f"{len(split.learned.values):,} actions trained on, {split.n_people:,} people, "
            f"{split.n_items:,} items" + "".join(f"; {warning}" for warning in warnings),
            "Seed": f"{context.seed}, {context.threads} threads",
        }
        write_protocol(results, result, notes)
    return result


def _summary(result: ProtocolResult) -> dict[str, object]:
    return {
        "set": result.set.name,
        "people": result.people,
        "weights": dict(result.blend.weights),
        "rows": [
            {
                "model": row.model,
                **{metric: value.mean for metric, value in row.metrics.items()},
                "intervals": {metric: list(value) for metric, value in row.metrics.items()},
                "seconds": row.seconds,
                "cpu_seconds": row.cpu_seconds,
                "peak_mb": row.peak_mb,
            }
            for row in result.rows
        ],
        "published": [
            {"model": p.model, "source": p.source, **p.figures} for p in result.set.published
        ],
        "goal": dict(result.set.goal),
        "reached": all(
            row.metrics[metric].mean >= value
            for row in result.rows
            if row.model == ENSEMBLE
            for metric, value in result.set.goal.items()
        ),
    }

"""`headwater crashtest`: kill the writer and count."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from pipelines.console import AsJson, Reporter
from pipelines.crashtest import run_crashtest


def crashtest(
    rounds: Annotated[int, typer.Option(min=1, help="Kills of each kind.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the moments.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Kill -9 the writer at random moments; nothing acknowledged may be lost, nothing doubled.

    It works in a temporary folder of its own. Exit status 1 where the promise is broken.
    """
    report = Reporter(as_json)
    with TemporaryDirectory(prefix="headwater-crashtest-") as folder:
        counts = run_crashtest(Path(folder), rounds, seed, report)
    heads = ("writing", "kills", "acknowledged", "found", "lost", "doubled")
    rows = [(c.mode, c.kills, c.acknowledged, c.found, c.lost, c.doubled) for c in counts]
    report.table("kill -9", heads, rows)
    holds = all(count.holds for count in counts)
    report.finish({"ok": holds, "modes": [count.as_json() for count in counts]})

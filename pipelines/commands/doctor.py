"""`headwater doctor`: what binds, in one sentence, and what to do."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Annotated, Final

import typer

from contracts.errors import InvalidInput
from contracts.settings import load_settings
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.doctor import observe_home, observe_server
from serving.watching.checks import CHECKS
from serving.watching.doctor import Finding, Observed, Status, binding, diagnose

_STYLES: Final = {Status.BROKEN: "bold red", Status.WARNING: "bold yellow"}


def doctor(
    home: Home = None,
    url: Annotated[
        str | None, typer.Option(help="A running server; with --home its folder is looked at too.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="API key with the scope admin, for --url.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what binds in one sentence and what to do about it, then show every check.

    Without --url it looks at the home folder: disk, event log, bundle, checkpoint and the newest
    decision records. Exit status 1 where something is broken.
    """
    report = Reporter(as_json)
    findings = diagnose(_observe(home, url, key), CHECKS)
    worst = binding(findings)
    broken = worst is not None and worst.status is Status.BROKEN
    unknown = sum(finding.status is Status.UNKNOWN for finding in findings)
    if worst is None:
        report.say(f"Nothing binds: {len(findings) - unknown} checks are fine.", style="bold green")
    else:
        report.say(worst.sentence, style=_STYLES[worst.status])
        report.say(f"What to do: {worst.advice}")
    _show(report, findings)
    if unknown:
        report.say(f"{unknown} checks had nothing to look at.")
    report.finish({"ok": not broken, "binding": worst, "findings": findings})


def _observe(home: Path | None, url: str | None, key: str | None) -> Observed:
    if url is None:
        return observe_home(home_of(home), load_settings())
    if key is None:
        hint = "make one: headwater keys create --name doctor --scope admin"
        raise InvalidInput("--url needs --key", hint=hint)
    server = observe_server(url, key)
    return server if home is None else server.over(observe_home(home, load_settings()))


def _show(report: Reporter, findings: Sequence[Finding]) -> None:
    rows = [
        (f.name, f.status.value, f.value, _bound(f.warning), _bound(f.broken), f.measures)
        for f in findings
    ]
    report.table("Checks", ("check", "status", "measured", "warning", "broken", "what"), rows)


def _bound(value: float) -> str:
    return f"{value:g}" if isfinite(value) else "-"

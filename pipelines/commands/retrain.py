"""`headwater retrain`: train again on a schedule; what passes the gate is published."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Annotated

import typer

from contracts.errors import InvalidInput
from feed_api.signals import signals_lead_to
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.retrain import retrain_once
from training.stages import StageClock

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def span_of(text: str) -> timedelta:
    """Read `30m`, `12h` or `1d`; InvalidInput where it is no span of a second or more."""
    number, unit = text[:-1], _UNITS.get(text[-1:], "")
    if not unit or not number.isdigit() or int(number) < 1:
        raise InvalidInput(f"a span is a number and s, m, h or d, got {text!r}", hint="as in 1d")
    return timedelta(**{unit: int(number)})


def retrain(
    every: Annotated[
        timedelta, typer.Option(parser=span_of, help="Time from one start to the next.")
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
    turn = retrain_once(folder, if_drift=if_drift, clock=clock)
    _log(report, f"{turn.outcome} {turn.bundle_id}: {turn.why}")
    report.finish({**asdict(turn), "seconds": sum(cost.seconds for cost in clock.costs)})


def _loop(report: Reporter, home: Path, every: timedelta, *, if_drift: bool) -> None:
    """Run turn after turn as children until a signal comes."""
    stop = Event()
    children: list[subprocess.Popen[bytes]] = []

    def end(*_: object) -> None:
        stop.set()
        for child in children:
            child.terminate()

    command = [sys.executable, "-m", "pipelines", "retrain", "--once", "--json"]
    command += ["--home", str(home), *(["--if-drift"] if if_drift else [])]
    with signals_lead_to(end, signal.SIGTERM, signal.SIGINT):
        while not stop.is_set():
            began = monotonic()
            children[:] = [subprocess.Popen(command, stdout=subprocess.PIPE)]  # noqa: S603 - ours
            if stop.is_set():
                end()
            said = children[0].communicate()[0]
            _log(report, "stopped" if stop.is_set() else _outcome(said, children[0].returncode))
            stop.wait(max(0.0, began + every.total_seconds() - monotonic()))
    report.finish({"outcome": "stopped"})


def _outcome(said: bytes, status: int) -> str:
    """Say in a line what a turn came to, from the last line that it printed."""
    try:
        told = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        return f"failed: its process ended with status {status}"
    if "error" in told:
        return f"failed: {told['error']['detail']}"
    return f"{told['outcome']} {told['bundle_id']}: {told['why']}"


def _log(report: Reporter, text: str) -> None:
    report.say(f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%SZ} retrain {text}")

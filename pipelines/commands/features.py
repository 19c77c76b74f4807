"""`headwater features materialize`: the log folded into feature snapshots and the online store."""

from typing import Annotated

import typer

from contracts.clock import HOUR_US, to_datetime
from contracts.errors import InvalidInput
from features.materialize import Materialized
from features.materialize import materialize as fold_log
from features.parity import historical_parity, online_parity
from features.store import open_store
from features.workspace import Workspace, require_data
from pipelines.console import AsJson, Home, Reporter, home_of


def materialize(
    home: Home = None,
    *,
    online: Annotated[
        bool, typer.Option(help="Register with Feast and fill its online store too.")
    ] = True,
    cadence_hours: Annotated[
        float, typer.Option(min=1.0, max=8784.0, help="Hours from one snapshot to the next.")
    ] = 24.0,
    check: Annotated[
        bool, typer.Option(help="Compare point-in-time rows and online features with Feast's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute feature snapshots from the event log and fill the online store.

    The snapshots are Parquet files, one a view, in the home folder's `features`. A checkpoint
    beside them lets a server start without replaying the log.
    """
    report, folder = Reporter(as_json), home_of(home)
    require_data(folder)
    if check and not online:
        msg = "--check compares with the online store, which --no-online leaves alone"
        raise InvalidInput(msg, hint="leave one of the two out")
    with Workspace.open(folder) as workspace:
        with report.stage("feature snapshots"), report.progress("snapshots") as advance:
            done = fold_log(
                workspace,
                cadence_us=int(cadence_hours * HOUR_US),
                progress=lambda _, total: advance(total=total),
            )
        filled = online and done.snapshots > 0
        if filled:
            with report.stage("online store"):
                store = open_store(workspace)
                store.apply()
                store.materialize(done.end_us)
        _show(report, done)
        parity = _compare(report, workspace) if check and filled else {}
    equal = not any(part["unequal"] for part in parity.values())
    report.finish(
        {
            "ok": equal,
            "seq": done.seq,
            "snapshots": done.snapshots,
            "rows": done.rows,
            "online": filled,
            "parity": parity,
            "seconds": report.seconds,
        }
    )


def _show(report: Reporter, done: Materialized) -> None:
    if not done.snapshots:
        report.say("Nothing has happened yet: there is nothing to materialise.", style="yellow")
        return
    moment = to_datetime(done.end_us).isoformat(timespec="seconds")
    title = f"{done.snapshots} snapshots, up to event {done.seq:,} and {moment}"
    report.table(title, ("view", "rows"), list(done.rows.items()))


def _compare(report: Reporter, workspace: Workspace) -> dict[str, dict[str, int]]:
    """Compare with Feast and say how many values differ, by kind of read and view."""
    store = open_store(workspace)
    with report.stage("comparison with Feast"):
        found = {
            **{f"point in time, {k}": v for k, v in historical_parity(workspace, store).items()},
            **{f"online, {k}": v for k, v in online_parity(workspace, store).items()},
        }
    rows = [(name, part.rows, part.values, part.unequal) for name, part in found.items()]
    report.table("Equal to Feast", ("what", "rows", "values", "unequal"), rows)
    return {name: part._asdict() for name, part in found.items()}

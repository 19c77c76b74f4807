"""`headwater publish` and `headwater rollback`: move the champion."""

from typing import Annotated

import typer

from contracts.errors import Conflict, NotFound
from pipelines.commands.evaluate import challenger_id
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.flow import read_report
from pipelines.publish import Published, publish_bundle, roll_back
from training.tracking import CHAMPION, set_alias


def publish(
    bundle: Annotated[
        str | None, typer.Option(help="Bundle id; the newest trained one by default.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Publish although the gate refused it.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle the champion once it passes the gate and the golden requests."""
    report = Reporter(as_json)
    folder = home_of(home)
    name = bundle or challenger_id(folder)
    if name is None:
        msg = f"there is no bundle in {folder / 'bundles'}"
        raise NotFound(msg, hint="train one with `headwater train`")
    noted = read_report(folder, name)
    why = str(noted["why"]) if noted else "no report of this bundle: its gate is not known"
    if noted is not None and not noted["promote"] and not force:
        raise Conflict(why, hint="publish it all the same with --force")
    with report.stage("load as serving would, golden requests"):
        done = publish_bundle(folder, name)
    _say(report, done, why)
    _finish(report, done, why, set_alias(folder, CHAMPION, name))


def rollback(home: Home = None, as_json: AsJson = False) -> None:
    """Make the champion before this one the champion again."""
    report = Reporter(as_json)
    folder = home_of(home)
    with report.stage("load as serving would, golden requests"):
        done = roll_back(folder)
    _say(report, done, "rolled back")
    _finish(report, done, "rolled back", set_alias(folder, CHAMPION, done.bundle_id))


def _say(report: Reporter, done: Published, why: str) -> None:
    before = f", before it {done.before}" if done.before else ""
    report.say(f"Champion is {done.bundle_id}{before}. {done.golden} golden requests in full.")
    report.say(f"Gate: {why}")
    report.say("Next: headwater serve")


def _finish(report: Reporter, done: Published, why: str, registered: bool) -> None:
    report.finish(
        {
            "bundle_id": done.bundle_id,
            "before": done.before,
            "golden_requests": done.golden,
            "why": why,
            "registered": registered,
        }
    )

"""`headwater publish` and `headwater rollback`: move what serves, and move it back."""

from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import Conflict, InvalidInput
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.flow import find_bundle, read_report
from pipelines.publish import (
    Published,
    publish_bundle,
    roll_back,
    start_canary,
    start_shadow,
    stop_shadow,
)
from training.tracking import CHAMPION, set_alias


def share_of(text: str) -> float:
    """Read a share, `5%` or `0.05`; InvalidInput where it is none."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise InvalidInput(f"a share is 0% to 100%, got {text!r}", hint="write it as 5% or 0.05")
    return share


def publish(
    bundle: Annotated[
        str | None, typer.Argument(help="Bundle id; the newest trained one by default.")
    ] = None,
    canary: Annotated[
        float | None,
        typer.Option(parser=share_of, help="Only serve this share of the viewers with it: 5%."),
    ] = None,
    shadow: Annotated[
        float | None,
        typer.Option(
            parser=share_of,
            help="Serve nobody; rank this share of the requests again with it: 1%. 0% ends it.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Publish although the gate refused it.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle the champion once it passes the gate and the golden requests.

    Running servers change over to it within seconds and lose no request. A canary becomes champion
    when it is published without a share; `headwater rollback` drops it.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    if canary is not None and shadow is not None:
        raise InvalidInput("a bundle is canary or shadow, not both", hint="give one of the two")
    if shadow == 0.0:
        ended = stop_shadow(folder)
        report.say(f"Shadow of {ended} has ended.")
        report.finish({"bundle_id": ended, "shadow": None})
        return
    report.finish(publish_in(report, folder, bundle, canary, shadow, force=force))


def publish_in(
    report: Reporter,
    folder: Path,
    bundle: str | None,
    canary: float | None = None,
    shadow: float | None = None,
    *,
    force: bool = False,
) -> dict[str, object]:
    """Publish a bundle of a home folder, say what serves now, and give that as data."""
    name = find_bundle(folder, bundle)
    why = _gate(folder, name, force=force or shadow is not None)
    with report.stage("load as serving would, golden requests"):
        done = _move(folder, name, canary, shadow)
    return _tell(report, folder, done, why)


def rollback(home: Home = None, as_json: AsJson = False) -> None:
    """Drop the canary; where none runs, make the champion before this one the champion again.

    Running servers change over within seconds and lose no request.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    report.finish(_tell(report, folder, roll_back(folder), "rolled back"))


def _gate(folder: Path, name: str, *, force: bool) -> str:
    """Give the gate's reason; Conflict where it refused the bundle and nothing forces it."""
    noted = read_report(folder, name)
    why = str(noted["why"]) if noted else "no report of this bundle: its gate is not known"
    if noted is not None and not noted["promote"] and not force:
        raise Conflict(why, hint="publish it all the same with --force")
    return why


def _move(folder: Path, name: str, canary: float | None, shadow: float | None) -> Published:
    if canary is not None:
        if canary in (0.0, 1.0):
            msg = f"a canary gets a part of the viewers, not {canary:.0%}"
            raise InvalidInput(msg, hint="`headwater rollback` drops it, plain `publish` takes it")
        return start_canary(folder, name, canary)
    return start_shadow(folder, name, shadow) if shadow else publish_bundle(folder, name)


def _tell(report: Reporter, folder: Path, done: Published, why: str) -> dict[str, object]:
    """Say what serves now, tell MLflow where the champion is another, and give it as data."""
    before = f", before it {done.before}" if done.before != done.champion else ""
    report.say(f"Champion is {done.champion}{before}.")
    if done.canary:
        report.say(f"Canary {done.canary.bundle_id} serves {done.canary.share:.2%} of the viewers.")
    if done.shadow:
        report.say(
            f"{done.shadow.bundle_id} ranks {done.shadow.share:.2%} of the requests in the shadow; "
            f"bundles/{done.shadow.bundle_id}.shadow.json says how far apart they are."
        )
    if done.dropped:
        report.say(f"Canary {done.dropped} is dropped.")
    if done.golden.asked:
        same = done.golden.overlap
        beside = f", {same:.0%} of the first 20 posts as before" if same is not None else ""
        report.say(f"{done.golden.asked} golden requests in full{beside}.")
    report.say(f"Gate: {why}")
    report.say("Next: headwater serve; a server that runs changes over by itself")
    moved = not (done.canary or done.shadow or done.dropped)
    return {
        "bundle_id": done.bundle_id,
        "champion": done.champion,
        "before": done.before,
        "canary": done.canary._asdict() if done.canary else None,
        "shadow": done.shadow._asdict() if done.shadow else None,
        "dropped": done.dropped,
        "golden_requests": done.golden.asked,
        "golden_overlap_20": done.golden.overlap,
        "why": why,
        "registered": moved and set_alias(folder, CHAMPION, done.bundle_id),
    }

"""`headwater data describe`: what came in, and what will hurt."""

from dataclasses import asdict
from typing import Final

from features.workspace import Workspace
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.describe import Description, Distribution
from pipelines.describe import describe as describe_workspace

_BAR: Final = 40


def describe(home: Home = None, as_json: AsJson = False) -> None:
    """Say what came in: counts, span, density, distributions; and warn about what will hurt."""
    report = Reporter(as_json)
    with Workspace.open(home_of(home), read_only=True) as workspace:
        found = describe_workspace(workspace)
    _show(report, found)
    report.finish({"ok": True, **asdict(found)})


def _show(report: Reporter, found: Description) -> None:
    counts = list(found.counts.items())
    report.table(f"Data set {found.dataset.get('name', '-')}", ("what", "count"), counts)
    if found.first_event is not None:
        report.say(f"Events from {found.first_event} to {found.last_event}: {found.days:g} days")
    if found.density is not None:
        report.say(f"Density: {found.density:.3%} of (person, post) pairs have a positive action")
    total = sum(found.types.values())
    shares = [(word, count, f"{count / total:.2%}") for word, count in found.types.items()]
    report.table("Events by type", ("type", "events", "share"), shares)
    _show_distribution(report, "Activity: positive actions a person", found.activity)
    _show_distribution(report, "Popularity: positive actions a post", found.popularity)
    if not found.warnings:
        report.say("No warnings.", style="green")
    for warned in found.warnings:
        report.say(f"warning [{warned.code}] {warned.text}", style="yellow")


def _show_distribution(report: Reporter, title: str, shape: Distribution) -> None:
    if not shape.histogram:
        return
    highest = max(count for _, count in shape.histogram) or 1
    rows = [(label, count, "#" * round(_BAR * count / highest)) for label, count in shape.histogram]
    report.table(title, ("actions", "how many", ""), rows)
    quantiles = ", ".join(f"{name} {value:g}" for name, value in shape.quantiles.items())
    report.say(
        f"{quantiles}; Gini {shape.gini:.2f}; the busiest 1 % have {shape.top_percent_share:.0%}"
    )

"""`headwater features certify`: features as served beside features as training recomputes them."""

from typing import Annotated

import typer

from features.certificate import Certificate
from pipelines.certify import SAMPLES, certify_home
from pipelines.console import AsJson, Home, Reporter, home_of


def certify(
    samples: Annotated[
        int, typer.Option(min=20, help="Viewers asked at each moment, about 20 posts each.")
    ] = SAMPLES,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Prove that features are served as training recomputes them, and know no label early.

    Writes certificate.json into the home folder; no bundle is published without a green one. Exit
    status 1 where it is red.
    """
    report = Reporter(as_json)
    with report.stage("compare features as served with training's, plant what knows the label"):
        made = certify_home(home_of(home), samples)
    _show_certificate(report, made)
    report.finish({"ok": made.green, **made.as_dict()})


def _show_certificate(report: Reporter, made: Certificate) -> None:
    counts = made.counts
    rows = [
        (row.feature, row.different, f"{row.different / max(row.values, 1):.4%}", row.max_abs,
         row.mean_abs, row.tolerance)
        for row in made.features if row.different
    ]  # fmt: skip
    equal = len(made.features) - len(rows)
    rows.append((f"{equal} {'other ' * bool(rows)}features", 0, "0.0000%", 0.0, 0.0, "all equal"))
    report.table(
        f"{counts['pairs']:,} pairs of viewer and post, {counts['values']:,} values, served and "
        f"recomputed from {counts['events']:,} events",
        ("feature", "different", "share", "max |difference|", "mean |difference|", "tolerance"),
        rows,
    )
    absent = [row.feature for row in made.features if not row.present]
    if absent:
        report.say(f"Null or 0 in all of this data, so little is proved: {', '.join(absent)}")
    checks = [(c.name, c.compared, c.wrong, "yes" if c.holds else "NO") for c in made.checks]
    report.table("Promises", ("what", "compared", "wrong", "kept"), checks)
    for warned in made.warnings:
        report.say(f"warning: {warned}", style="yellow")
    word, style = ("green", "bold green") if made.green else ("red", "bold red")
    report.say(
        f"Certificate {word}: features {made.feature_hash}, code {made.code}, events "
        f"{made.log[0]:,} to {made.log[1]:,}, {made.seconds:.1f} s.",
        style=style,
    )
    for reason in made.reasons:
        report.say(f"  {reason}", style="red")

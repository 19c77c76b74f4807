"""`headwater drift`: what has changed since the champion was trained, and whether to retrain."""

from dataclasses import asdict

from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.drift import PICTURE, drift_home


def drift(home: Home = None, as_json: AsJson = False) -> None:
    """Compare what came since the champion was trained with what it was tested on.

    Features, scores, calibration, and how much of it the champion never learned of; a sentence
    says whether a retrain is due and why. The picture goes to reports/drift.png of the home folder.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    with report.stage("read, score and compare"):
        found = drift_home(folder)
    for title, shifts in (("Features, the ten that moved most", found.features[:10]),
                          (f"Scores, from {found.scores_from}", found.scores)):  # fmt: skip
        rows = [(s.name, s.psi, s.ks, s.before, s.after) for s in shifts]
        if rows:
            report.table(title, ("what", "PSI", "KS", "mean before", "mean after"), rows)
    heads = [(name, value.text(2)) for name, value in found.calibration.items()]
    if heads:
        report.table("Observed over predicted", ("head", "times, 95 % interval"), heads)
    for what, share in found.unknown.items():
        report.say(f"Unknown to the bundle: {share:.1%} of the {what} shown since.")
    verdict = "A retrain is due" if found.due else "No retrain is due"
    before, after = found.rows
    report.say(f"{verdict}: {found.why}.", style="bold")
    report.say(f"{before:,} rows before, {after:,} since, over {found.days:.1f} days; {PICTURE}")
    report.finish({**asdict(found), "picture": str(folder / PICTURE)})

"""`headwater drift`: what has changed since the champion was trained, and whether to retrain."""

from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from contracts.errors import NotFound
from contracts.policy import ACTIONS, FAMILIES
from contracts.value import action_terms
from models.bundle import Bundle
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.flow import read_home
from pipelines.publish import champion_id
from serving.records.archive import RecordArchive
from serving.records.codec import Record, records_of
from training.drift import DriftReport, Values, draw, drift_of

PICTURE: Final = Path("reports") / "drift.png"
MOST_RECORDS: Final = 2000
FEWEST_RECORDS: Final = 40


def drift(home: Home = None, as_json: AsJson = False) -> None:
    """Compare what came since the champion was trained with what it was tested on.

    Features, scores, calibration, and how much of it the champion never learned of; a sentence
    says whether a retrain is due and why. The picture goes to reports/drift.png of the home folder.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    with report.stage("read, score and compare"):
        found = drift_home(folder)
    tables = {
        "Features, the ten that moved most": found.features[:10],
        f"Scores, from {found.scores_from}": found.scores,
    }
    for title, shifts in tables.items():
        rows = [(s.name, s.psi, s.ks, s.before, s.after) for s in shifts]
        report.table(title, ("what", "PSI", "KS", "mean before", "mean after"), rows)
    heads = [(name, value.text(2)) for name, value in found.calibration.items()]
    report.table("Observed over predicted, since", ("head", "times, 95 % interval"), heads)
    for what, share in found.unknown.items():
        report.say(f"Unknown to the bundle: {share:.1%} of the {what} shown since.")
    report.say(f"{'A' if found.due else 'No'} retrain is due: {found.why}.", style="bold")
    before, after = found.rows
    report.say(f"{before:,} rows before, {after:,} since, over {found.days:.1f} days; {PICTURE}")
    report.finish({**asdict(found), "picture": str(folder / PICTURE)})


def drift_home(home: Path) -> DriftReport:
    """Report on the champion of a home folder, and draw it there; NotFound without one."""
    name = champion_id(home)
    if name is None:
        raise NotFound("no bundle is published", hint="run `headwater train`, then `publish`")
    bundle = Bundle.load(home / "bundles" / name)
    report = drift_of(bundle, read_home(home), served_scores(home, bundle))
    draw(report, home / PICTURE)
    return report


def served_scores(home: Path, bundle: Bundle) -> tuple[Values, Values] | None:
    """Read the scores of a sample of the bundle's feeds: those of the older, of the newer half."""
    try:
        archive = RecordArchive(home / "records", read_only=True)
    except NotFound:
        return None
    ids = np.random.default_rng(0).permutation(np.unique(archive.ids()))[:MOST_RECORDS]
    records = [record for table in archive.read(ids) for record in records_of(table)]
    archive.close()
    mine = [r for r in records if r["bundle_id"] == bundle.bundle_id and r["scorer"] == "ensemble"]
    if len(mine) < FEWEST_RECORDS:
        return None
    scores = [_scores(bundle, record) for record in sorted(mine, key=lambda r: r["now"])]
    half = len(scores) // 2
    return np.concatenate(scores[:half]), np.concatenate(scores[half:])


def _scores(bundle: Bundle, record: Record) -> Values:
    """Give the families' scores and the value of each post of a pool, [p, families + 1]."""
    families = record["features"].reshape(-1, len(record["pool_ids"]))[-len(FAMILIES) :]
    terms = action_terms(record["probabilities"].reshape(len(ACTIONS), -1).T, bundle.policy)
    return np.vstack([families, np.sum(list(terms.values()), axis=0)]).T.astype(np.float64)

"""The drift of a home folder's champion: its log, and its decision records if there are any."""

from pathlib import Path
from typing import Final

import numpy as np

from contracts.errors import NotFound
from contracts.policy import ACTIONS, FAMILIES
from contracts.value import action_terms
from models.bundle import Bundle
from pipelines.flow import read_home
from pipelines.publish import champion_id
from serving.records.archive import RecordArchive
from serving.records.codec import Record, records_of
from training.drift import DriftReport, Values, draw, drift

PICTURE: Final = Path("reports") / "drift.png"
MOST_RECORDS: Final = 2000
FEWEST_RECORDS: Final = 40


def drift_home(home: Path) -> DriftReport:
    """Compare what the champion was tested on with what came since; NotFound without one."""
    name = champion_id(home)
    if name is None:
        raise NotFound("no bundle is published", hint="run `headwater train`, then `publish`")
    bundle = Bundle.load(home / "bundles" / name)
    report = drift(bundle, read_home(home), served_scores(home, bundle))
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
    """Give the families' scores and the value of each post of a pool, [p, 4]."""
    families = record["features"].reshape(-1, len(record["pool_ids"]))[-len(FAMILIES) :].T
    predicted = record["probabilities"].reshape(len(ACTIONS), -1).T
    value = np.sum(list(action_terms(predicted, bundle.policy).values()), axis=0)
    return np.concatenate([families.astype(np.float64), value[:, None]], axis=1)

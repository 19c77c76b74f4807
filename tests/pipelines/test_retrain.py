"""Drift and retrain as commands: what is published, what is refused, the lock, the loop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from contracts.clock import now_us
from contracts.errors import Conflict, NotFound
from contracts.ids import FeedId, UserId
from contracts.policy import FAMILIES, Action, Policy, SourceName
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.certificate import read_certificate
from features.storage import WriterLock
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.commands.drift import FEWEST_RECORDS, drift, drift_home, served_scores
from pipelines.commands.retrain import LOCK, _calm, _choices, retrain_once
from pipelines.flow import read_home, read_start
from pipelines.publish import champion_id
from serving.opening import open_service
from training.config import TrainingConfig, small_config
from training.stages import StageClock
from training.warm import WarmStart

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(grown_home: Path, tmp_path: Path) -> Path:
    return Path(copytree(grown_home, tmp_path / "home"))


def start_of(home: Path, champion: Bundle) -> WarmStart:
    return read_start(home, champion, read_home(home), small_config())


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_drift_says_whether_a_retrain_is_due(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drift(home=home, as_json=True)
    found = told(capsys)
    assert found["bundle_id"] == champion_id(home)
    assert found["due"] is True
    assert Path(found["picture"]).stat().st_size > 10_000
    drift(home=home)
    said = capsys.readouterr().out
    assert "A retrain is due: " in said
    assert "of the posts shown since" in said


def test_without_a_champion_there_is_no_drift(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no bundle is published"):
        drift_home(tmp_path)


def test_scores_are_read_from_decision_records(home: Path) -> None:
    bundle = Bundle.load(home / "bundles" / str(champion_id(home)))
    assert served_scores(home, bundle) is None
    with Workspace.open(home) as workspace:
        people = workspace.catalog.people()["person_id"].to_pylist()
        service = open_service(workspace, Settings(home=home).unhurried())
        for feed in range(FEWEST_RECORDS):
            service.open(FeedQuery(FeedId(feed + 1), UserId(people[feed]), now_us(), 20))
        service._records.flush()
        service.close()
    found = served_scores(home, bundle)
    assert found is not None
    for scores in found:
        assert scores.shape[1] == len(FAMILIES) + 1
        assert np.isfinite(scores[:, -1]).all()
        known = scores[:, :-1][np.isfinite(scores[:, :-1])]
        assert known.min() >= 0.0
        assert known.max() <= 1.0
    assert drift_home(home).scores_from == "decision records"


@pytest.mark.slow
def test_a_turn_publishes_what_passes_and_the_next_one_has_nothing_to_do(home: Path) -> None:
    before = champion_id(home)
    turn = retrain_once(home, StageClock(), if_drift=True)
    assert (turn["outcome"], turn["bundle_id"]) == ("published", champion_id(home))
    assert champion_id(home) != before
    assert turn["why"].startswith("promoted: ")
    certificate = read_certificate(home)
    assert certificate is not None
    assert certificate.green
    start = start_of(home, Bundle.load(home / "bundles" / str(champion_id(home))))
    assert start.first is not None
    assert 0 < start.first_seen_us < start.seen_us
    again = retrain_once(home, StageClock(), if_drift=True)
    assert (again["outcome"], again["bundle_id"]) == ("kept", turn["bundle_id"])
    assert "nothing can be said yet" in again["why"]


@pytest.mark.slow
def test_what_the_gate_refuses_is_never_published(home: Path) -> None:
    before = champion_id(home)
    harm = Policy(name="harm", weights={Action.CLICK: -1.0})
    config = small_config().model_copy(update={"policy": harm})
    turn = retrain_once(home, StageClock(), if_drift=False, config=config)
    assert turn["outcome"] == "refused"
    assert turn["why"].startswith("refused: ")
    assert champion_id(home) == before


def test_what_answers_no_golden_request_is_refused(home: Path) -> None:
    before = champion_id(home)
    empty = Policy(name="empty", quotas=dict.fromkeys(SourceName, 0))
    config = small_config().model_copy(update={"policy": empty})
    turn = retrain_once(home, StageClock(), if_drift=False, config=config)
    assert turn["outcome"] == "refused"
    assert "golden requests came back empty" in turn["why"]
    assert champion_id(home) == before


def test_a_champion_that_fits_no_more_makes_a_retrain_due(home: Path, tmp_path: Path) -> None:
    assert _choices(home) == small_config()
    manifest = home / "bundles" / str(champion_id(home)) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("feature_hash", "hash_of_features"))
    assert _calm(home) is None
    assert _choices(home) == TrainingConfig() == _choices(tmp_path)


def test_without_data_it_is_said_in_words(tmp_path: Path) -> None:
    for home in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotFound, match="there is no data in"):
            retrain_once(home, StageClock(), if_drift=False)
    assert not list(tmp_path.iterdir())


def test_two_turns_never_run_at_once(home: Path) -> None:
    lock = WriterLock(home / LOCK)
    with pytest.raises(Conflict, match=f"process {os.getpid()} is writing to"):
        retrain_once(home, StageClock(), if_drift=True)
    lock.release()


def loop(home: Path, every: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines", "retrain", "--every", every, "--home", str(home)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.e2e
def test_the_loop_outlives_a_failed_turn_and_ends_when_it_is_told(tmp_path: Path) -> None:
    """There is nothing to train on: every turn fails, and says why."""
    running = loop(tmp_path, "1s")
    assert running.stdout is not None
    said = [running.stdout.readline() for _ in range(2)]
    running.send_signal(signal.SIGTERM)
    rest, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    for line in said:
        assert "retrain failed -: " in line
        assert "there is no data in" in line
    assert rest.splitlines()[-1].endswith(": told to")


@pytest.mark.e2e
@pytest.mark.slow
def test_a_turn_that_is_cut_short_leaves_the_champion_and_no_lock(home: Path) -> None:
    before = champion_id(home)
    running = loop(home, "1h")
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("als"):
            break
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert said.splitlines()[-1].endswith(": told to")
    assert champion_id(home) == before
    WriterLock(home / LOCK).release()


def test_a_refused_option_is_said_before_anything_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "retrain", "--every", "soon"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "a duration is written as" in done.stderr

"""kill -9 during writing: nothing acknowledged is lost, nothing doubled; the count is right."""

import sys
from pathlib import Path

import numpy as np
import pytest

from contracts.seeds import stage_generator
from features.workspace import Workspace
from pipelines.crash_worker import events_of
from pipelines.crashtest import count_in_log, crash_ingest, crash_writes, kill_at_random


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["append", "bulk"])
def test_killed_writers_lose_and_double_nothing(tmp_path: Path, mode: str):
    count = crash_writes(mode, tmp_path / "home", rounds=3, seed=11)
    assert count.kills == 3
    assert count.acknowledged > 0
    assert count.found >= count.acknowledged
    assert count.holds


@pytest.mark.slow
def test_a_killed_ingest_can_be_repeated_until_it_is_whole(tmp_path: Path):
    count = crash_ingest(tmp_path / "home", rounds=2, seed=11, events=60_000)
    assert count.found == count.acknowledged == 60_000
    assert count.holds


def test_the_count_sees_what_is_lost(tmp_path: Path):
    with Workspace.open(tmp_path) as workspace:
        workspace.log.append(events_of(np.arange(1, 4)))
    assert count_in_log(tmp_path, np.arange(1, 4)) == (3, 0, 0)
    assert count_in_log(tmp_path, np.arange(1, 6)) == (3, 2, 0)


def test_a_line_cut_off_by_the_kill_acknowledges_nothing():
    program = (
        "import sys,time; sys.stdout.write('ready\\n1 1\\n2'); sys.stdout.flush(); time.sleep(9)"
    )
    generator = stage_generator(1, "test")
    killed = kill_at_random([sys.executable, "-c", program], generator, 0.1)
    assert killed.lines == ["1 1"]
    assert not killed.finished


def test_a_process_that_fails_to_start_is_an_error():
    with pytest.raises(RuntimeError, match="did not get ready"):
        kill_at_random([sys.executable, "-c", "print('no')"], stage_generator(1, "t"), 0.1)

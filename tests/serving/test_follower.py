"""The thread that follows the log: on a full disk it goes on, and it says when it is dead."""

import errno

import pyarrow as pa
import pytest

import serving.follower
from contracts.clock import now_us, to_datetime
from contracts.events import EVENT_SCHEMA, EventType
from features.workspace import Workspace
from serving.follower import LogFollower


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path) as opened:
        yield opened


def reset(number):
    at = to_datetime(now_us())
    row = {
        "event_id": number, "type": int(EventType.RESET_CONTROLS), "viewer_id": 1,
        "event_time": at, "known_time": at, "known_assumed": True,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=EVENT_SCHEMA)


def test_a_log_that_cannot_be_sealed_is_followed_on(workspace, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(serving.follower, "_OUTBOX_ROWS", -1)
    monkeypatch.setattr(workspace.log, "compact", full)
    follower = LogFollower(workspace.log, workspace.log.last_seq, lambda batch: None, compacts=True)
    follower.start()
    for number in (78, 79):
        workspace.log.append(reset(number))
        assert follower.wait_applied(workspace.log.last_seq, 2.0)
    assert follower.healthy
    follower.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_follower_whose_thread_died_is_not_healthy(workspace):
    def broken(batch):
        raise ValueError(f"{batch.num_rows} events cannot be applied")

    follower = LogFollower(workspace.log, workspace.log.last_seq, broken)
    assert follower.healthy
    follower.start()
    assert follower.healthy
    workspace.log.append(reset(77))
    assert not follower.wait_applied(workspace.log.last_seq, 1.0)
    follower._thread.join(10.0)
    assert not follower.healthy
    follower.stop()
    assert follower.healthy  # it was told to end

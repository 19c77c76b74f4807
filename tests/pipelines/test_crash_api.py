"""A server that is killed: what it acknowledged is there, once; one that is asked to stop does."""

from pathlib import Path

import pytest

from contracts.events import EventType
from features.workspace import Workspace
from feed_api.platform.rows import EventRow, event_table
from pipelines.crash_api import Poster, count_events, crash_api_posting, prepare_home
from pipelines.platform_client import PlatformClient
from pipelines.server_process import free_port, serving


@pytest.mark.slow
def test_kill_loses_nothing_and_doubles_nothing(tmp_path: Path):
    home = tmp_path / "home"
    counts = crash_api_posting(home, kills=2, seed=5)
    assert counts.kills == 2
    assert counts.acknowledged == counts.posted > 100
    assert counts.found == counts.acknowledged
    assert (counts.lost, counts.doubled, counts.seq_gaps) == (0, 0, 0)
    Workspace.open(home).close()  # the killed server's lock is gone with it


@pytest.mark.slow
def test_a_server_that_is_asked_to_stop_ends_in_order(tmp_path: Path):
    home, log = tmp_path / "home", tmp_path / "server.log"
    token, _ = prepare_home(home)
    port = free_port(18_790)
    with serving(home, token, port, {}, log) as server, PlatformClient(server.url, token) as client:
        assert client.act("ann", "like", ["crash-1"])["accepted"] == 1
        assert client.feed("ann")["items"]
    assert server.process.returncode == 0
    assert '"event":"stopped"' in log.read_text()
    assert token not in log.read_text()


def test_what_is_lost_or_doubled_is_counted(tmp_path: Path):
    _, start = prepare_home(tmp_path)
    poster = Poster("token")
    poster.acknowledged = [0, 1, 2, 3]
    with Workspace.open(tmp_path) as workspace:
        rows = [
            EventRow(k, EventType.VIEW, 1, 1, None, 5, 5, value=value)
            for k, value in enumerate((0.0, 1.0, 1.0, 3.0))
        ]
        workspace.write(event_table(rows))
    counts = count_events(tmp_path, poster, kills=0, start_seq=start)
    assert (counts.acknowledged, counts.found, counts.lost, counts.doubled) == (4, 3, 1, 1)

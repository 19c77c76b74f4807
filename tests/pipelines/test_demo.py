"""The demo as a user runs it, on a small world; and the pieces that decide what it does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from contracts.clock import DAY_US, SECOND_US, now_us
from contracts.errors import Conflict, InvalidInput, NotFound
from contracts.events import EVENT_SCHEMA, EventType
from features.workspace import Workspace
from pipelines.commands.demo import demo
from pipelines.demo import MARKER, clear_home, clock_offset_seconds
from pipelines.platform_client import PlatformClient
from pipelines.server_process import free_port, make_admin_key, serving
from pipelines.worked_example import LITTLE_KNOWN, some_viewers, three_likes

UNHURRIED = {
    "HEADWATER_FEED_BUDGET_MS": "60000",
    "HEADWATER_SOURCE_DEADLINE_MS": "60000",
    "HEADWATER_COMPONENT_DEADLINE_MS": "60000",
    "HEADWATER_RANKER_TIMEOUT_MS": "60000",
}


@pytest.mark.e2e
@pytest.mark.slow
def test_the_demo_ends_with_a_working_feed(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    command = [sys.executable, "-m", "pipelines", "demo", "--once", "--people", "300"]
    done = subprocess.run(
        [*command, "--posts", "900", "--port", "0", "--home", str(home)],
        env={**os.environ, **UNHURRIED}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["ok"] is True
    assert summary["smoke"]["level"] == "full"
    assert summary["smoke"]["items"] == 20
    assert {row["model"] for row in summary["models"]} >= {
        "popularity", "collaborative", "content", "deep", "fixed-blend", "ensemble",
    }  # fmt: skip
    by_model = {row["model"]: row["ndcg@20"][0] for row in summary["models"]}
    assert by_model["ensemble"] > by_model["popularity"]
    for stage in ("generate a world", "ingest", "train and evaluate", "publish"):
        assert summary["seconds"][stage] > 0.0
    for shown in ("people tested", "The feed of", "likes post", "/docs", "headwater mlflow"):
        assert shown in done.stdout
    assert "127.0.0.1:8080" not in done.stdout  # port 0 is any free port, not the usual one
    assert (home / MARKER).exists()
    before, after = _shares(home, tmp_path / "server.log")
    assert np.mean(after > before) >= 0.8, (before, after)  # 1 in 50 of them draws otherwise
    assert np.mean(after - before) > 0.15


def _shares(home: Path, log: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Let little known people like three posts, and give their topic's share before and after.

    A page draws some of its posts, so one person's share may stay what it was (1 in 100 did).
    """
    token = make_admin_key(home, "test")
    with (
        serving(home, token, free_port(0), UNHURRIED, log) as server,
        PlatformClient(server.url, token) as client,
        Workspace.open(home, read_only=True) as workspace,
    ):
        viewers = some_viewers(workspace, 20, LITTLE_KNOWN)
        examples = [three_likes(workspace, client, viewer, now_us()) for viewer in viewers]
    assert min(example.seconds for example in examples) < 1.0  # one write may meet a slow disk
    before, after = np.array([example.shares for example in examples]).T
    return before, after


def test_only_a_home_that_a_demo_made_is_emptied(tmp_path: Path) -> None:
    home = tmp_path / "home"
    clear_home(home)
    (home / "events").mkdir()
    clear_home(home)
    assert [path.name for path in home.iterdir()] == [MARKER]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(Conflict, match="holds data that no demo made"):
        clear_home(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_home_in_use_is_left_alone(tmp_path: Path) -> None:
    clear_home(tmp_path / "home")
    with Workspace.open(tmp_path / "home") as workspace:
        workspace.log.append(_one_event(now_us()))
        with pytest.raises(Conflict, match="is writing to"):
            clear_home(tmp_path / "home")
        assert workspace.log.last_seq == 1
    with Workspace.open(tmp_path / "home", read_only=True) as workspace:
        assert workspace.log.last_seq == 1
    clear_home(tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == [MARKER]


def test_what_is_wrong_is_found_out_before_anything_is_emptied(tmp_path: Path) -> None:
    home = tmp_path / "home"
    clear_home(home)
    (home / "world").mkdir()
    (home / "world" / "events.csv").write_text("user_id,post_id,type,timestamp\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="which the demo empties"):
        demo(home / "world", home=home)
    with pytest.raises(NotFound, match="none of the four files"):
        demo(tmp_path / "empty", home=home)
    with pytest.raises(InvalidInput):
        demo(people=1, posts=1, home=home)
    assert (home / "world" / "events.csv").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no folder"):
        demo(tmp_path / "nothing", home=tmp_path / "home")


@pytest.mark.parametrize("age_days", [0, 1, 30, 10_000])
def test_archived_data_is_served_as_on_its_last_day(tmp_path: Path, age_days: int) -> None:
    last_us = now_us() - age_days * DAY_US
    with Workspace.open(tmp_path) as workspace:
        workspace.log.append(_one_event(last_us))
        offset = clock_offset_seconds(workspace)
    if age_days < 2:
        assert offset == 0
    else:
        assert abs(now_us() + offset * SECOND_US - last_us) < 60 * SECOND_US


def _one_event(at_us: int) -> pa.Table:
    moment = pa.array([at_us], EVENT_SCHEMA.field("event_time").type)
    given = {
        "event_id": [1], "type": [int(EventType.LIKE)], "viewer_id": [1], "post_id": [2],
        "event_time": moment, "known_time": moment, "known_assumed": [True],
    }  # fmt: skip
    columns = [given.get(f.name, pa.nulls(1, f.type)) for f in EVENT_SCHEMA]
    return pa.table(columns, schema=EVENT_SCHEMA)

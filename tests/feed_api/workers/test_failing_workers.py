"""Workers that die, hang, are told to end, or cannot start."""

import os
import signal
import socket

import psutil
import pytest

from contracts.errors import Unavailable
from contracts.ids import Namespace
from features.workspace import Workspace
from pipelines.server_process import free_port, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TWO = {"HEADWATER_WORKERS": "2"}


def test_a_reader_that_is_killed_is_missed_by_nobody_and_comes_back(own_site):
    old, kept = own_site.pid(1), own_site.door(0)
    page = kept.feed(own_site.of_each(8)[1])
    cursor = page["next"]
    why = f"/v1/platform/feed/{page['feed_id']}/why/{page['items'][0]['post_id']}"
    with own_site.private(0) as other:  # reads what is written, not what worker 1 holds
        assert own_site.until(lambda: other.get(why).status_code == 200, 30)
    os.kill(old, signal.SIGKILL)
    for k in range(60):
        for door in (kept, own_site.door()):
            assert door.feed(own_site.viewers[k])["items"]
        assert kept.like("ann", "made-through-0").status == 202
    assert kept.feed(own_site.of_each(8)[1], cursor=cursor)["items"]
    assert own_site.until(own_site.ready, 60)
    assert own_site.pid(1) != old
    assert own_site.applied_seq(1) == own_site.applied_seq(0)


def test_without_the_writer_feeds_go_on_and_writes_are_told_to_wait(own_site):
    door = own_site.door(1)
    writer = own_site.pid(0)
    os.kill(writer, signal.SIGKILL)
    reply = door.put_post("too-early")
    assert (reply.status, reply.json["type"]) == (503, "unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    ready = door.ask("GET", "/readyz")
    assert (ready.status, ready.json["checks"]["workers"]) == (503, False)
    for viewer in own_site.viewers[:20]:
        assert door.feed(viewer)["items"]
    assert own_site.until(lambda: door.put_post("in-time", "?wait=applied").status == 201, 60)
    assert own_site.until(own_site.ready, 60)
    assert own_site.pid(0) != writer


def test_what_a_reader_acknowledged_outlives_everything(own_site):
    door = own_site.door(1)
    pids = [own_site.pid(0), own_site.pid(1)]
    last = 0
    for k in range(50):
        reply = door.put_post(f"durable-{k}")
        assert reply.status == 201
        last = int(reply.headers["headwater-seq"])
    for pid in [own_site.server.process.pid, *pids]:
        os.kill(pid, signal.SIGKILL)
    with Workspace.open(own_site.home, read_only=True) as workspace:
        assert workspace.log.last_seq == last
        ids = workspace.ids.lookup(Namespace.POST, [f"durable-{k}" for k in range(50)])
        assert len(workspace.catalog.posts_by_id(ids)) == 50


def test_the_end_is_clean_and_in_time(own_site):
    workers = psutil.Process(own_site.server.process.pid).children(recursive=True)
    door = own_site.door(1)
    own_site.server.process.terminate()
    assert own_site.server.process.wait(15) == 0

    assert not psutil.wait_procs(workers, 3)[1]
    assert not list((own_site.home / "run").iterdir())
    with pytest.raises(OSError, match=r".*"):
        door.feed("ann")


def test_workers_end_when_their_parent_is_gone(own_site):
    workers = [psutil.Process(own_site.pid(k)) for k in (0, 1)]
    own_site.server.process.kill()
    assert not psutil.wait_procs(workers, 10)[1]
    with Workspace.open(own_site.home):  # the writer's lock is free
        pass


def test_a_taken_address_and_a_home_in_use_are_told(site, tmp_path):
    with (
        pytest.raises(Unavailable, match=r"process \d+ is writing to"),
        serving(site.home, site.token, free_port(0), TWO, tmp_path / "log"),
    ):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(Unavailable, match="cannot be listened on: Address"),
            serving(tmp_path / "home", site.token, port, TWO, tmp_path / "log"),
        ):
            pass

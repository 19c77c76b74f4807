"""A real server with two workers on a copy of the small home, and ways to each of them."""

import http.client
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from contracts.clock import now_us
from contracts.ids import Namespace
from features.workspace import Workspace
from feed_api.database import home_url, open_database
from feed_api.keys import create_key
from feed_api.seats import Seat
from pipelines.server_process import RunningServer, free_port, serving

TWO = {
    "HEADWATER_WORKERS": "2",
    "HEADWATER_LOG_LEVEL": "warning",
    # What holds over two workers has no deadline: a busy machine degrades no feed.
    "HEADWATER_FEED_BUDGET_MS": "60000",
    "HEADWATER_SOURCE_DEADLINE_MS": "60000",
    "HEADWATER_COMPONENT_DEADLINE_MS": "60000",
    "HEADWATER_RANKER_TIMEOUT_MS": "60000",
}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Door:
    """One connection to the public address, so one worker's."""

    def __init__(self, port: int, token: str) -> None:
        self._token = token
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        sent = {"Authorization": f"Bearer {self._token}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        raw = None if body is None else json.dumps(body).encode()
        if raw is not None:
            sent["Content-Type"] = "application/json"
        self.connection.request(method, path, raw, sent)
        answer = self.connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, named, answer.read())

    def feed(self, viewer: str, **query: Any) -> Any:
        text = "&".join(f"{k}={v}" for k, v in {"viewer": viewer, **query}.items())
        reply = self.ask("GET", f"/v1/platform/feed?{text}")
        assert reply.status == 200, reply.body
        return reply.json

    def put_post(self, post: str, query: str = "") -> Reply:
        body = {"text": f"the text of {post}", "author": "bob", "topics": ["rivers"]}
        return self.ask("PUT", f"/v1/platform/posts/{post}{query}", body)

    def like(self, viewer: str, post: str, query: str = "", **headers: str) -> Reply:
        event = {"viewer": viewer, "type": "like", "post": post}
        return self.ask("POST", f"/v1/platform/events{query}", {"events": [event]}, **headers)


@dataclass
class Site:
    """A running server, its home, and ways to its workers."""

    home: Path
    token: str
    server: RunningServer
    viewers: list[str]
    doors: list[Door] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.server.url.rsplit(":", 1)[1])

    @property
    def seat(self) -> Seat:
        return Seat(0, 2, self.home / "run")

    def pid(self, worker: int) -> int:
        """Find the process that listens on a worker's private socket."""
        path = str(self.seat.socket_path(worker).resolve())
        for child in psutil.Process(self.server.process.pid).children():
            if any(c.laddr == path for c in child.net_connections(kind="unix")):
                return child.pid
        msg = f"worker {worker} is not there"
        raise LookupError(msg)

    def door(self, worker: int | None = None) -> Door:
        """Connect to a worker: the other one is held while the connection is made."""
        door = Door(self.port, self.token)
        self.doors.append(door)
        if worker is None:
            return door
        other = self.pid(1 - worker)
        os.kill(other, signal.SIGSTOP)
        try:
            assert door.ask("GET", "/healthz").status == 200
        finally:
            os.kill(other, signal.SIGCONT)
        return door

    def private(self, worker: int) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.seat.socket_path(worker)))
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(
            transport=transport, base_url="http://worker", headers=headers, timeout=30
        )

    def applied_seq(self, worker: int) -> int:
        with self.private(worker) as client:
            return int(client.get("/readyz").json()["feeds"]["applied_seq"])

    def of_each(self, nth: int = 0) -> list[str]:
        """Name a viewer of worker 0 and one of worker 1; another `nth`, other viewers."""
        owned = [[v for v in self.viewers if self.seat.owner(v) == k] for k in (0, 1)]
        return [viewers[nth] for viewers in owned]

    def until(self, so: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so; False at the time-out."""
        end = monotonic() + seconds
        while not so():
            if monotonic() > end:
                return False
            sleep(0.02)
        return True

    def ready(self) -> bool:
        try:
            return self.door().ask("GET", "/readyz").status == 200
        except OSError:
            return False


def open_site(small_home: Path, folder: Path, clock: dict[str, str]) -> Iterator[Site]:
    home = Path(shutil.copytree(small_home, folder / "home"))
    engine = open_database(home_url(home))
    token = create_key(engine, "test", ["admin"], now_us()).token
    engine.dispose()
    with Workspace.open(home, read_only=True) as workspace:
        viewers = workspace.ids.all(Namespace.PERSON)[1]
    with serving(home, token, free_port(0), {**TWO, **clock}, folder / "server.log") as server:
        site = Site(home, token, server, viewers)
        yield site
        for door in site.doors:
            door.connection.close()


@pytest.fixture(scope="module")
def site(
    small_home: Path, tmp_path_factory: pytest.TempPathFactory, server_clock: dict[str, str]
) -> Iterator[Site]:
    """A server that the tests of this module share."""
    yield from open_site(small_home, tmp_path_factory.mktemp("shared"), server_clock)


@pytest.fixture
def own_site(small_home: Path, tmp_path: Path, server_clock: dict[str, str]) -> Iterator[Site]:
    """A server to break."""
    yield from open_site(small_home, tmp_path, server_clock)

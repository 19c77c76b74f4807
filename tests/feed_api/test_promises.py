"""What docs/api.md promises where it is easily broken: graphs, times, repeats, 404s, refusals."""

import asyncio
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from itertools import count
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from contracts.clock import now_us, to_datetime
from contracts.errors import Unavailable
from feed_api import keys
from feed_api.forwarding import APPLIED_PATH, Forward, PrivateDoor
from feed_api.peers import Answer
from feed_api.seats import Seat
from feed_api.server import MAX_HEAD_BYTES, server_config

FEED, EVENTS = "/v1/platform/feed", "/v1/platform/events"
NUMBERS = count()
"""One for each example: people are new to each."""
CHANGES = ("follow", "unfollow", "block", "unblock", "like")


@pytest.fixture(scope="module")
def shared(make_api_of_module):
    return make_api_of_module()


batches = st.lists(
    st.lists(
        st.tuples(st.sampled_from(CHANGES), st.sampled_from("abc"), st.integers(0, 6)),
        min_size=1,
        max_size=8,
    ),
    min_size=1,
    max_size=3,
)


@given(batches)
def test_the_graph_is_what_the_log_says_whatever_ids_repeat(shared, sent) -> None:
    """The catalog's edges are those of a replay of the rows that the log kept."""
    number = next(NUMBERS)
    names = {name: f"{name}-{number}" for name in "abc"}
    held: set[int] = set()
    edges: dict[str, set[str]] = {"follow": set(), "block": set(), "like": set()}
    for batch in sent:
        rows: list[dict[str, Any]] = []
        for kind, name, event_id in batch:
            on = {"post": "p-1"} if kind == "like" else {"target": f"x-{number}"}
            row = {"viewer": names[name], "type": kind, "event_id": f"{number}-{event_id}"}
            rows.append(row | on)
            if event_id not in held:
                held.add(event_id)
                changed = edges[kind.removeprefix("un")]
                (changed.discard if kind.startswith("un") else changed.add)(name)
        assert shared.post(*rows).status_code == 202
    target = shared.person(f"x-{number}")
    catalog = shared.workspace.catalog
    for name in "abc":
        person = shared.person(names[name])
        if person >= 0 and target >= 0:
            assert catalog.has_follow(person, target) is (name in edges["follow"])
            assert catalog.has_block(person, target, "block") is (name in edges["block"])


@pytest.mark.parametrize(
    "time", ["1700000000", "1700000000000", "1.5e9", "17", "20261124", "2026-11-24"]
)
def test_a_number_is_no_time_in_whatever_form(api, time: str) -> None:
    answer = api.post({"viewer": "ann", "type": "like", "post": "p-1", "time": time}).json()
    assert (answer["accepted"], len(answer["rejected"])) == (0, 1)
    assert api.put_post("p-9", created=time).status_code == 400


def test_a_fast_clock_changes_nothing_the_second_time(api) -> None:
    ahead = to_datetime(now_us() + 200 * 10**6).isoformat()
    first, again = (api.put_post("p-9", created=ahead) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 204)
    assert again.headers["headwater-seq"] == first.headers["headwater-seq"]
    path, body = "/v1/platform/people/zoe", {"created": ahead}
    first, again = (api.ask("PUT", path, json=body) for _ in range(2))
    assert again.headers["headwater-seq"] == first.headers["headwater-seq"]
    long_ago = {"created": "2020-01-01T00:00:00Z"}
    api.put_post("p-9", **long_ago)
    moved = api.put_post("p-9", created=ahead)
    assert int(moved.headers["headwater-seq"]) > int(again.headers["headwater-seq"])


def test_the_words_of_a_deleted_post_are_told_to_nobody(api) -> None:
    api.put_post("p-6", text="sesame is the word")
    feed = api.feed(limit=5)
    posts = [item["post_id"] for item in feed["items"]]
    behind = posts[posts.index("p-6") + 1]
    path = f"{FEED}/{feed['feed_id']}/why/{behind}"
    assert "sesame" in api.ask("GET", path).text
    api.ask("DELETE", "/v1/platform/posts/p-6")
    answer = api.ask("GET", path)
    assert answer.status_code == 200
    assert "sesame" not in answer.text
    assert "p-6" in answer.text


def test_absent_and_hidden_have_the_same_words(api) -> None:
    feed = api.feed()["feed_id"]
    preview = "/v1/platform/people/{}/controls/preview?type=fewer_of_author&post={}"
    paths = [
        *(preview.format(*pair) for pair in (("nobody", "p-2"), ("cat", "p-2"), ("ann", "p-77"))),
        f"{FEED}/{feed}/why/p-77",
        f"{FEED}/00d2f0c4a1b2c3d4/why/p-1",
        f"{FEED}/00d2f0c4a1b2c3d4/why/p-77",
    ]
    bodies = [api.ask("GET", path).json() for path in paths]
    told = [{k: body[k] for k in ("type", "title", "status", "detail")} for body in bodies]
    assert all(each == told[0] for each in told)
    assert told[0]["status"] == 404


def test_a_replay_says_where_the_log_stands_and_waits(api) -> None:
    body = {"events": [{"viewer": "ann", "type": "like", "post": "p-1"}]}
    headers = {"Idempotency-Key": "k-1"}
    first, again = (
        api.ask("POST", f"{EVENTS}?wait=applied", json=body, headers=headers) for _ in range(2)
    )
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("headwater-seq", "headwater-applied"):
        assert again.headers[name] == first.headers[name]
    ranked = {"viewer": "ann", "posts": ["p-1"]}
    for _ in range(2):
        answer = api.ask("POST", "/v1/platform/rank", json=ranked, headers=headers)
        assert answer.status_code == 200
        assert "headwater-seq" not in answer.headers


def test_no_operation_takes_a_parameter_that_it_does_not_know(api) -> None:
    feed = api.feed()["feed_id"]
    event = {"events": [{"viewer": "ann", "type": "like", "post": "p-1"}]}
    for method, path, body in (
        ("GET", f"{FEED}?viewer=ann&", None),
        ("GET", f"{FEED}/{feed}/why/p-1?", None),
        ("GET", "/v1/platform/funnel?", None),
        ("POST", "/v1/platform/rank?", {"viewer": "ann", "posts": ["p-1"]}),
        ("POST", f"{EVENTS}?", event),
        ("PUT", "/v1/platform/people/zoe?", {}),
        ("DELETE", "/v1/platform/posts/p-1?", None),
    ):
        answer = api.ask(method, f"{path}nonsense=1", json=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "invalid-input"), path


@pytest.mark.parametrize("host", ["a b", "", "/etc:x", "feeds"])
def test_a_problem_names_the_path_and_nothing_of_the_machine(api, host: str) -> None:
    answer = api.ask("GET", f"{FEED}/nonsense/why/p 1", headers={"Host": host})
    assert answer.json()["instance"] == f"{FEED}/nonsense/why/p%201"
    link = api.ask("GET", f"{FEED}?viewer=ann&limit=1", headers={"Host": host}).headers["link"]
    assert link.startswith(f"<{FEED}?viewer=ann")


@pytest.mark.parametrize(
    "failure", [Unavailable("gone"), sqlite3.OperationalError("disk I/O"), OSError(28, "full")]
)
def test_readiness_says_which_check_failed(api, monkeypatch, failure: Exception) -> None:
    def fails() -> None:
        raise failure

    monkeypatch.setattr(api.feeds, "health", fails)
    answer = api.ask("GET", "/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["checks"] == {"keys": True, "event_log": False}


def test_who_asks_while_keys_cannot_be_read_fails_together(api, monkeypatch) -> None:
    reads = []

    def fails(engine: object) -> None:
        reads.append(engine)
        sleep(0.2)
        raise OperationalError("s", {}, OSError())

    monkeypatch.setattr(keys, "_read_keys", fails)
    ring = api.app.state.api.keys
    monkeypatch.setattr(ring, "_read_at", float("-inf"))

    async def all_at_once(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(client.get(f"{FEED}?viewer=ann") for _ in range(50)))

    start = monotonic()
    answers = api.run(all_at_once)
    assert {answer.status_code for answer in answers} == {503}
    assert len(reads) <= 2
    assert monotonic() - start < 5.0  # one after the other they would take ten seconds


def test_a_client_that_hangs_up_is_no_failure(api) -> None:
    token = api.keys["admin"].encode()
    headers = [
        (b"authorization", b"Bearer " + token), (b"content-type", b"application/json"),
        (b"idempotency-key", b"k-9"),
    ]  # fmt: skip
    scope = {
        "type": "http", "method": "POST", "path": EVENTS, "raw_path": EVENTS.encode(),
        "query_string": b"", "headers": headers, "root_path": "", "scheme": "http",
        "server": ("feeds", 80), "client": ("c", 1), "http_version": "1.1",
    }  # fmt: skip
    messages = [
        {"type": "http.request", "body": b'{"events"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(message)

    async def serve() -> None:
        await api.app(scope, receive, send)

    api.runner.run(serve())
    (line,) = [x for x in map(json.loads, api.log_text().splitlines()) if x.get("status") == 499]
    assert (line["level"], line.get("exception")) == ("info", None)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "GET"])
@pytest.mark.parametrize("query", ["0", "99", "abc", ""])
def test_the_question_of_workers_is_for_workers(api, method: str, query: str) -> None:
    """Only a GET with a number is theirs, and the public door passes no such GET on."""
    asked = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])

    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        scope = {
            "type": "http", "method": method, "path": APPLIED_PATH, "query_string": query.encode(),
        }  # fmt: skip
        await PrivateDoor(app, api.feeds)(scope, None, send)

    api.runner.run(ask())
    theirs = method == "GET" and query.isdigit()
    assert bool(answers) is theirs
    assert asked == ([] if theirs else [APPLIED_PATH])
    seat = Seat(index=1, count=2, folder=api.settings.home)
    assert seat.owner_of_read(APPLIED_PATH, query.encode()) == 1


def test_the_door_passes_a_refusal_of_readiness_on(api) -> None:
    refusal = Answer(503, [(b"content-length", b"2")], b"{}")
    seat = Seat(index=0, count=1, folder=api.settings.home)
    door = Forward(api.app, api.app.state.api, seat)
    assert api.runner.run(door._readiness(refusal)) == refusal


@pytest.fixture
def address(api) -> Iterator[tuple[str, int]]:
    """A real socket before the app."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(server_config(api.app, 1))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            sleep(0.01)
        yield listening.getsockname()
        server.should_exit = True
        thread.join(10)


def test_a_head_that_never_ends_is_refused(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        sent, line = 0, b"X-A: " + b"a" * 1000 + b"\r\n"
        try:
            while sent < 50 * MAX_HEAD_BYTES:
                client.sendall(line)
                sent += len(line)
            answer = client.recv(100)
        except OSError:  # closed while we were writing
            answer = b""
    assert sent < 50 * MAX_HEAD_BYTES or answer.startswith(b"HTTP/1.1 431")
    with socket.create_connection(address, timeout=10) as client:  # others are served
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 200" in client.recv(1000) + client.recv(1000)

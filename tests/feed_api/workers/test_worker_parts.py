"""The parts of several workers, each by itself: seats, the private client, merged metrics."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from contracts.errors import InvalidInput, Unavailable
from feed_api.merging import merged_metrics
from feed_api.peers import Answer, Peer, give, plain_request, request_bytes
from feed_api.seats import Seat, asks_why
from feed_api.supervisor import Work, run_workers
from pipelines.server_process import free_port

SEAT = Seat(index=2, count=4, folder=Path("run"))


def test_viewers_are_shared_out_evenly_and_for_good():
    owners = Counter(SEAT.owner(f"viewer-{k}") for k in range(4000))
    assert min(owners.values()) > 900
    assert [SEAT.owner(viewer) for viewer in ("ann", "bob", "zoë", "\ud800")] == [1, 1, 0, 1]
    assert SEAT.others == (0, 1, 3)


def test_a_read_belongs_to_its_viewers_owner():
    owner = SEAT.owner("a b/ü")
    assert owner != SEAT.index
    query = b"limit=3&viewer=other&viewer=a+b%2F%C3%BC"
    assert SEAT.owner_of_read("/v1/platform/feed", query) == owner
    assert SEAT.owner_of_read("/v1/platform/people/bob/controls/preview", b"") == SEAT.owner("bob")
    assert SEAT.owner_of_read("/v1/platform/funnel", b"") == 0
    for path in ("/v1/platform/feed", "/v1/platform/feeds", "/docs", "/healthz"):
        assert SEAT.owner_of_read(path, b"limit=3") == SEAT.index
    assert asks_why("/v1/platform/feed/00ff/why/p-1")
    assert not asks_why("/v1/platform/feed")


def test_candidates_are_ranked_by_their_viewers_owner():
    assert SEAT.owner_of_rank(b'{"viewer": "bob", "posts": []}') == SEAT.owner("bob")
    for body in (b"", b"{", b"[]", b"{}", b'{"viewer": 3}'):
        assert SEAT.owner_of_rank(body) == SEAT.index


ONE = """\
# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{route="/a b"} 2.0
# HELP requests_created Requests.
# TYPE requests_created gauge
requests_created{route="/a b"} 1.7e+09
# HELP posts Posts.
# TYPE posts gauge
posts 5.0
# HELP seconds Time.
# TYPE seconds histogram
seconds_bucket{le="0.5"} 1.0
seconds_sum 0.25
"""


def test_counters_are_summed_and_gauges_keep_their_worker():
    other = ONE.replace("2.0", "3.0").replace("5.0", "6.0") + 'requests_total{route="/c"} 1.0\n'
    lines = merged_metrics({0: ONE, 1: other, 2: None}).splitlines()
    assert 'requests_total{route="/a b"} 5.0' in lines
    assert 'seconds_bucket{le="0.5"} 2.0' in lines
    assert "seconds_sum 0.5" in lines
    assert [x for x in lines if x.startswith("posts")] == [
        'posts{worker="0"} 5.0', 'posts{worker="1"} 6.0',
    ]  # fmt: skip
    assert lines.count("# TYPE requests_total counter") == 1
    assert not [line for line in lines if "created" in line]
    assert 'headwater_worker_up{worker="2"} 0' in lines


def test_a_request_is_written_as_it_came_but_for_its_connection():
    scope = {
        "method": "PUT",
        "raw_path": b"/v1/a%2Fb",
        "query_string": b"x=1",
        "headers": [
            (b"host", b"feeds"),
            (b"connection", b"close"),
            (b"expect", b"100-continue"),
            (b"content-length", b"99"),
            (b"x-request-id", b"mine"),
        ],
    }
    assert request_bytes(scope, b"{}") == (
        b"PUT /v1/a%2Fb?x=1 HTTP/1.1\r\nhost: feeds\r\nx-request-id: mine\r\n"
        b"content-length: 2\r\n\r\n{}"
    )


def test_an_answer_in_chunks_gets_a_length():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(give(Answer(200, [(b"transfer-encoding", b"chunked")], b"abc"), send))
    assert sent[0]["headers"] == [(b"content-length", b"3")]


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each path with itself: /slow later, /bye for the last time, /bad with nonsense."""
    while line := await reader.readline():
        path = line.split()[1]
        while (await reader.readline()).strip():
            pass
        if path == b"/slow":
            await asyncio.sleep(0.3)
        if path == b"/bad":
            writer.write(b"nonsense\r\n\r\n")
            continue
        if path != b"/gone":
            close = b"connection: close\r\n" if path == b"/bye" else b""
            head = b"HTTP/1.1 200 OK\r\nX-Path: %s\r\n%s" % (path, close)
            writer.write(head + b"content-length: 5\r\n\r\nhe")
            await asyncio.sleep(0.01)
            writer.write(b"llo")
        if path in {b"/gone", b"/bye"}:
            break


def with_peer(folder: Path, work: Callable[[Peer, list[int]], Awaitable[None]]) -> None:
    """Run something with a peer; the list counts its connections."""
    path, connections, tasks = folder / "worker-1.sock", [], []

    async def run() -> None:
        async def handle(reader, writer):
            connections.append(1)
            tasks.append(asyncio.current_task())
            with suppress(ConnectionError):
                await answering(reader, writer)
            writer.close()

        server = await asyncio.start_unix_server(handle, path)
        peer = Peer(path)
        await work(peer, connections)
        peer.close()
        server.close()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_connection_is_kept_and_answers_stay_apart(tmp_path: Path):
    async def work(peer: Peer, connections: list[int]) -> None:
        for _ in range(3):
            answer = await peer.ask(plain_request("/one"), 1.0)
            assert answer == Answer(200, answer.headers, b"hello")
            assert answer.header(b"x-path") == b"/one"
        assert len(connections) == 1
        paths = ["/slow", "/two", "/three"]
        answers = await asyncio.gather(*(peer.ask(plain_request(p), 1.0) for p in paths))
        assert [a.header(b"x-path") for a in answers] == [p.encode() for p in paths]
        assert len(connections) == 3

    with_peer(tmp_path, work)


def test_a_worker_that_is_slow_or_gone_or_broken_is_told(tmp_path: Path):
    async def work(peer: Peer, _connections: list[int]) -> None:
        with pytest.raises(TimeoutError):
            await peer.ask(plain_request("/slow"), 0.05)
        for path in ("/gone", "/bad"):
            with pytest.raises(ConnectionError):
                await peer.ask(plain_request(path), 1.0)
        for path in ("/bye", "/next"):  # no late answer, no closed connection comes up here
            answer = await peer.ask(plain_request(path), 1.0)
            assert answer.header(b"x-path") == path.encode()

    with_peer(tmp_path, work)
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(Peer(tmp_path / "worker-2.sock").ask(plain_request("/one"), 1.0))


def test_workers_that_cannot_start_are_told(tmp_path: Path):
    address = ("127.0.0.1", free_port(0))
    with pytest.raises(Unavailable, match=r"worker [01] did not start"):
        run_workers(2, tmp_path, address, Work("builtins:exit", ()))
    with pytest.raises(InvalidInput, match="too long a path"):
        run_workers(2, tmp_path / ("x" * 100), address, Work("builtins:exit", ()))


DIES_ONCE = """
import os
import signal
import time


def work(folder, post):
    died, back = folder / "died", folder / "back"
    if post.seat.index == 1:
        while not back.exists():
            time.sleep(0.01)
    elif died.exists():
        back.touch()
    post.ready.send_bytes(b"ready")
    if post.seat.index == 1:
        os.kill(os.getppid(), signal.SIGTERM)
    elif not back.exists():
        died.touch()
        os._exit(3)
    signal.pause()
"""


def test_a_worker_that_dies_while_another_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    monkeypatch.syspath_prepend(tmp_path)
    run_workers(2, tmp_path, ("127.0.0.1", free_port(0)), Work("dies_once:work", (tmp_path,)))
    assert (tmp_path / "back").exists()

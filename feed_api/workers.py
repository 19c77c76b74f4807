"""One worker among several: the app at the shared public socket and at a private one of its own."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from feed_api.forwarding import Forward, PrivateDoor
from feed_api.seats import DRAIN_SECONDS
from feed_api.server import server_config
from feed_api.state import ApiState
from feed_api.supervisor import Post

_KEEP_ALIVE_SECONDS: Final = 24 * 3600
"""The one who asks closes a private connection: the other end would close it under a request."""


def serve_worker(app: FastAPI, post: Post) -> None:
    """Serve until SIGTERM, then finish the requests at hand; call it in the main thread."""
    config = server_config(app, DRAIN_SECONDS, lifespan="on")
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(app, post))


async def _serve(app: FastAPI, post: Post) -> None:
    state: ApiState = app.state.api
    seat = post.seat
    door = Forward(app, state, seat)
    inner = _Server(
        server_config(
            PrivateDoor(app, state.feeds),
            DRAIN_SECONDS,
            lifespan="on",
            date_header=False,  # the outer server adds it
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
    )
    outer = _Server(server_config(door, DRAIN_SECONDS, lifespan="off"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, outer.stop)
    async with asyncio.TaskGroup() as tasks:
        private = bind_private(seat.socket_path(seat.index))
        tasks.create_task(inner.serve([private]))
        await inner.up.wait()
        serving = tasks.create_task(outer.serve([post.public]))
        await outer.up.wait()
        post.ready.send_bytes(b"ready")
        await serving
        door.close()
        inner.stop()


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals alone and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    def stop(self) -> None:
        """Begin to end."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: one process runs two servers."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.up.set()


def bind_private(path: Path) -> socket.socket:
    """Make a socket that only this user can reach, in the place of one that a kill left behind."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)  # nobody can connect yet: it does not listen
    return listener

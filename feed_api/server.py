"""Runs an app under uvicorn: one worker, graceful end."""

import signal
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from feed_api.logs import configure_logs
from feed_api.signals import signals_lead_to

GRACE_SECONDS: Final = 10
MAX_HEAD_BYTES: Final = 1 << 16
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


class BoundedHead(HttpToolsProtocol):
    """Refuses a head that never ends: it is held in memory before any key is looked at."""

    def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **more)
        self._in_head = True
        self._head_bytes = 0

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End to count."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Take what came; 431 and the end where the head has become too long."""
        super().data_received(data)
        self._head_bytes += len(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()


def run_server(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests at hand and return.

    Call it in the main thread.
    """
    config = server_config(app, GRACE_SECONDS, host=host, port=port)
    configure_logs(app.state.api.settings.log_level)
    # uvicorn sends itself the signal again once it has stopped, which would end the process before
    # the caller has closed feeds and workspace; meanwhile its own handlers are in force.
    with signals_lead_to(lambda *_: None, signal.SIGINT, signal.SIGTERM):
        uvicorn.Server(config).run()


def server_config(
    app: ASGIApp,
    grace_seconds: int,
    **more: Any,  # noqa: ANN401 - uvicorn's own options
) -> uvicorn.Config:
    """Say how every process of ours serves; `more` is where it listens."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedHead,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=grace_seconds,
        **more,
    )

"""Runs an app under uvicorn: one worker, graceful end."""

import signal
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from feed_api.logs import configure_logs
from feed_api.signals import signals_lead_to

GRACE_SECONDS: Final = 10


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
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=grace_seconds,
        **more,
    )

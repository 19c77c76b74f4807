"""Builds the app: what it holds, what it answers, what it does at start and end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Engine
from starlette.exceptions import HTTPException
from structlog.typing import FilteringBoundLogger

from contracts.clock import SECOND_US, Clock
from contracts.errors import HeadwaterError
from contracts.feed import Feeds
from contracts.settings import Settings
from features.workspace import Workspace
from feed_api import health
from feed_api.cursors import CursorSigner, cursor_secret
from feed_api.database import home_url, open_database
from feed_api.edge import Edge
from feed_api.idempotency import AnswerStore
from feed_api.keys import REFRESH_SECONDS, KeyRing
from feed_api.lanes import Lane
from feed_api.logs import json_logger
from feed_api.metrics import Metrics
from feed_api.openapi import VERSION, describe
from feed_api.platform import endpoints
from feed_api.problems import handle_error
from feed_api.state import ApiState

MAX_WAITING_FEEDS: Final = 64
MAX_WAITING_WRITES: Final = 256


class HeadwaterApi(FastAPI):
    """FastAPI whose OpenAPI file carries examples, problems and scopes."""

    def openapi(self) -> dict[str, Any]:
        """Write the OpenAPI file once."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(super().openapi())
        return self.openapi_schema


def create_app(
    settings: Settings,
    workspace: Workspace,
    feeds: Feeds,
    *,
    logger: FilteringBoundLogger | None = None,
) -> FastAPI:
    """Build the app over an open workspace and running feeds; closing those two is the caller's."""
    engine = open_database(home_url(settings.home))
    key_lane = Lane("key reads", limit=16)
    answer_lane = Lane("stored answers", limit=MAX_WAITING_WRITES)
    state = ApiState(
        settings=settings,
        workspace=workspace,
        feeds=feeds,
        clock=Clock(settings.clock_offset_seconds * SECOND_US),
        keys=KeyRing(engine, key_lane),
        answers=AnswerStore(engine, answer_lane),
        cursors=CursorSigner(cursor_secret(settings)),
        metrics=Metrics(feeds),
        feed_lane=Lane("feeds", limit=MAX_WAITING_FEEDS),
        write_lane=Lane("writes", limit=MAX_WAITING_WRITES),
        logger=logger if logger is not None else json_logger(settings.log_level),
    )

    lanes = (state.feed_lane, state.write_lane, answer_lane, key_lane)
    app = HeadwaterApi(
        title="Headwater", version=VERSION, lifespan=lambda _app: _running(state, engine, lanes)
    )
    app.state.api = state
    app.include_router(endpoints.router)
    app.include_router(health.router)
    for error in (HeadwaterError, RequestValidationError, HTTPException):
        app.add_exception_handler(error, handle_error)
    app.add_middleware(Edge, metrics=state.metrics, logger=state.logger)
    return app


@asynccontextmanager
async def _running(state: ApiState, engine: Engine, lanes: tuple[Lane, ...]) -> AsyncIterator[None]:
    """Keep the keys fresh while the app serves; then let what runs end, and close."""
    await state.keys.refresh()
    refreshing = asyncio.create_task(_keep_fresh(state))
    state.logger.info("started", home=str(state.settings.home))
    yield
    refreshing.cancel()
    with suppress(asyncio.CancelledError):
        await refreshing
    for lane in lanes:
        lane.close()
    engine.dispose()
    state.logger.info("stopped")


async def _keep_fresh(state: ApiState) -> None:
    """Read the keys again and again, so that no request has to."""
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await state.keys.refresh()
        except HeadwaterError as error:
            state.logger.error("keys_unreadable", exc_info=error)

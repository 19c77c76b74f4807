"""Is it alive, is it ready, how is it doing: for probes and scrapers, without a key."""

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from contracts.errors import HeadwaterError
from contracts.funnel import HEALTH_KEY
from feed_api.keys import STALE_SECONDS
from feed_api.state import ApiState, api_state

READY_SECONDS: Final = 2.0

router: Final = APIRouter(tags=["operation"])


class Alive(BaseModel):
    """The process answers."""

    status: str


class Ready(BaseModel):
    """Whether requests can be served, and what each part says."""

    ready: bool
    checks: dict[str, bool]
    feeds: dict[str, Any]


@router.get("/healthz", operation_id="health", response_model=Alive)
async def health() -> Response:
    """Say that the process answers."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get("/readyz", operation_id="readiness", response_model=Ready)
async def readiness(request: Request) -> Response:
    """Say whether feeds, event log and keys can serve: 200, else 503 with the same body."""
    api = api_state(request)
    checks: dict[str, bool] = {"keys": api.keys.age_seconds < STALE_SECONDS}
    feeds: Mapping[str, object] = {}
    try:
        feeds = await asyncio.wait_for(api.write_lane.run(_look, api), READY_SECONDS)
        checks["event_log"] = True
        checks["feeds"] = feeds.get("ready", True) is True
    except (TimeoutError, HeadwaterError, sqlite3.Error, OSError):
        checks["event_log"] = False
    ready = all(checks.values())
    body = {"ready": ready, "checks": checks, "feeds": dict(feeds)}
    return Response(
        orjson.dumps(body, default=str, option=orjson.OPT_SERIALIZE_NUMPY),
        status_code=200 if ready else 503,
        media_type="application/json",
    )


@router.get("/metrics", operation_id="metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Give all metrics in Prometheus' text form."""
    text = await asyncio.to_thread(api_state(request).metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _look(api: ApiState) -> Mapping[str, object]:
    """Read the log's end and the feeds' health, in the lane of the writes: it has to move."""
    # The funnel is not for everybody: it has an operation of its own.
    health = {name: part for name, part in api.feeds.health().items() if name != HEALTH_KEY}
    return {"last_seq": api.workspace.log.last_seq, **health}

"""What one app holds while it runs, and how a request gets at it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from starlette.requests import Request
from structlog.typing import FilteringBoundLogger

from contracts.clock import Clock
from contracts.feed import Feeds
from contracts.settings import Settings
from features.workspace import Workspace
from feed_api.cursors import CursorSigner
from feed_api.idempotency import AnswerStore
from feed_api.keys import KeyRing
from feed_api.lanes import Lane
from feed_api.metrics import Metrics

APPLIED_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class ApiState:
    """The parts of a running app; `request.app.state.api` is one."""

    settings: Settings
    workspace: Workspace
    feeds: Feeds
    clock: Clock
    keys: KeyRing
    answers: AnswerStore
    cursors: CursorSigner
    metrics: Metrics
    feed_lane: Lane
    write_lane: Lane
    logger: FilteringBoundLogger


def api_state(request: Request) -> ApiState:
    """Give the parts of the app that a request came to."""
    state: ApiState = request.app.state.api
    return state


async def write_headers(api: ApiState, seq: int, wait: str | None) -> Mapping[str, str]:
    """Say how far the log has come; and, where asked, whether feeds know of it yet."""
    if wait != "applied":
        return {"Headwater-Seq": str(seq)}
    known = await applied(api.feeds, seq)
    return {"Headwater-Seq": str(seq), "Headwater-Applied": str(known).lower()}


async def applied(feeds: Feeds, seq: int) -> bool:
    """Wait until feeds know of a place in the log; False at the time-out.

    It looks again and again instead of waiting in a thread: waiters cost nothing so.
    """
    end = monotonic() + APPLIED_SECONDS
    while not feeds.wait_applied(seq, 0.0):
        if monotonic() > end:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True

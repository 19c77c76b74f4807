"""The ranker as a BentoML service: the same class, its own cache, a binary route.

Started by `headwater serve --ranker bentoml`, which supervises it. It reads the home folder, tails
the event log, and scores requests of the feed service in `serving.ranker_wire` form. Adaptive
batching stays off: one request is a batch already.
"""

from pathlib import Path
from threading import Lock
from typing import Final

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from threadpoolctl import threadpool_limits

from contracts.errors import HeadwaterError, NotFound
from contracts.settings import load_settings
from features.caches import FeatureCache
from features.workspace import Workspace
from models.bundle import Bundle
from serving.follower import LogFollower
from serving.opening import champion_folder
from serving.ranker import CatchingUpRanker, Ranker
from serving.ranker_remote import BUNDLE_HEADER
from serving.ranker_wire import read_request, write_response


class RankerHost:
    """A ranker with a cache that follows the log of a home folder."""

    def __init__(self, workspace: Workspace, bundle: Bundle) -> None:
        self.bundle_id = bundle.bundle_id
        cache = FeatureCache.load(workspace)
        self._lock = Lock()
        self._follower = LogFollower(
            workspace.log, cache.applied_seq, lambda events: cache.apply(events, workspace)
        )
        self._ranker = CatchingUpRanker(Ranker(bundle.ranker, cache), cache, self._catch_up)

    def score(self, raw: bytes) -> bytes:
        """Score one request of the wire form."""
        with self._lock:
            return write_response(self._ranker.score_ids(read_request(raw)))

    def _catch_up(self, log_seq: int) -> None:
        if self._follower.applied_seq < log_seq:
            self._follower.catch_up()


async def _ready(request: Request) -> Response:
    return Response(_host(request).bundle_id)


async def _score(request: Request) -> Response:
    host = _host(request)
    if request.headers.get(BUNDLE_HEADER) != host.bundle_id:
        return Response("another bundle is loaded here", status_code=409)
    try:
        answer = host.score(await request.body())
    except HeadwaterError as error:
        return Response(error.detail, status_code=error.status)
    return Response(answer, media_type="application/octet-stream")


def _host(request: Request) -> RankerHost:
    host: RankerHost = request.app.state.host
    return host


def open_host(home: Path) -> RankerHost:
    """Open a home folder for reading, with its published bundle."""
    threadpool_limits(1)
    folder = champion_folder(home)
    if folder is None:
        raise NotFound("no bundle is published", hint="run `headwater train` first")
    return RankerHost(Workspace.open(home, read_only=True), Bundle.load(folder))


routes: Final = Starlette(
    routes=[Route("/ready", _ready), Route("/score", _score, methods=["POST"])]
)


@bentoml.service(workers=1, traffic={"timeout": 5}, logging={"access": {"enabled": False}})
@bentoml.asgi_app(routes, path="/rank")
class RankerService:
    """What `bentoml serve serving.ranker_service:RankerService` runs."""

    def __init__(self) -> None:
        routes.state.host = open_host(load_settings().home)

"""The ranker as a BentoML service: the same class, its own cache, a binary route.

Started by `headwater serve --ranker bentoml`, which supervises it. It reads the home folder, tails
the event log, and scores requests of the feed service in `serving.rankers.wire` form. Adaptive
batching stays off: one request is a batch already.
"""

from typing import Final

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.errors import HeadwaterError
from contracts.settings import load_settings
from serving.rankers.host import RankerHost, open_host
from serving.rankers.remote import BUNDLE_HEADER


async def _ready(request: Request) -> Response:
    _host(request)
    return Response("ready")


async def _score(request: Request) -> Response:
    bundle_id = request.headers.get(BUNDLE_HEADER, "")
    try:
        answer = _host(request).score(bundle_id, await request.body())
    except HeadwaterError as error:
        return Response(error.detail, status_code=error.status)
    return Response(answer, media_type="application/octet-stream")


def _host(request: Request) -> RankerHost:
    host: RankerHost = request.app.state.host
    return host


routes: Final = Starlette(
    routes=[Route("/ready", _ready), Route("/score", _score, methods=["POST"])]
)


@bentoml.service(workers=1, traffic={"timeout": 5}, logging={"access": {"enabled": False}})
@bentoml.asgi_app(routes, path="/rank")
class RankerService:
    """What `bentoml serve serving.rankers.service:RankerService` runs."""

    def __init__(self) -> None:
        routes.state.host = open_host(load_settings().home)

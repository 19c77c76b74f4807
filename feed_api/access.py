"""Who may do what: the one list of scopes, and the route class that holds every request to it."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import orjson
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from contracts.errors import Forbidden, PipelineError
from feed_api.idempotency import REPLAYED, RequestName
from feed_api.keys import Caller, Scope
from feed_api.problems import UnsupportedMediaType
from feed_api.state import api_state, write_headers

REQUIRED_SCOPE: Final[Mapping[str, Scope]] = {
    "read_feed": Scope.FEED_READ,
    "explain_post": Scope.EXPLAIN_READ,
    "preview_control": Scope.EXPLAIN_READ,
    "rank_posts": Scope.RANK,
    "read_funnel": Scope.ADMIN,
    "post_events": Scope.EVENTS_WRITE,
    "put_post": Scope.POSTS_WRITE,
    "delete_post": Scope.POSTS_WRITE,
    "put_person": Scope.PEOPLE_WRITE,
    "delete_person": Scope.PEOPLE_WRITE,
    "put_follow": Scope.GRAPH_WRITE,
    "delete_follow": Scope.GRAPH_WRITE,
    "put_block": Scope.GRAPH_WRITE,
    "delete_block": Scope.GRAPH_WRITE,
}
"""Operation id -> the scope that its caller needs. A route that is not here can not be built."""


class PlatformRoute(APIRoute):
    """A route for API keys: checks key and scope before anything of the body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler; PipelineError where its operation has no scope."""
        operation = self.operation_id or ""
        if operation not in REQUIRED_SCOPE:
            msg = f"{self.path} has no scope"
            raise PipelineError(msg, hint="add its operation id to REQUIRED_SCOPE")
        scope = REQUIRED_SCOPE[operation]
        takes_body = self.body_field is not None
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            caller = await authorise(request, scope)
            if takes_body:
                _check_media_type(request)
            key = request.headers.get("idempotency-key")
            if key is None or request.method != "POST":
                return await inner(request)
            name = RequestName(caller.key_id, operation, key)
            body, api = await request.body(), api_state(request)
            response = await api.answers.answer_once(name, body, lambda: inner(request))
            if REPLAYED in response.headers and (seq := orjson.loads(response.body).get("seq")):
                wait = request.query_params.get("wait")
                response.headers.update(await write_headers(api, seq, wait))
            return response

        return handle


async def authorise(request: Request, scope: Scope) -> Caller:
    """Let a request in or raise Unauthorized or Forbidden; who asks is kept for log and handler."""
    caller = await api_state(request).keys.check(request.headers.get("authorization"))
    request.state.caller = caller
    if not caller.may(scope):
        raise Forbidden(f"this needs a key with the scope {scope.value}")
    return caller


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("send the body with `Content-Type: application/json`")

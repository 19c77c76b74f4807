"""A small client of the platform API, as somebody else's back end would write it."""

from collections.abc import Sequence
from typing import Any

import httpx

from contracts.errors import Unavailable


class PlatformClient(httpx.Client):
    """Speaks to `/v1/platform` with an API key."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        super().__init__(base_url=url, headers=headers, timeout=10.0)

    def feed(self, viewer: str, limit: int = 20, cursor: str | None = None) -> dict[str, Any]:
        """Read a new feed, or the page behind a cursor."""
        query: dict[str, str | int] = {"viewer": viewer, "limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        return self._checked(self.get("/v1/platform/feed", params=query))

    def act(self, viewer: str, kind: str, posts: Sequence[str]) -> dict[str, Any]:
        """Post one event a post, and wait until feeds know of them."""
        events = [{"viewer": viewer, "type": kind, "post": post} for post in posts]
        answer = self.post(
            "/v1/platform/events", params={"wait": "applied"}, json={"events": events}
        )
        return self._checked(answer)

    def why(self, feed_id: str, post: str) -> dict[str, Any]:
        """Ask why a post stands where it stands."""
        return self._checked(self.get(f"/v1/platform/feed/{feed_id}/why/{post}"))

    def ready(self) -> bool:
        """Tell whether a server can serve, and is the one that knows this key."""
        try:
            if self.get("/readyz").status_code != httpx.codes.OK:
                return False
            return self.get("/v1/platform/funnel").status_code != httpx.codes.UNAUTHORIZED
        except httpx.TransportError:
            return False

    def _checked(self, response: httpx.Response) -> dict[str, Any]:
        if response.is_error:
            msg = f"{response.request.method} {response.url.path}: {response.status_code}"
            raise Unavailable(f"{msg} {response.text[:300]}")
        body: dict[str, Any] = response.json()
        return body

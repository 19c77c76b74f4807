"""The ranker in another process: one binary request a feed over a kept-alive connection."""

from typing import Final

import httpx
import numpy as np
from numpy.typing import NDArray

from serving.rankers.base import RankerTimeout, RankerUnreachable, RankRequest, RankResponse
from serving.rankers.wire import read_response, write_request

_TYPE: Final = "application/octet-stream"
BUNDLE_HEADER: Final = "x-headwater-bundle"


class RemoteRanker:
    """Asks a ranker service; a broken connection is tried once more, a slow answer is not."""

    def __init__(self, url: str, timeout_seconds: float, bundle_id: str) -> None:
        self._client = httpx.Client(
            base_url=url,
            timeout=timeout_seconds,
            headers={"content-type": _TYPE, BUNDLE_HEADER: bundle_id},
            trust_env=False,
        )

    def score(self, request: RankRequest, slots: NDArray[np.int64]) -> RankResponse:
        """Score by post id; RankerTimeout or RankerUnreachable where there is no answer."""
        del slots  # rows of the caller's table mean nothing to the other process
        body = write_request(request)
        try:
            answer = self._post(body)
        except httpx.TimeoutException as error:
            raise RankerTimeout(str(error)) from error
        except httpx.TransportError as error:
            raise RankerUnreachable(str(error)) from error
        if answer.status_code != httpx.codes.OK:
            raise RankerUnreachable(f"the ranker answered {answer.status_code}")
        return read_response(answer.content, len(request.post_ids))

    def healthy(self) -> bool:
        """Say whether the service is ready."""
        try:
            return self._client.get("/rank/ready").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._client.close()

    def _post(self, body: bytes) -> httpx.Response:
        try:
            return self._client.post("/rank/score", content=body)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return self._client.post("/rank/score", content=body)

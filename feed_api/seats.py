"""Which worker a request belongs to: one writes, each owns some viewers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

import orjson

from contracts.ids import hash63

WRITER: Final = 0
"""The worker that writes."""
DRAIN_SECONDS: Final = 5
"""How long a worker that ends waits for the requests at hand."""
RANK_PATH: Final = "/v1/platform/rank"
_FEED_PATH: Final = "/v1/platform/feed"
_FUNNEL_PATH: Final = "/v1/platform/funnel"
_PREVIEW_PATH: Final = re.compile(r"/v1/platform/people/([^/]+)/controls/preview")
_WHY_PATH: Final = re.compile(r"/v1/platform/feed/[^/]+/why/[^/]+")


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker's place among all workers of a home folder."""

    index: int
    count: int
    folder: Path
    """Where the private sockets lie."""

    @property
    def others(self) -> tuple[int, ...]:
        """All workers but this one."""
        return tuple(k for k in range(self.count) if k != self.index)

    def socket_path(self, worker: int) -> Path:
        """Name a worker's private socket."""
        return self.folder / f"worker-{worker}.sock"

    def owner(self, viewer: str) -> int:
        """Give the worker that answers a viewer, named by external id."""
        return hash63("worker", viewer.encode(errors="replace")) % self.count

    def owner_of_read(self, path: str, query: bytes) -> int:
        """Give the worker that a GET belongs to: this one where any will do."""
        if path == _FEED_PATH:
            return self._owner_or_here(_last(query, "viewer"))
        if path == _FUNNEL_PATH:  # its sums are of one worker: always the same one
            return WRITER
        if (preview := _PREVIEW_PATH.fullmatch(path)) is not None:
            return self.owner(preview[1])
        return self.index

    def owner_of_rank(self, body: bytes) -> int:
        """Give the worker that ranks a caller's candidates: what a viewer was served counts."""
        try:
            wanted = orjson.loads(body)
        except orjson.JSONDecodeError:
            return self.index
        viewer = wanted.get("viewer") if isinstance(wanted, dict) else None
        return self._owner_or_here(viewer if isinstance(viewer, str) else None)

    def _owner_or_here(self, viewer: str | None) -> int:
        return self.index if viewer is None else self.owner(viewer)


asks_why: Final[Callable[[str], object]] = _WHY_PATH.fullmatch
"""Tells whether a path asks why: the record may still wait in the worker that served the feed."""


def _last(query: bytes, name: str) -> str | None:
    """Read a parameter as the app does: the last one counts."""
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get(name)

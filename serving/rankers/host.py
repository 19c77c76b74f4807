"""What the ranker service holds: one cache that follows the log, and the bundles' rankers.

A request names its bundle, which is loaded when it is first named: bundles change without a
restart.
"""

from pathlib import Path
from threading import Lock
from typing import Final

from threadpoolctl import threadpool_limits

from contracts.errors import NotFound
from features.caches import FeatureCache
from features.workspace import Workspace
from models.ranker import EnsembleRanker
from serving.bundles import champion_folder
from serving.follower import LogFollower
from serving.rankers.base import Ranker
from serving.rankers.wire import read_request, write_response

MOST_LOADED: Final = 4
"""Champion, canary, challenger in the shadow, and what was champion before."""


class RankerHost:
    """Rankers of a home folder's bundles, over one cache that follows its log."""

    def __init__(self, workspace: Workspace, bundle_id: str) -> None:
        self._bundles = workspace.home / "bundles"
        self._cache = cache = FeatureCache.load(workspace)
        self._lock = Lock()
        self._follower = LogFollower(
            workspace.log, cache.applied_seq, lambda events: cache.apply(events, workspace)
        )
        self._rankers: dict[str, Ranker] = {}
        self._ranker(bundle_id)

    def score(self, bundle_id: str, raw: bytes) -> bytes:
        """Score one request of the wire form, by post id; NotFound where there is no such bundle.

        The log is followed to the place that the request names first.
        """
        with self._lock:
            ranker, request = self._ranker(bundle_id), read_request(raw)
            if self._follower.applied_seq < request.log_seq:
                self._follower.catch_up()
            slots = self._cache.posts.slots_of(request.post_ids)
            return write_response(ranker.score(request, slots))

    def _ranker(self, bundle_id: str) -> Ranker:
        if bundle_id not in self._rankers:
            folder = self._bundles / bundle_id / "ranker"
            if not bundle_id.isalnum() or not folder.is_dir():
                raise NotFound(f"there is no bundle {bundle_id!r}")
            if len(self._rankers) == MOST_LOADED:
                del self._rankers[next(iter(self._rankers))]
            self._rankers[bundle_id] = Ranker(EnsembleRanker.load(folder), self._cache)
        return self._rankers[bundle_id]


def open_host(home: Path) -> RankerHost:
    """Open a home folder for reading, with its published bundle."""
    threadpool_limits(1)
    folder = champion_folder(home)
    if folder is None:
        raise NotFound("no bundle is published", hint="run `headwater train` first")
    return RankerHost(Workspace.open(home, read_only=True), folder.name)

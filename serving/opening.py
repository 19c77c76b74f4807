"""Opens a home folder as a feed service: the one place that puts the parts together."""

import gc
from ctypes import CDLL

import pyarrow as pa
from threadpoolctl import threadpool_limits

from contracts.policy import Policy
from contracts.settings import Settings
from features.caches import FeatureCache
from features.workspace import Workspace
from models.bundle import Bundle
from serving.bundles import champion_folder
from serving.lineup import RankingBuilder
from serving.policies import PolicyShelf
from serving.records.writer import RecordStore
from serving.service import FeedService, Parts
from serving.snapshots import ServedLog
from serving.stages.filters import AccessRule, EveryoneMaySee


def open_service(
    workspace: Workspace,
    settings: Settings,
    *,
    policy: Policy | None = None,
    access: AccessRule | None = None,
    start: bool = True,
) -> FeedService:
    """Load the published bundle and the caches of a home folder, and start following its log.

    Without a bundle the service serves what is popular, and says so.
    """
    threadpool_limits(1)  # one request is small: more BLAS threads only wait for one another
    folder = champion_folder(workspace.home)
    bundle = Bundle.load(folder) if folder else None
    cache = FeatureCache.load(workspace)
    builder = RankingBuilder(cache, settings, access or EveryoneMaySee(), ServedLog(), policy)
    champion = builder.build(bundle)
    runtime = champion.runtime
    runtime.add_posts(workspace.catalog.posts_by_id(runtime.unknown_posts()))
    records_folder = workspace.home / "records"
    parts = Parts(
        workspace=workspace,
        builder=builder,
        champion=champion,
        records=RecordStore(records_folder),
        policies=PolicyShelf(records_folder / "policies", champion.policy),
    )
    _give_back_memory()
    service = FeedService(parts, settings)
    if start:
        service.start()
    return service


def _give_back_memory() -> None:
    """Return what loading needed for a moment: half of the resident memory at 100,000 posts."""
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not look at it again
    pa.default_memory_pool().release_unused()
    trim = getattr(CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc alone has it
        trim(0)

"""Opens a home folder as a feed service: the one place that puts the parts together."""

import gc
from ctypes import CDLL
from pathlib import Path

import pyarrow as pa
from threadpoolctl import threadpool_limits

from contracts.errors import NotFound
from contracts.policy import Policy, popular
from contracts.settings import Settings
from features.caches import FeatureCache
from features.workspace import Workspace
from models.bundle import Bundle
from serving.filters import AccessRule, EveryoneMaySee
from serving.policies import PolicyShelf
from serving.ranker import NoRanker, Ranker, RankerClient
from serving.ranker_remote import RemoteRanker
from serving.records import RecordStore
from serving.runtime import Runtime
from serving.service import FeedService, Parts

CHAMPION_FILE = "CHAMPION"


def champion_folder(home: Path) -> Path | None:
    """Find the folder of the published bundle; None where nothing is published."""
    pointer = home / "bundles" / CHAMPION_FILE
    if not pointer.exists():
        return None
    folder = home / "bundles" / pointer.read_text(encoding="utf-8").strip()
    if not folder.is_dir():
        msg = f"{pointer} names the bundle {folder.name}, which is not there"
        raise NotFound(msg, hint="publish another with `headwater publish`")
    return folder


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
    runtime = Runtime(bundle, cache)
    runtime.add_posts(workspace.catalog.posts_by_id(runtime.unknown_posts()))
    if policy is None:
        policy = bundle.policy if bundle else popular()
    records_folder = workspace.home / "records"
    parts = Parts(
        workspace=workspace,
        runtime=runtime,
        ranker=_ranker(bundle, cache, settings),
        records=RecordStore(records_folder),
        policies=PolicyShelf(records_folder / "policies", policy),
        access=access or EveryoneMaySee(),
        writes_log=workspace.writable,
    )
    _give_back_memory()
    service = FeedService(parts, settings)
    if start:
        service.start()
    return service


def _ranker(bundle: Bundle | None, cache: FeatureCache, settings: Settings) -> RankerClient:
    if bundle is None:
        return NoRanker()
    if settings.ranker == "bentoml":
        timeout = settings.ranker_timeout_ms / 1000.0
        return RemoteRanker(settings.ranker_url, timeout, bundle.bundle_id)
    return Ranker(bundle.ranker, cache)


def _give_back_memory() -> None:
    """Return what loading needed for a moment: half of the resident memory at 100,000 posts."""
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not look at it again
    pa.default_memory_pool().release_unused()
    trim = getattr(CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc alone has it
        trim(0)

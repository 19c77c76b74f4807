"""What a process of `headwater serve` runs: everything, or one worker's part of it."""

import sys
from collections.abc import Sequence
from contextlib import closing
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from contracts.errors import HeadwaterError
from contracts.policy import Policy
from contracts.settings import Settings
from features.workspace import Workspace
from feed_api.app import create_app
from feed_api.database import home_url, open_database
from feed_api.logs import configure_logs, json_logger
from feed_api.seats import WRITER
from feed_api.server import run_server
from feed_api.supervisor import Post
from feed_api.workers import serve_worker
from serving.opening import open_service
from serving.records.archive import RecordArchive


def serve_alone(settings: Settings, policy: Policy | None) -> None:
    """Serve in this process until SIGTERM or SIGINT."""
    _without_pandas()
    with (
        Workspace.open(settings.home) as workspace,
        closing(open_service(workspace, settings, policy=policy)) as feeds,
    ):
        run_server(create_app(settings, workspace, feeds), settings.host, settings.port)


def serve_among(settings: Settings, policy: Policy | None, post: Post) -> None:
    """Be one worker of several: the first one writes, the others read and follow the log."""
    _without_pandas()
    configure_logs(settings.log_level)
    logger = json_logger(settings.log_level).bind(worker=post.seat.index)
    writes = post.seat.index == WRITER
    try:
        if not writes:
            post.prepared.wait()
        with Workspace.open(settings.home, read_only=not writes) as workspace:
            if writes:
                _make_stores(settings)
                post.prepared.set()
            with closing(open_service(workspace, settings, policy=policy)) as feeds:
                serve_worker(create_app(settings, workspace, feeds, logger=logger), post)
    except HeadwaterError as error:
        logger.error("worker_failed", cause=str(error))
        sys.exit(1)


def _make_stores(settings: Settings) -> None:
    """Make the other databases where they are absent, before several processes do at once."""
    open_database(home_url(settings.home)).dispose()
    RecordArchive(settings.home / "records").close()


def _without_pandas() -> None:
    """Let no import find pandas: pyarrow tries it by itself, which costs a server 40 MB."""
    sys.meta_path.insert(0, _Absent())


class _Absent(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("a server does without pandas", name=fullname)
        return None

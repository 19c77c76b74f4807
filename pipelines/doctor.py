"""Measures what the doctor judges: a running server over HTTP, a home folder on this machine."""

import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
import pyarrow as pa
import redis

from contracts.clock import DAY_US, HOUR_US, SECOND_US, Clock
from contracts.errors import HeadwaterError, NotFound
from contracts.funnel import FunnelReport
from contracts.record import RECORD_SCHEMA
from contracts.settings import Settings
from features.checkpoint import checkpoint_seq
from features.segments import integers_of
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.ranker_process import ranker_ready
from serving.bundles import champion_folder
from serving.records.archive import RecordArchive
from serving.records.codec import from_row
from serving.records.counts import lost_so_far
from serving.watching.doctor import Observed
from serving.watching.feed_sums import RECORD_COLUMNS, WINDOW, FeedFacts, FeedSums

SETTLE_SECONDS: Final = 1.5
"""A record is on disk within a second: one that is still missing after this is lost."""
_TIMEOUT_SECONDS: Final = 10.0
_REACH_SECONDS: Final = 2.0
_UNREADABLE: Final = (HeadwaterError, OSError, sqlite3.Error, pa.ArrowException)
"""What reading a damaged home may raise."""


class Looked(NamedTuple):
    """What a service says of itself at one moment."""

    health: Mapping[str, Any]
    funnel: FunnelReport


def of_service(before: Looked, after: Looked) -> Observed:
    """Read what a service said twice, `SETTLE_SECONDS` apart, so that records could settle."""
    health, funnel = after
    due = before.funnel.since_start.feeds
    lost = int(health["records_lost"]) - int(before.health["records_lost"])
    missing = max(0, due - int(health["records_written"]), lost)
    refused = health["bundles"]["refused"]
    ahead = funnel.ahead_seconds
    return Observed(
        server_problem="",
        published=health["bundle_id"] is not None,
        bundle_problem="; ".join(f"{name}: {why}" for name, why in refused.items()),
        ranker_healthy=bool(health["ranker_healthy"]),
        lag_events=int(health["log_seq"]) - int(health["applied_seq"]),
        ahead_hours=None if ahead is None else ahead / 3600,
        records_due=due,
        records_missing=min(missing, due),
        open_breakers=tuple(health["open_breakers"]),
        funnel=funnel,
    )


def observe_server(url: str, key: str) -> Observed:
    """Ask a server how it is; what stands in the way is an observation too."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS) as client:
            before = _look(client)
            sleep(SETTLE_SECONDS)
            return of_service(before, _look(client))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        # The last two: who answers is no server of ours, or the key is no key.
        return Observed(server_problem=f"{url}: {error or type(error).__name__}")


def observe_home(home: Path, settings: Settings) -> Observed:
    """Look at a home folder without changing anything in it."""
    seen = Observed(
        home_problem=_home_problem(home),
        online_store_problem=_online_store_problem(settings),
        ranker_healthy=ranker_ready(settings.ranker_url, _REACH_SECONDS)
        if settings.ranker == "bentoml"
        else None,  # it runs in the server's own process
    )
    if not home.is_dir():
        return seen
    usage = shutil.disk_usage(home)
    seen = replace(seen, disk_used=1.0 - usage.free / usage.total)
    seen = _with_bundle(seen, home)
    try:
        seen = _with_records(seen, home / "records")
        with Workspace.open(home, read_only=True) as workspace:
            clock = Clock(settings.clock_offset_seconds * SECOND_US)
            return _with_log(seen, workspace, clock.now_us())
    except _UNREADABLE as error:
        return replace(seen, home_problem=seen.home_problem or str(error))


def _look(client: httpx.Client) -> Looked:
    funnel = client.get("/v1/platform/funnel").raise_for_status()
    health = client.get("/readyz").json()["feeds"]
    return Looked(health, FunnelReport.model_validate_json(funnel.content))


def _home_problem(home: Path) -> str:
    if not home.is_dir():
        return f"there is no folder {home}"
    return "" if os.access(home, os.W_OK) else f"{home} cannot be written to"


def _online_store_problem(settings: Settings) -> str | None:
    if settings.online_store_url is None:
        return None
    try:
        with redis.Redis.from_url(
            settings.online_store_url, socket_connect_timeout=_REACH_SECONDS,
            socket_timeout=_REACH_SECONDS,
        ) as store:  # fmt: skip
            store.ping()
    except (redis.RedisError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _with_bundle(seen: Observed, home: Path) -> Observed:
    try:
        folder = champion_folder(home)
        if folder is None:
            return replace(seen, published=False)
        Bundle.load(folder)
    except (HeadwaterError, OSError) as error:
        return replace(seen, published=True, bundle_problem=str(error))
    return replace(seen, published=True, bundle_problem="")


def _with_log(seen: Observed, workspace: Workspace, now_us: int) -> Observed:
    """Compare log, bundle and checkpoint; only events later than the bundle's are read."""
    last_seq, learned_us = workspace.log.last_seq, _learned_us(workspace.home)
    later = workspace.log.scan(start_us=learned_us, columns=("event_time",))
    newest = int(integers_of(later, "event_time")[-1]) if later.num_rows else learned_us
    return replace(
        seen,
        log_events=last_seq,
        unfolded_events=last_seq - _checkpoint_seq(workspace.home),
        ahead_hours=None if newest is None else (newest - now_us) / HOUR_US,
        bundle_age_days=(newest - learned_us) / DAY_US if learned_us and newest else None,
    )


def _learned_us(home: Path) -> int | None:
    """Give the time of the newest action that the published bundle knows."""
    try:
        folder = champion_folder(home)
        text = (folder / "manifest.json").read_text(encoding="utf-8") if folder else "{}"
        return int(json.loads(text)["data"]["last_us"])
    except (NotFound, OSError, ValueError, LookupError):  # the check of the bundle says what it is
        return None


def _checkpoint_seq(home: Path) -> int:
    try:
        return checkpoint_seq(home)
    except (OSError, ValueError, LookupError):
        return 0


def _with_records(seen: Observed, folder: Path) -> Observed:
    """Rebuild the funnel from the newest decision records."""
    try:
        archive = RecordArchive(folder, read_only=True)
    except NotFound:
        return seen
    sums = FeedSums()
    schema = pa.schema([RECORD_SCHEMA.field(name) for name in RECORD_COLUMNS])
    names = ", ".join(f'"{name}"' for name in schema.names)
    newest = f"SELECT {names} FROM decisions ORDER BY now DESC LIMIT ?"  # noqa: S608 - our schema
    for row in archive.ask(newest, (WINDOW,)):
        sums.add(FeedFacts.of_record(from_row(row, schema)))
    written = len(np.unique(archive.ids()))
    lost = lost_so_far(archive.database)
    archive.close()
    return replace(seen, funnel=sums.report(), records_due=written + lost, records_missing=lost)

"""The demo: from nothing, or from a folder of files, to a served feed; one function a stage."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from time import perf_counter
from typing import Any, Final

import numpy as np

from contracts.clock import DAY_US, SECOND_US, Clock, now_us
from contracts.errors import Conflict
from features.segments import times_of
from features.workspace import Workspace
from feed_api import keys
from feed_api.database import home_url, open_database
from pipelines.console import Reporter
from pipelines.feeds import answer_rows, print_feed
from pipelines.ingest import ingest, open_dataset
from pipelines.platform_client import PlatformClient
from pipelines.server_process import RunningServer, free_port, serving
from pipelines.worked_example import print_example, three_likes, typical_viewers
from simulator.world import World

MARKER: Final = "DEMO"
_SHOWN_FEEDS: Final = 2
_SHOWN_POSTS: Final = 8
_ARCHIVED_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What the demo is to do."""

    home: Path
    data: Path | None
    once: bool
    people: int
    posts: int
    port: int
    seed: int = 1


def clear_home(home: Path) -> None:
    """Begin anew: remove what an earlier demo left; Conflict where the folder is not a demo's."""
    if home.exists() and any(home.iterdir()):
        if not (home / MARKER).exists():
            msg = f"{home} holds data that no demo made"
            raise Conflict(msg, hint="name another folder with --home")
        rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).write_text("Made by `headwater demo`, which empties this folder.\n")

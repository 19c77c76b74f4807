"""The demo: from nothing, or from a folder of files, to a served feed; one function a stage."""

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Final

from contracts.errors import Conflict

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

"""Make a bundle the champion, or the one before it again: the same move in two directions.

`bundles/CHAMPION` names the champion, so that serving needs no MLflow; `bundles/HISTORY` lists
former champions, newest last. Bundles are kept as long as records that name them.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from contracts.degrade import DegradeLevel
from contracts.errors import BundleMismatch, Conflict, NotFound
from contracts.ids import FeedId, Namespace, UserId, hash63
from contracts.query import FeedQuery
from contracts.settings import load_settings
from features.workspace import Workspace
from models.bundle import Bundle
from serving.opening import CHAMPION_FILE, open_service

HISTORY_FILE: Final = "HISTORY"
GOLDEN_REQUESTS: Final = 5


@dataclass(frozen=True, slots=True)
class Published:
    """What was published, and what was champion before."""

    bundle_id: str
    before: str | None
    golden: int
    """Requests that were answered in full with the new champion."""


def champion_id(home: Path) -> str | None:
    """Read which bundle is champion; None where nothing is published."""
    pointer = home / "bundles" / CHAMPION_FILE
    return pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None


def publish_bundle(home: Path, bundle_id: str) -> Published:
    """Load a bundle as serving would, replay golden requests on it, and make it champion.

    BundleMismatch where it does not load or does not answer; the champion stays as it was then.
    """
    Bundle.load(home / "bundles" / bundle_id)
    before = champion_id(home)
    if before == bundle_id:
        msg = f"bundle {bundle_id} is the champion already"
        raise Conflict(msg, hint="train another, or name one of bundles/")
    _point(home, bundle_id)
    try:
        golden = replay_golden(home)
    except BundleMismatch:
        _restore(home, before)
        raise
    if before is not None:
        _write(home, HISTORY_FILE, "\n".join([*_history(home), before]) + "\n")
    return Published(bundle_id, before, golden)


def roll_back(home: Path) -> Published:
    """Make the champion before this one the champion again; NotFound where there was none."""
    history, now = _history(home), champion_id(home)
    if not history:
        msg = "no bundle was champion before this one"
        raise NotFound(msg, hint="publish another with `headwater publish`")
    Bundle.load(home / "bundles" / history[-1])
    _point(home, history[-1])
    _write(home, HISTORY_FILE, "".join(f"{name}\n" for name in history[:-1]))
    return Published(history[-1], now, replay_golden(home))


def replay_golden(home: Path) -> int:
    """Ask feeds of a few people, as serving would: how many; BundleMismatch where one degrades."""
    with Workspace.open(home, read_only=True) as workspace:
        people, _ = workspace.ids.all(Namespace.PERSON)
        last = workspace.log.scan(columns=["event_time"], types=None)["event_time"]
        now_us = int(last[-1].cast("int64").as_py()) + 1 if len(last) else 0
        service = open_service(workspace, load_settings(), start=False)
        try:
            asked = people[:: max(1, len(people) // GOLDEN_REQUESTS)][:GOLDEN_REQUESTS]
            for person in np.asarray(asked).tolist():
                query = FeedQuery(FeedId(hash63("golden", person)), UserId(int(person)), now_us, 10)
                page = service.open(query)
                if page.level is not DegradeLevel.FULL or not page.items:
                    why = ", ".join(page.degrade_reasons) or "no posts"
                    msg = f"a golden request degraded to {page.level}: {why}"
                    raise BundleMismatch(msg, hint="the champion stays; see the reasons above")
        finally:
            service.close()
    return len(asked)


def _history(home: Path) -> list[str]:
    path = home / "bundles" / HISTORY_FILE
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def _point(home: Path, bundle_id: str) -> None:
    _write(home, CHAMPION_FILE, bundle_id + "\n")


def _restore(home: Path, before: str | None) -> None:
    if before is None:
        (home / "bundles" / CHAMPION_FILE).unlink()
    else:
        _point(home, before)


def _write(home: Path, name: str, text: str) -> None:
    """Replace a small file whole, so that a reader never sees half of it."""
    path = home / "bundles" / name
    staging = path.with_suffix(".new")
    with staging.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    staging.replace(path)

"""What serves: make a bundle champion, canary or shadow, and the same moves backwards.

The pointers lie in `bundles/`, so that serving needs no MLflow: `CHAMPION`, `CANARY` and `SHADOW`
(`serving.bundles` follows them), and `HISTORY`, the former champions, newest last. A pointer moves
after the bundle has answered the golden requests, never before. Bundles are kept as long as
records that name them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.errors import Conflict, NotFound
from features.storage import write_durably
from models.bundle import Bundle, read_manifest
from pipelines.certify import require_certificate
from pipelines.golden import Golden, replay_golden
from serving.bundles import CANARY_FILE, CHAMPION_FILE, SHADOW_FILE, Pointers, Share, champion_id

__all__ = [
    "Published", "champion_id", "publish_bundle", "roll_back", "start_canary", "start_shadow",
    "stop_shadow",
]  # fmt: skip

HISTORY_FILE: Final = "HISTORY"


@dataclass(frozen=True, slots=True)
class Published:
    """What serves now, and what did before."""

    champion: str | None
    before: str | None
    """The champion before this move."""
    golden: Golden
    canary: Share | None = None
    shadow: Share | None = None
    dropped: str | None = None
    """The canary that was dropped."""

    @property
    def bundle_id(self) -> str:
        """Name the bundle that moved."""
        trial = self.canary or self.shadow
        return trial.bundle_id if trial else self.champion or ""


def publish_bundle(home: Path, bundle_id: str) -> Published:
    """Load a bundle as serving would, ask it the golden requests, and make it champion.

    BundleMismatch where it does not load or does not answer; the champion stays as it was then.
    A canary or shadow of this bundle ends with it.
    """
    now = Pointers.read(home)
    before = now.champion
    golden = _admit(home, bundle_id)
    if before is not None:
        _write(home, HISTORY_FILE, "\n".join([*_history(home), before]) + "\n")
    _write(home, CHAMPION_FILE, bundle_id + "\n")
    for file, share in ((CANARY_FILE, now.canary), (SHADOW_FILE, now.shadow)):
        if share is not None and share.bundle_id == bundle_id:
            (home / "bundles" / file).unlink()
    return Published(bundle_id, before, golden)


def start_canary(home: Path, bundle_id: str, share: float) -> Published:
    """Serve a share of the viewers with a bundle that would pass as champion."""
    golden, canary = _admit(home, bundle_id), Share(bundle_id, share)
    _write(home, CANARY_FILE, canary.line)
    now = champion_id(home)
    return Published(now, now, golden, canary=canary)


def start_shadow(home: Path, bundle_id: str, share: float) -> Published:
    """Have a share of the requests ranked again by a bundle; nobody is served with it."""
    golden, shadow = _admit(home, bundle_id), Share(bundle_id, share)
    _write(home, SHADOW_FILE, shadow.line)
    now = champion_id(home)
    return Published(now, now, golden, shadow=shadow)


def stop_shadow(home: Path) -> str:
    """End the shadow; NotFound where none runs."""
    shadow = Pointers.read(home).shadow
    if shadow is None:
        raise NotFound("no shadow runs", hint="start one with `headwater publish --shadow 1%`")
    (home / "bundles" / SHADOW_FILE).unlink()
    return shadow.bundle_id


def roll_back(home: Path) -> Published:
    """Drop the canary; where none runs, make the champion before this one the champion again.

    It has to load, and has served before: no golden requests, so that nothing holds a way back up.
    NotFound where there is no way back.
    """
    now, canary = champion_id(home), Pointers.read(home).canary
    if canary is not None:
        (home / "bundles" / CANARY_FILE).unlink()
        return Published(now, now, Golden(0, None), dropped=canary.bundle_id)
    history = _history(home)
    if not history:
        msg = "no canary runs, and no bundle was champion before this one"
        raise NotFound(msg, hint="publish another with `headwater publish`")
    Bundle.load(home / "bundles" / history[-1])
    _write(home, CHAMPION_FILE, history[-1] + "\n")
    _write(home, HISTORY_FILE, "".join(f"{name}\n" for name in history[:-1]))
    return Published(history[-1], now, Golden(0, None))


def _admit(home: Path, bundle_id: str) -> Golden:
    """Let a bundle in that loads and answers, its features certified; Conflict otherwise."""
    before = champion_id(home)
    if before == bundle_id:
        msg = f"bundle {bundle_id} is the champion already"
        raise Conflict(msg, hint="train another, or name one of bundles/")
    require_certificate(home, read_manifest(home / "bundles" / bundle_id).data.up_to_seq)
    return replay_golden(home, bundle_id, before)


def _history(home: Path) -> list[str]:
    path = home / "bundles" / HISTORY_FILE
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def _write(home: Path, name: str, text: str) -> None:
    """Replace a small file whole, so that a reader never sees half of it."""
    write_durably(home / "bundles" / name, text.encode())

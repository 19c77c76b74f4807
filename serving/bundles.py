"""Changes the bundles that serve, while they serve.

`bundles/CHAMPION`, `CANARY` and `SHADOW` say what serves; `headwater publish` and `rollback` write
them. Every serving process looks at them once a second. It loads what is named anew beside what
runs, encodes the posts that came since, asks it a few feeds, and changes over under the lock. What
cannot be loaded stays out, is logged, stands in the health, and is tried again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from sqlite3 import OperationalError
from threading import Event, Lock, Thread
from time import monotonic, perf_counter, sleep
from typing import Any, Final, NamedTuple, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from contracts.clock import SECOND_US, Clock
from contracts.degrade import DegradeLevel
from contracts.errors import BundleMismatch, HeadwaterError, InvalidInput, NotFound
from contracts.ids import FeedId, UserId, hash63
from contracts.query import FeedQuery
from features.workspace import Workspace
from models.bundle import Bundle
from serving.lineup import Lineup, Ranking, RankingBuilder, Trial
from serving.pipeline import StageFailed
from serving.runtime import Runtime

CHAMPION_FILE: Final = "CHAMPION"
CANARY_FILE: Final = "CANARY"
SHADOW_FILE: Final = "SHADOW"
POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 30.0
_CHUNK: Final = 128
"""Posts that are encoded between two looks at the log."""
_REST_SECONDS: Final = 0.002
_WARM_FEEDS: Final = 5
_WARM_TRIES: Final = 20
_WARM_PAUSE_SECONDS: Final = 0.1

_REFUSALS: Final = (HeadwaterError, StageFailed, OSError, ValueError, LookupError, RuntimeError)
"""What loading or trying a bundle may raise."""

_log = structlog.get_logger(__name__)


class Share(NamedTuple):
    """A bundle, and the share of viewers or requests that it gets; one line of a pointer file."""

    bundle_id: str
    share: float

    @property
    def line(self) -> str:
        """Write the pointer's line."""
        return f"{self.bundle_id} {self.share}\n"

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a pointer; None where there is none, InvalidInput where it is not one."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        bundle_id, _, share = text.strip().partition(" ")
        try:
            found = cls(bundle_id, float(share))
        except ValueError:
            found = cls(bundle_id, -1.0)
        if not 0.0 < found.share <= 1.0:
            msg = f"{path} does not name a bundle and a share of 0 to 1: {text!r}"
            raise InvalidInput(msg, hint="write it with `headwater publish`, or remove it")
        return found


@dataclass(frozen=True, slots=True)
class Pointers:
    """What the files in `bundles/` say shall serve."""

    champion: str | None
    canary: Share | None
    shadow: Share | None

    @classmethod
    def read(cls, home: Path) -> Self:
        """Read the three pointers."""
        folder = home / "bundles"
        return cls(
            champion_id(home), Share.read(folder / CANARY_FILE), Share.read(folder / SHADOW_FILE)
        )


def champion_id(home: Path) -> str | None:
    """Read which bundle is champion; None where nothing is published."""
    pointer = home / "bundles" / CHAMPION_FILE
    return pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None


def champion_folder(home: Path) -> Path | None:
    """Find the folder of the published bundle; None where nothing is published."""
    name = champion_id(home)
    if name is None:
        return None
    folder = home / "bundles" / name
    if not folder.is_dir():
        msg = f"{home / 'bundles' / CHAMPION_FILE} names the bundle {name}, which is not there"
        raise NotFound(msg, hint="publish another with `headwater publish`")
    return folder


class BundleWatcher:
    """Keeps a lineup as the pointers say."""

    def __init__(
        self,
        workspace: Workspace,
        builder: RankingBuilder,
        lineup: Lineup,
        log_lock: Lock,
        change: Callable[[Lineup], None],
    ) -> None:
        """`log_lock` is held while the log is applied; `change` is called under it."""
        self._workspace = workspace
        self._builder = builder
        self._lineup = lineup
        self._log_lock = log_lock
        self._change = change
        self._clock = Clock(builder.settings.clock_offset_seconds * SECOND_US)
        self._followed = Pointers(lineup.champion.bundle_id or None, None, None)
        self._retry_at = inf
        self._changes = 0
        self._problems: dict[str, str] = {}
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="bundle-watcher", daemon=True)

    def start(self) -> None:
        """Load what runs beside the champion, then watch."""
        self.check()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def health(self) -> dict[str, Any]:
        """Say what serves beside the champion, and what was kept out and why."""
        canary = self._lineup.canary
        return {
            "canary": canary.ranking.bundle_id if canary else None,
            "canary_share": canary.share if canary else 0.0,
            "changes": self._changes,
            "refused": dict(self._problems),
        }

    def check(self) -> None:
        """Change over to what the pointers name, where that is another lineup.

        What hinders it is told by the health, and it is tried again.
        """
        try:
            self._follow(Pointers.read(self._workspace.home))
        except (InvalidInput, OSError, OperationalError) as error:
            self._refuse("pointers", error)

    def _follow(self, wanted: Pointers) -> None:
        if wanted == self._followed and monotonic() < self._retry_at:
            return
        self._followed, self._retry_at, self._problems = wanted, inf, {}
        loaded = dict(self._lineup.rankings)
        champion = self._find(wanted.champion, loaded) or self._lineup.champion
        lineup = Lineup(
            champion, self._trial(wanted.canary, loaded), self._trial(wanted.shadow, loaded)
        )
        if lineup != self._lineup:
            self._change_over(lineup)

    def _trial(self, share: Share | None, loaded: dict[str, Ranking]) -> Trial | None:
        if share is None:
            return None
        ranking = self._find(share.bundle_id, loaded)
        return Trial(ranking, share.share) if ranking else None

    def _find(self, bundle_id: str | None, loaded: dict[str, Ranking]) -> Ranking | None:
        """Give a ranking that is loaded, or load it; None where it has to stay out."""
        if bundle_id is None or bundle_id in self._problems:
            return None
        if bundle_id not in loaded:
            started = perf_counter()
            try:
                loaded[bundle_id] = self._prepare(bundle_id)
            except _REFUSALS as error:
                self._refuse(bundle_id, error)
                return None
            took = round(perf_counter() - started, 3)
            _log.info("bundle_prepared", bundle_id=bundle_id, seconds=took)
        return loaded[bundle_id]

    def _prepare(self, bundle_id: str) -> Ranking:
        bundle = Bundle.load(self._workspace.home / "bundles" / bundle_id)
        with self._log_lock:
            ranking = self._builder.build(bundle)
            unknown = ranking.runtime.unknown_posts()
        for start in range(0, len(unknown), _CHUNK):
            with self._log_lock:
                self._add_posts(ranking.runtime, unknown[start : start + _CHUNK])
            sleep(_REST_SECONDS)  # locks are not fair: the log, and requests, get their turn
        self._warm(ranking)
        return ranking

    def _add_posts(self, runtime: Runtime, post_ids: NDArray[np.int64]) -> None:
        runtime.add_posts(self._workspace.catalog.posts_by_id(post_ids))

    def _warm(self, ranking: Ranking) -> None:
        """Ask a few feeds, so that no viewer is the first; BundleMismatch where one degrades.

        Tried again for a while: a ranker service loads a bundle when it is first asked for it.
        """
        people = self._builder.cache.people.person_id
        for person in people[:: max(1, len(people) // _WARM_FEEDS)][:_WARM_FEEDS].tolist():
            for _ in range(_WARM_TRIES):
                now_us = self._clock.now_us()
                query = FeedQuery(FeedId(hash63("warm", person)), UserId(person), now_us, 20)
                with self._log_lock:
                    trace = ranking.pipeline.run(query, ranking.policy).trace
                if trace.level is DegradeLevel.FULL:
                    break
                sleep(_WARM_PAUSE_SECONDS)
            else:
                why = ", ".join(trace.reasons)
                msg = f"bundle {ranking.bundle_id} ranks at level {trace.level}: {why}"
                raise BundleMismatch(msg, hint="publish another with `headwater publish`")

    def _change_over(self, lineup: Lineup) -> None:
        before = self._lineup
        new = [r for name, r in lineup.rankings.items() if name not in before.rankings]
        with self._log_lock:
            for ranking in new:  # posts that came while it was made ready
                self._add_posts(ranking.runtime, ranking.runtime.unknown_posts())
            started = perf_counter()
            self._change(lineup)
            waited = perf_counter() - started
        self._lineup = lineup
        self._changes += 1
        for name, gone in before.rankings.items():
            if name not in lineup.rankings:
                gone.ranker.close()
        _log.info(
            "bundles_changed",
            champion=lineup.champion.bundle_id,
            canary=lineup.canary.ranking.bundle_id if lineup.canary else None,
            shadow=lineup.shadow.ranking.bundle_id if lineup.shadow else None,
            waited_ms=round(waited * 1000, 3),
        )

    def _refuse(self, what: str, error: Exception) -> None:
        # The health is for everybody: where the files lie is not.
        said = str(error.__cause__ or error).replace(f"{self._workspace.home}/", "")
        cause = f"{type(error).__name__}: {said}"
        if self._problems.get(what) != cause:
            _log.error("bundle_refused", bundle=what, cause=cause)
        self._problems[what] = cause
        self._retry_at = monotonic() + RETRY_SECONDS

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            self.check()

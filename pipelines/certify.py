"""The feature certificate of a home folder: what serving gives, what training would have read.

Every way by which a feature travels goes in as `Paths`, so that a broken join can stand in the
place of a real one, and turns the certificate red.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import to_datetime
from contracts.errors import Conflict, InvalidInput
from contracts.policy import FAMILIES
from features import certificate
from features.caches import FeatureCache
from features.certificate import Asked, Certificate, Check, Pairs, code_hash, read_certificate
from features.event_arrays import int_column
from features.frames import FeatureFrames
from features.live_walk import (
    Moments,
    ServeFrom,
    choose,
    met_too_early,
    served,
    start_serving,
    walk,
)
from features.offline import asof_join
from features.planting import HIDDEN, SCENARIOS, AsofJoin, check_join, plant
from features.slots import Bools, Float32s, Ints
from features.views import (
    AUTHOR_VIEW,
    CROSS_FEATURES,
    FEATURE_HASH,
    POST_VIEW,
    VIEWER_FEATURES,
    VIEWS,
    View,
)
from features.workspace import Workspace
from pipelines.console import Reporter
from training import reading
from training.reading import FeatureSource, TrainingData, event_rows, read_training_data
from training.split import SplitConfig, make_split

SAMPLES: Final = 200
"""Viewers asked at each moment."""
WIDTH: Final = 20
"""Posts asked about a viewer."""
_PLANTED: Final = 60
_PLANTED_WIDTH: Final = 10
_FEWEST_EVENTS: Final = 20
_OWN: Final = (*(f.name for f in VIEWER_FEATURES), *(f.name for f in CROSS_FEATURES))
"""Features that one viewer's doings decide."""


def load_cache(workspace: Workspace, up_to_seq: int) -> FeatureCache:
    """Load a cache as a server does that starts now."""
    return FeatureCache.load(workspace, up_to_seq=up_to_seq)


@dataclass(frozen=True, slots=True)
class Paths:
    """Every way by which a feature reaches a feed or a training row."""

    serve: ServeFrom = start_serving
    load: Callable[[Workspace, int], FeatureCache] = load_cache
    source: Callable[[FeatureFrames], FeatureSource] = FeatureSource
    join: AsofJoin = asof_join

    def offline(
        self, frames: FeatureFrames, viewers: Ints, times_us: Ints, posts: Ints, scores: Float32s
    ) -> NDArray[np.float16]:
        """Compute features of past queries as training does."""
        return self.source(frames)(viewers, times_us, posts, scores)


def code_of_features() -> str:
    """Hash the source of everything that computes features."""
    folder = Path(certificate.__file__).parent
    return code_hash([*folder.glob("*.py"), Path(reading.__file__)])


def certify_home(home: Path, samples: int = SAMPLES, paths: Paths | None = None) -> Certificate:
    """Make the certificate of a home folder and write it there; InvalidInput on too little."""
    with Workspace.open(home, read_only=True) as workspace:
        made = certify(workspace, samples, paths or Paths())
    made.write(home)
    return made


def require_certificate(
    home: Path,
    up_to_seq: int,
    report: Reporter | None = None,
    make: Callable[[Path], Certificate] | None = certify_home,
) -> None:
    """Let nothing through without a green certificate of this code and of the log up to a place.

    Where there is none it is made now, by `make`; Conflict where it is red, or nothing makes one.
    """
    report = report or Reporter(as_json=True)
    held = read_certificate(home)
    missing = "there is none" if held is None else held.missing_for(code_of_features(), up_to_seq)
    if not missing:
        return
    if make is None:
        msg = f"{home} has no green certificate of its features: {missing}"
        raise Conflict(msg, hint="run `headwater features certify`")
    report.say(f"Feature certificate: {missing}; comparing features as served with training's ...")
    made = make(home)
    if not made.green:
        msg = f"the feature certificate is red. {made.reasons[0]}"
        raise Conflict(msg, hint="`headwater features certify` shows all of it")
    report.say(f"  green: {made.counts['values']:,} values are equal, {made.seconds:.1f} s")


def certify(workspace: Workspace, samples: int, paths: Paths) -> Certificate:
    """Compare everything once."""
    started = perf_counter()
    seq = workspace.log.last_seq
    loaded = paths.load(workspace, seq)
    data, frames, without, warnings = _read(workspace, seq)
    rng = np.random.default_rng(0)
    moments = Moments.of(frames)
    asked = [
        choose(frames, now_us, samples, WIDTH, rng, without)
        for now_us in (moments.half_us, moments.late_us, moments.end_us)
    ]
    comparison = _Comparison(workspace, frames, moments, paths)
    compared = list(comparison.parity(asked, loaded))
    checks = [pairs.check(name) for name, pairs in compared]
    planted = choose(frames, moments.half_us, _PLANTED, _PLANTED_WIDTH, rng, without)
    checks += comparison.planted(planted, rng)
    checks += [
        check_join(view, _entities(frames, view), moments.half_us, paths.join, rng=rng)
        for view in VIEWS
    ]
    labels = _labels(data, frames, paths, samples)
    together = Pairs.merged([pairs for _, pairs in compared])
    return Certificate(
        feature_hash=FEATURE_HASH,
        code=code_of_features(),
        log=(int(int_column(frames.events, "seq").min()), seq),
        made=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        samples=samples,
        seconds=round(perf_counter() - started, 2),
        counts={
            "events": frames.events.num_rows, "posts": frames.posts.num_rows,
            "people": frames.people.num_rows, "pairs": len(together.viewers),
            "values": int(together.served.size),
        },
        features=together.rows(),
        checks=[*checks, *labels],
        warnings=warnings,
    )  # fmt: skip


def _read(workspace: Workspace, seq: int) -> tuple[TrainingData, FeatureFrames, Ints, list[str]]:
    """Read the log up to a place as training does; whom to leave out, and warnings.

    Left out is what the log after the place tells of: the catalog may know that already.
    """
    data = read_training_data(workspace)
    frames = data.features.frames
    frames = _filtered(frames, int_column(frames.events, "seq") <= seq)
    if frames.events.num_rows < _FEWEST_EVENTS or frames.posts.num_rows == 0:
        msg = f"{workspace.home} holds {frames.events.num_rows} events, too few to compare anything"
        raise InvalidInput(msg, hint=f"ingest at least {_FEWEST_EVENTS}")
    after = workspace.log.tail(seq)
    changing = [int_column(after, name) for name in ("viewer_id", "post_id", "target_id")]
    early = met_too_early(frames)
    without = np.concatenate([*changing, int_column(frames.posts, "author_id")[early]])
    said = f"{early.sum()} posts are dated after something that happened to them; their authors "
    warnings = [f"{said}are left out: is `created` right?"] if early.any() else []
    return data, frames, np.unique(without[without >= 0]), warnings


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What is served beside what is recomputed, at the same moments of one log."""

    workspace: Workspace
    frames: FeatureFrames
    moments: Moments
    paths: Paths

    def parity(self, asked: list[Asked], loaded: FeatureCache) -> Iterator[tuple[str, Pairs]]:
        """Compare a cache patched from moment to moment, then the loaded one."""
        offline = [one.offline(self.paths.offline, self.frames) for one in asked]
        walked = walk(self.workspace, self.frames, list(self.moments), self.paths.serve)
        for one, cache, right in zip(asked, walked, offline, strict=True):
            name = f"served as patched up to {to_datetime(one.now_us):%Y-%m-%d %H:%M:%S}"
            yield name, Pairs.of(one, served(cache, one), right)
        yield "served as loaded now", Pairs.of(asked[-1], served(loaded, asked[-1]), offline[-1])

    def planted(self, asked: Asked, rng: np.random.Generator) -> list[Check]:
        """Plant what knows the label: it has to arrive when it is known, and never before."""
        start_us, half_us, late_us, _ = self.moments
        later = asked._replace(now_us=late_us)
        planted = plant(self.frames, asked, late_us, rng)
        steps = [start_us, half_us, late_us]
        walked = walk(self.workspace, planted.frames, steps, self.paths.serve)
        offline = [one.offline(self.paths.offline, planted.frames) for one in (asked, later)]
        pairs = Pairs.of(asked, served(next(walked), asked), offline[0])
        of_pair = np.repeat(planted.scenarios, asked.posts.shape[1])
        checks = [
            pairs[of_pair == k].check(f"planted: {words}") for k, words in enumerate(SCENARIOS)
        ]
        after = Pairs.of(later, served(next(walked), later), offline[1])
        checks.append(after.check("planted: all known later"))
        clean = later.offline(self.paths.offline, self.frames)
        moved = ~((clean == offline[1]) | np.isnan(clean + offline[1])).all(axis=2)
        hidden = planted.labels & np.isin(planted.scenarios, HIDDEN)[:, None]
        lost, labels = int((hidden & ~moved).sum()), int(hidden.sum())
        lost = lost if 2 * lost > labels else 0  # a label may drown in what a busy post met anyhow
        why = f"{lost} planted labels change no feature even when known" if lost else ""
        checks.append(Check("planted: arrives once known", labels, lost, why))
        hiding = self._hidden(planted.frames, later)
        return [*checks, hiding.check("planted: hidden from the moment on")]

    def _hidden(self, frames: FeatureFrames, later: Asked) -> Pairs:
        """Hide what people do from the half on, as sets split by each person's order train.

        What they did before it that became known after it is left out on both sides.
        """
        half_us = self.moments.half_us
        theirs = np.isin(int_column(frames.events, "viewer_id"), later.viewers)
        happened, known = (int_column(frames.events, f"{k}_time") for k in ("event", "known"))
        from_on = theirs & (happened >= half_us)
        between = theirs & ~from_on & (known > half_us)
        steps = [self.moments.start_us, self.moments.late_us]
        kept = _filtered(frames, ~between & ~from_on)
        cache = next(walk(self.workspace, kept, steps, self.paths.serve))
        since = np.full(later.viewers.shape, half_us)
        hidden = self.paths.source(_filtered(frames, ~between)).hidden_from(later.viewers, since)
        offline = hidden(later.viewers, later.moments_us, later.posts, later.scores)
        return Pairs.of(later, served(cache, later), offline)


def _labels(data: TrainingData, frames: FeatureFrames, paths: Paths, samples: int) -> list[Check]:
    """Take what is to be predicted out of the log: features at that moment must stay the same."""
    dataset = data.dataset
    try:
        split = make_split(dataset, SplitConfig())
    except InvalidInput:
        return []  # nothing can be trained on it either
    queries = split.test[:: -(-len(split.test) // samples)]
    viewers, now = dataset.viewer_ids[queries.user_rows], queries.now_us
    posts = dataset.post_ids[dataset.actions.item_rows[queries.cut]][:, None]
    scores = np.zeros((*posts.shape, len(FAMILIES)), np.float32)
    # The row's number rides along as its feed id.
    at = frames.events.column_names.index("feed_id")
    numbered = frames.events.set_column(at, "feed_id", pa.array(np.arange(frames.events.num_rows)))
    rows = event_rows(numbered, dataset.post_ids)
    order = np.argsort(viewers)
    near = order[np.minimum(np.searchsorted(viewers[order], rows.viewer_ids), len(order) - 1)]
    to_come = (viewers[near] == rows.viewer_ids) & (rows.times_us >= now[near])
    kept = np.ones(frames.events.num_rows, np.bool_)
    kept[rows.feed_ids[to_come]] = False
    found = [
        paths.offline(f, viewers, now, posts, scores)[:, 0]
        for f in (_filtered(frames, kept), frames)
    ]
    pairs = Pairs(viewers, posts[:, 0], now, *found)
    name = "labels at their own moment"
    return [pairs.check(name, _OWN, ("without the label", "with it"))]


def _filtered(frames: FeatureFrames, kept: Bools) -> FeatureFrames:
    return replace(frames, events=frames.events.filter(pa.array(kept)))


def _entities(frames: FeatureFrames, view: View) -> Ints:
    """Name the entities of a view; those of the log where the catalog has none."""
    if view is POST_VIEW:
        return int_column(frames.posts, "post_id")
    people = np.unique(int_column(frames.events, "viewer_id"))
    authors = np.unique(int_column(frames.posts, "author_id"))
    found = authors[authors >= 0] if view is AUTHOR_VIEW else people
    return found if len(found) else people

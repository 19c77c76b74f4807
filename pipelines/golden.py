"""Golden requests: what a bundle is asked before anybody is served with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from contracts.degrade import DegradeLevel
from contracts.errors import BundleMismatch
from contracts.ids import UNKNOWN_ID, FeedId, UserId, hash63
from contracts.query import FeedQuery
from contracts.settings import load_settings
from features.caches import FeatureCache
from features.workspace import Workspace
from models.bundle import Bundle
from serving.lineup import Ranking, RankingBuilder
from serving.pipeline import Ranked, StageFailed
from serving.snapshots import ServedLog
from serving.stages.filters import EveryoneMaySee
from serving.watching.shadow import difference

_OF_EACH: Final = 8
"""People of each kind: cold, regular, heavy."""


@dataclass(frozen=True, slots=True)
class Golden:
    """What became of the golden requests."""

    asked: int
    overlap: float | None
    """Share of the first 20 posts that the former champion gives too; None where there is none."""


def replay_golden(home: Path, bundle_id: str, former: str | None = None) -> Golden:
    """Ask a bundle the golden feeds, as serving would, beside the former champion.

    BundleMismatch where one degrades. Nothing is served or recorded by it.
    """
    # One process and no deadline: what is tried here is the bundle, not the machine.
    settings = load_settings().unhurried().model_copy(update={"ranker": "in_process"})
    with Workspace.open(home, read_only=True) as workspace:
        cache = FeatureCache.load(workspace)
        builder = RankingBuilder(cache, settings, EveryoneMaySee(), ServedLog())
        queries = golden_queries(cache, _end_us(workspace))
        mine = _answers(_ranking(workspace, builder, bundle_id), queries)
        if not any(len(ranked.selected.slate) for ranked in mine):
            msg = f"all {len(mine)} golden requests came back empty"
            raise BundleMismatch(msg, hint="nothing has changed; is there a post to show at all?")
        try:
            theirs = _answers(_ranking(workspace, builder, former), queries) if former else []
        except BundleMismatch:  # it does not fit this code any more
            theirs = []
    overlaps = [difference(a, b).overlap for a, b in zip(mine, theirs, strict=False)]
    return Golden(len(mine), float(np.mean(overlaps)) if overlaps else None)


def golden_queries(cache: FeatureCache, now_us: int) -> list[FeedQuery]:
    """Choose people with the least, a middling and the largest number of events, and a stranger."""
    people = cache.people.person_id
    order = np.argsort(cache.histories.versions[: len(people)], kind="stable")
    middle = max(0, (len(order) - _OF_EACH) // 2)
    chosen = np.concatenate(
        [order[:_OF_EACH], order[middle : middle + _OF_EACH], order[-_OF_EACH:]]
    )
    viewers = [*people[np.unique(chosen)].tolist(), UNKNOWN_ID]
    return [FeedQuery(FeedId(hash63("golden", v)), UserId(v), now_us, 20) for v in viewers]


def _ranking(workspace: Workspace, builder: RankingBuilder, bundle_id: str) -> Ranking:
    ranking = builder.build(Bundle.load(workspace.home / "bundles" / bundle_id))
    unknown = ranking.runtime.unknown_posts()
    ranking.runtime.add_posts(workspace.catalog.posts_by_id(unknown))
    return ranking


def _answers(ranking: Ranking, queries: list[FeedQuery]) -> list[Ranked]:
    return [_answer(ranking, query) for query in queries]


def _answer(ranking: Ranking, query: FeedQuery) -> Ranked:
    try:
        ranked = ranking.pipeline.run(query, ranking.policy)
    except StageFailed as failure:
        level, why = "none", f"{failure}: {failure.__cause__}"
    else:
        # Who has acted on everything has no candidates left: their feed is that of what trends.
        nothing_left = len(ranked.candidates) == 0
        if ranked.trace.level is DegradeLevel.FULL and (len(ranked.selected.slate) or nothing_left):
            return ranked
        level, why = ranked.trace.level, ", ".join(ranked.trace.reasons) or "no posts"
    msg = f"a golden request of viewer {query.viewer_id} came back at level {level}: {why}"
    raise BundleMismatch(msg, hint="nothing has changed; train again, or publish another bundle")


def _end_us(workspace: Workspace) -> int:
    times = workspace.log.scan(columns=["event_time"])["event_time"]
    return int(times[-1].cast("int64").as_py()) + 1 if len(times) else 0

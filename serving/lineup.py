"""What ranks now: the champion, a canary for some viewers, a challenger in the shadow.

A `Ranking` is one bundle made ready; a `Lineup` says which ranking serves whom. Both are immutable,
so that changing over is the exchange of one reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from contracts.ids import UNKNOWN_ID
from contracts.policy import Policy, popular
from contracts.query import Assignment, FeedQuery
from contracts.settings import Settings
from experiments.assignment import BUCKETS, Arm, Layer
from features.caches import FeatureCache
from models.bundle import Bundle
from serving.components import Deadlines
from serving.home_feed import home_feed
from serving.pipeline import FeedPipeline
from serving.rankers.base import NoRanker, Ranker, RankerClient
from serving.rankers.remote import RemoteRanker
from serving.runtime import Runtime
from serving.snapshots import ServedLog
from serving.stages.filters import AccessRule

LAYER: Final = "bundle"
CANARY, CHAMPION = "canary", "champion"


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One bundle ready to rank with."""

    bundle_id: str
    """Empty where no bundle is published."""
    policy: Policy
    runtime: Runtime
    ranker: RankerClient
    pipeline: FeedPipeline


@dataclass(frozen=True, slots=True)
class RankingBuilder:
    """Makes rankings that share one feature cache and one memory of what was served."""

    cache: FeatureCache
    settings: Settings
    access: AccessRule
    served: ServedLog
    policy: Policy | None = None
    """Holds for every ranking in the place of the bundle's own, where it is given."""

    def build(self, bundle: Bundle | None) -> Ranking:
        """Lay a bundle over the cache; posts that it does not know have no item rows yet."""
        runtime, ranker = Runtime(bundle, self.cache), self._ranker(bundle)
        return Ranking(
            bundle.bundle_id if bundle else "",
            self.policy or (bundle.policy if bundle else popular()),
            runtime,
            ranker,
            self.pipeline(runtime, ranker, self.served),
        )

    def pipeline(self, runtime: Runtime, ranker: RankerClient, served: ServedLog) -> FeedPipeline:
        """Build the stages of the home feed."""
        settings = self.settings
        return home_feed(
            runtime, ranker, self.access, served,
            settings.source_deadline_ms, Deadlines.of(settings),
        )  # fmt: skip

    def _ranker(self, bundle: Bundle | None) -> RankerClient:
        if bundle is None:
            return NoRanker()
        if self.settings.ranker == "bentoml":
            timeout = self.settings.ranker_timeout_ms / 1000.0
            return RemoteRanker(self.settings.ranker_url, timeout, bundle.bundle_id)
        return Ranker(bundle.ranker, self.cache)


class Trial(NamedTuple):
    """A ranking beside the champion, and the share of viewers or requests that it gets."""

    ranking: Ranking
    share: float


@dataclass(frozen=True, slots=True)
class Lineup:
    """Which ranking serves whom."""

    champion: Ranking
    canary: Trial | None = None
    shadow: Trial | None = None

    @property
    def rankings(self) -> Mapping[str, Ranking]:
        """Everything that is loaded, by bundle id."""
        trials = [trial.ranking for trial in (self.canary, self.shadow) if trial]
        return {ranking.bundle_id: ranking for ranking in (self.champion, *trials)}

    def pick(self, query: FeedQuery) -> tuple[Ranking, FeedQuery]:
        """Choose the viewer's ranking, and note in the query which arm that is.

        Strangers, who share one id, are in no arm.
        """
        if self.canary is None or query.viewer_id == UNKNOWN_ID:
            return self.champion, query
        layer = canary_layer(self.canary.ranking.bundle_id, self.canary.share)
        arm = layer.assignment(query.viewer_id)
        if arm is None:
            return self.champion, query
        chosen = self.canary.ranking if arm.arm == CANARY else self.champion
        return chosen, replace(query, assignments={**query.assignments, LAYER: arm})


def canary_layer(bundle_id: str, share: float) -> Layer:
    """Share all viewers out between a canary and the champion.

    The salt is the canary's own: every canary meets other viewers first, and a wider share of the
    same canary keeps those that it has.
    """
    cut = round(share * BUCKETS)
    canary, champion = (Assignment(f"canary {bundle_id}", arm, 1) for arm in (CANARY, CHAMPION))
    return Layer(LAYER, f"{LAYER}:{bundle_id}", (Arm(canary, 0, cut), Arm(champion, cut, BUCKETS)))

"""The home feed: the ordered list of its stages. The file to open first.

A request is one walk down this list (`serving.pipeline` walks it): hydrate the query, ask the
sources, merge, hydrate the candidates, filter, score, select. What each stage reads, writes and
does when it fails is declared at the stage.
"""

from models.base import Family
from serving.components import Deadlines
from serving.pipeline import FeedPipeline, Stages
from serving.rankers.base import RankerClient
from serving.runtime import Runtime
from serving.snapshots import ServedLog
from serving.stages import filters, sources
from serving.stages.hydrators import FamilyScoreHydrator, PostHydrator
from serving.stages.query_hydrators import FamilyHydrator, ViewerHydrator
from serving.stages.scorers import EnsembleScorer, FixedBlendScorer, VelocityScorer
from serving.stages.selection import SlateSelector
from serving.stages.viewer_state import ViewerStateHydrator


def home_feed(
    runtime: Runtime,
    ranker: RankerClient,
    access: filters.AccessRule,
    served: ServedLog,
    source_deadline_ms: float,
    deadlines: Deadlines,
) -> FeedPipeline:
    """Build the pipeline of the home feed; PipelineError where its stages do not fit together."""
    stages = Stages(
        viewer=ViewerHydrator(runtime, served),
        families=[FamilyHydrator(runtime, family) for family in Family],
        sources=[
            sources.InNetworkSource(runtime),
            sources.FamilySource(runtime, Family.COLLABORATIVE),
            sources.FamilySource(runtime, Family.DEEP),
            sources.FamilySource(runtime, Family.CONTENT),
            sources.ItemToItemSource(runtime),
            sources.TrendingSource(runtime),
            sources.FreshSource(runtime),
            sources.FollowsOfFollowsSource(runtime),
        ],
        hydrators=[
            PostHydrator(runtime),
            ViewerStateHydrator(runtime),
            FamilyScoreHydrator(runtime),
        ],
        filters=[
            filters.DeletedFilter(),
            filters.OwnFilter(),
            filters.BlockedFilter(),
            filters.MutedAuthorFilter(),
            filters.SeenFilter(),
            filters.ServedFilter(),
            filters.AgeFilter(),
            filters.LanguageFilter(),
            filters.InventoryHoldoutFilter(),
            filters.VisibilityFilter(access),
        ],
        scorers=[EnsembleScorer(ranker), FixedBlendScorer(), VelocityScorer(runtime)],
        selector=SlateSelector(runtime.content_codes),
        capacity=lambda: len(runtime.cache.posts),
    )
    return FeedPipeline(stages, source_deadline_ms, deadlines)

"""What became of posts on their way into feeds: the funnel's report, as plain numbers.

Made by `serving.watching.funnel`, shown by the API and as metrics, judged by
`serving.watching.doctor`.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict

HEALTH_KEY: Final = "funnel"
"""Where the report stands in what feeds say of their health."""
STAGES: Final = ("query", "sources", "hydrate", "filter", "score", "select")
FEED: Final = "feed"
"""All stages of a feed together."""
STAGE_BOUNDS_SECONDS: Final = (
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.025, 0.05, 0.1, 0.15, 0.25, 1.0,
)  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFlow(_Part):
    """One source, over the feeds of the window."""

    found: float
    """Rows a feed."""
    reached: float
    """Posts a slate that it had found, alone or with others."""
    asked: int
    """Feeds in which it should find something: its viewer has what it starts from."""
    empty: int
    """Of those, feeds in which it found nothing."""


class StageTime(_Part):
    """How long a stage took, in microseconds."""

    p50_us: float
    p95_us: float


class Recall(_Part):
    """Candidates beside an exhaustive search, over sampled feeds."""

    feeds: int
    mean: float
    """Share of the best 100 of all posts that the sources had found."""
    lowest: float
    """The first decile."""


class Calibration(_Part):
    """Predictions of one action beside what happened after impressions."""

    impressions: int
    expected: float
    observed: float
    tolerance: float
    """By which factor the two may differ from what training knew of its own calibration."""

    @property
    def ratio(self) -> float | None:
        """Observed over expected; None where nothing was expected."""
        return self.observed / self.expected if self.expected > 0 else None


class SinceStart(_Part):
    """Counts since the process started."""

    feeds: int
    reached: dict[str, int]
    """Source -> posts of slates that it had found."""
    removed: dict[str, int]
    """Removal reason -> rows."""
    stage_counts: dict[str, list[int]]
    """Stage -> runs at most as long as each of `STAGE_BOUNDS_SECONDS`, and longer ones."""
    stage_seconds: dict[str, float]


class FunnelReport(_Part):
    """The funnel over the last feeds; means are over those in which the pipeline ran."""

    feeds: int
    ranked: int
    """Feeds in which the pipeline ran to its end, even where nothing was left."""
    levels: dict[str, int]
    reasons: dict[str, int]
    failed: dict[str, int]
    """Component -> feeds in which it failed or was late."""
    sources: dict[str, SourceFlow]
    duplicates: float
    candidates: float
    removed: dict[str, float]
    """Removal reason -> rows a feed."""
    pool: float
    slate: float
    reserve: float
    personalised: float | None
    """Share of the slate found by a source that knows the viewer."""
    warm: float | None
    """Share of feeds whose viewer has done something before."""
    followed: float | None
    kept_value: float | None
    """What exploration leaves of the slate's greedy value."""
    stages: dict[str, StageTime]
    recall: Recall | None = None
    calibration: dict[str, Calibration] = {}
    """Action -> its predictions; empty where the bundle's are not calibrated."""
    lag_seconds: float = 0.0
    """Age of the oldest event that is not applied."""
    ahead_seconds: float | None = None
    """From the server's clock to the newest event time applied since the start; as a rule < 0."""
    since_start: SinceStart

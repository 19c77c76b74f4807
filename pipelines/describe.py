"""What is in a workspace: counts, span, density, distributions, shares, and what will hurt."""

import json
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import DAY_US, to_datetime
from contracts.events import NEEDS_POST, POSITIVE_ACTIONS, EventType
from features.segments import integers_of
from features.workspace import Workspace
from pipelines.data_warnings import Facts, Warned, warnings_of

Counts = NDArray[np.int64]

_COLUMNS = ("type", "viewer_id", "post_id", "event_time", "known_assumed")


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many positive actions people or posts have."""

    quantiles: dict[str, float]
    histogram: list[tuple[str, int]]
    """Range of actions -> how many have so many; ranges double."""
    gini: float
    top_percent_share: float
    """Share of all actions that the busiest 1 % have."""


@dataclass(slots=True)
class Description:
    """What came in."""

    dataset: dict[str, object]
    counts: dict[str, int]
    first_event: str | None
    last_event: str | None
    days: float
    density: float | None
    """Different (person, post) pairs with a positive action / (people x posts)."""
    types: dict[str, int]
    """Event type -> events, the commonest first."""
    activity: Distribution
    popularity: Distribution
    warnings: list[Warned] = field(default_factory=list)


def describe(workspace: Workspace) -> Description:
    """Describe people, posts, follows and events, and warn about what will hurt."""
    events = workspace.log.scan(columns=_COLUMNS)
    posts = workspace.catalog.posts(include_deleted=False)
    types, times = integers_of(events, "type"), integers_of(events, "event_time")
    positive = np.isin(types, [int(t) for t in POSITIVE_ACTIONS])
    viewers = integers_of(events, "viewer_id")[positive]
    acted_on = events.column("post_id").fill_null(-1).to_numpy()[positive]
    people_ids = integers_of(workspace.catalog.people(), "person_id")
    counts = {**workspace.catalog.counts(), "events": len(types)}
    counts["topics"] = len(workspace.catalog.topics()[0])
    activity = _counts_of(viewers, people_ids)
    popularity = _counts_of(acted_on, integers_of(posts, "post_id"))
    pairs = len(np.unique(np.stack((viewers, acted_on), axis=1), axis=0)) if len(viewers) else 0
    cells = len(people_ids) * posts.num_rows
    span = float(times[-1] - times[0]) / DAY_US if len(times) else 0.0
    dataset = json.loads(workspace.meta_get("dataset") or "{}")
    facts = Facts(
        dataset=dataset,
        types=types,
        times=times,
        assumed=events.column("known_assumed").to_numpy(),
        activity=activity,
        popularity=popularity,
        posts=posts,
        follows=workspace.catalog.follows(),
        early_events=_early_events(events, posts, types),
    )
    return Description(
        dataset=dataset,
        counts=counts,
        first_event=to_datetime(int(times[0])).isoformat() if len(times) else None,
        last_event=to_datetime(int(times[-1])).isoformat() if len(times) else None,
        days=round(span, 2),
        density=pairs / cells if cells else None,
        types=_type_counts(types),
        activity=distribution(activity),
        popularity=distribution(popularity),
        warnings=warnings_of(facts),
    )


def distribution(counts: Counts) -> Distribution:
    """Summarise action counts [n], one a person or post."""
    if not len(counts):
        return Distribution({}, [], 0.0, 0.0)
    ordered = np.sort(counts)
    total = int(ordered.sum())
    n = len(ordered)
    ranks = np.arange(1, n + 1)
    gini = float((2 * ranks - n - 1) @ ordered / (n * total)) if total else 0.0
    top = ordered[-max(1, n // 100) :].sum() / total if total else 0.0
    quantiles = {f"p{q}": float(np.percentile(ordered, q)) for q in (5, 25, 50, 75, 95, 100)}
    return Distribution(quantiles, _histogram(ordered), round(gini, 4), round(float(top), 4))


def _histogram(ordered: Counts) -> list[tuple[str, int]]:
    bars = [("0", int((ordered == 0).sum()))]
    low = 1
    while low <= ordered[-1]:
        high = 2 * low - 1
        label = str(low) if high == low else f"{low}-{high}"
        bars.append((label, int(((ordered >= low) & (ordered <= high)).sum())))
        low *= 2
    return bars


def _counts_of(ids: Counts, universe: Counts) -> Counts:
    """Count how often each id of a sorted universe [n] occurs; others are left out."""
    places = np.searchsorted(universe, ids[np.isin(ids, universe)])
    return np.bincount(places, minlength=len(universe))


def _type_counts(types: Counts) -> dict[str, int]:
    codes, counts = np.unique(types, return_counts=True)
    pairs = sorted(zip(counts.tolist(), codes.tolist(), strict=True), reverse=True)
    return {EventType(code).word: count for count, code in pairs}


def _early_events(events: pa.Table, posts: pa.Table, types: Counts) -> int:
    """Count events on a post that lie before the post's creation."""
    ids, universe = events.column("post_id").fill_null(-1).to_numpy(), integers_of(posts, "post_id")
    known = np.isin(types, [int(t) for t in NEEDS_POST]) & np.isin(ids, universe)
    created = integers_of(posts, "created")[np.searchsorted(universe, ids[known])]
    return int((integers_of(events, "event_time")[known] < created).sum())

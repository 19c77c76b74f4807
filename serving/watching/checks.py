"""What the doctor looks at, in the order of cause: what stands first can explain what follows."""

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Final

from contracts.degrade import DegradeLevel, DegradeReason, RemovalReason
from contracts.funnel import FEED, STAGES, FunnelReport
from serving.watching.doctor import Check, Observed, Reading

MIN_FEEDS: Final = 20
"""Shares of fewer feeds say nothing."""
_MIN_SEARCHED: Final = 10
_MIN_ACTIONS: Final = 20
"""Clicks or likes, expected or observed, for a ratio to mean something."""
_MIN_UNFOLDED: Final = 1000
_RANKER: Final = "ensemble"
_OF_SOURCES: Final = ("source.", "vector.")
_RANKER_REASONS: Final = (
    DegradeReason.RANKER_FAILED,
    DegradeReason.RANKER_TIMEOUT,
    DegradeReason.RANKER_UNREACHABLE,
)
_SOURCE_REASONS: Final = (
    DegradeReason.SOURCE_FAILED,
    DegradeReason.DEEP_SOURCE_FAILED,
    DegradeReason.SOURCE_DEADLINE,
)
_SEEN: Final = (RemovalReason.SEEN.word, RemovalReason.SERVED_THIS_SESSION.word)

Counts = Mapping[str, float]


def _problem(of: Callable[[Observed], str | None]) -> Callable[[Observed], Reading | None]:
    """Read a problem: 1 where there is one."""

    def read(observed: Observed) -> Reading | None:
        why = of(observed)
        return None if why is None else Reading(float(bool(why)), why=why)

    return read


def _number(of: Callable[[Observed], float | None]) -> Callable[[Observed], Reading | None]:
    def read(observed: Observed) -> Reading | None:
        value = of(observed)
        return None if value is None else Reading(value)

    return read


def _of_feeds(
    read: Callable[[Observed, FunnelReport], Reading | None],
) -> Callable[[Observed], Reading | None]:
    """Read the funnel, where enough feeds went through it."""

    def guarded(observed: Observed) -> Reading | None:
        funnel = observed.funnel
        return None if funnel is None or funnel.feeds < MIN_FEEDS else read(observed, funnel)

    return guarded


def _most(counts: Counts) -> tuple[str, float]:
    """Give the name that counts most, ("", 0) of none."""
    return max(counts.items(), key=lambda item: item[1], default=("", 0.0))


def _only(counts: Counts, names: Iterable[str]) -> Counts:
    return {name: counts[name] for name in names if name in counts}


def _unpublished(observed: Observed) -> Reading | None:
    return None if observed.published is None else Reading(float(not observed.published))


def _ranker(observed: Observed) -> Reading | None:
    """The share of feeds that went without the ranker; 1 where it is out now."""
    is_open = _RANKER in (observed.open_breakers or ())
    out = is_open or (observed.ranker_healthy is False and observed.published is not False)
    funnel = observed.funnel
    if funnel is None or funnel.feeds < MIN_FEEDS:
        known = observed.ranker_healthy
        return Reading(float(out), why="it does not answer") if out or known else None
    reason, feeds = _most(_only(funnel.reasons, _RANKER_REASONS))
    share = feeds / funnel.feeds
    return Reading(1.0 if out else share, why=reason or "it does not answer")


def _failing_source(observed: Observed, funnel: FunnelReport) -> Reading:
    named = {n: float(k) for n, k in funnel.failed.items() if n.startswith(_OF_SOURCES)}
    named |= {
        n: float(funnel.feeds) for n in observed.open_breakers or () if n.startswith(_OF_SOURCES)
    }
    reason, feeds = _most(_only(funnel.reasons, _SOURCE_REASONS))
    which, failed = _most(named)
    return Reading(max(feeds, failed) / funnel.feeds, which or "a source", reason or "it is late")


def _empty_source(_: Observed, funnel: FunnelReport) -> Reading:
    shares = {
        name: flow.empty / flow.asked
        for name, flow in funnel.sources.items()
        if flow.asked >= MIN_FEEDS
    }
    which, share = _most(shares)
    return Reading(share, which)


def _component(observed: Observed, funnel: FunnelReport) -> Reading:
    """Whatever is neither ranker nor source: hydrators, filters, selection."""

    def other(name: str) -> bool:
        return name != _RANKER and not name.startswith(_OF_SOURCES)

    is_open = [name for name in observed.open_breakers or () if other(name)]
    if is_open:
        return Reading(1.0, ", ".join(is_open), "its breaker is open: it failed five times running")
    which, feeds = _most({name: n for name, n in funnel.failed.items() if other(name)})
    return Reading(feeds / funnel.feeds, which, "it raises an error or is late")


def _filters(_: Observed, funnel: FunnelReport) -> Reading | None:
    others = {word: n for word, n in funnel.removed.items() if word not in _SEEN}
    seen = sum(_only(funnel.removed, _SEEN).values())
    return _share_of(others, funnel.candidates - seen)


def _seen(_: Observed, funnel: FunnelReport) -> Reading | None:
    return _share_of(_only(funnel.removed, _SEEN), funnel.candidates)


def _share_of(counts: Counts, rows: float) -> Reading | None:
    return Reading(sum(counts.values()) / rows, _most(counts)[0]) if rows > 0 else None


def _degraded(_: Observed, funnel: FunnelReport) -> Reading:
    low = {word: n for word, n in funnel.levels.items() if word != DegradeLevel.FULL}
    level, _feeds = _most(low)
    return Reading(sum(low.values()) / funnel.feeds, level, _most(funnel.reasons)[0] or "no reason")


def _calibration(observed: Observed) -> Reading | None:
    """By which factor the worst prediction is off, beyond what training knew of."""
    parts = observed.funnel.calibration if observed.funnel else {}
    # One action more on both sides: a few that happen to be missing are not a factor of infinity.
    ratios = {
        action: (part.observed + 1.0) / (part.expected + 1.0)
        for action, part in parts.items()
        if max(part.expected, part.observed) >= _MIN_ACTIONS
    }
    if not ratios:
        return None
    off = {action: max(r, 1.0 / r) / parts[action].tolerance for action, r in ratios.items()}
    which, factor = _most(off)
    return Reading(factor, which, f"{ratios[which]:.2f} times as many happen as predicted")


def _recall(observed: Observed) -> Reading | None:
    found = observed.funnel.recall if observed.funnel else None
    return None if found is None or found.feeds < _MIN_SEARCHED else Reading(1.0 - found.mean)


def _cold(_: Observed, funnel: FunnelReport) -> Reading | None:
    if funnel.warm is None or funnel.personalised is None:
        return None
    impersonal = funnel.personalised <= 0.5
    return Reading(1.0 - funnel.warm if impersonal else 0.0, why=f"{funnel.personalised:.0%}")


def _impersonal(_: Observed, funnel: FunnelReport) -> Reading | None:
    """Left to the check before, where that explains it."""
    if funnel.warm is None or funnel.personalised is None:
        return None
    return Reading(1.0 - funnel.personalised if funnel.warm > 0.5 else 0.0)


def _lag(observed: Observed) -> Reading | None:
    if observed.lag_events is None or observed.funnel is None:
        return None
    seconds = observed.funnel.lag_seconds if observed.lag_events else 0.0
    return Reading(seconds, f"{observed.lag_events:,}")


def _records(observed: Observed) -> Reading | None:
    if not observed.records_due or observed.records_missing is None:
        return None
    share = observed.records_missing / observed.records_due
    return Reading(share, f"{observed.records_missing:,}")


def _unfolded(observed: Observed) -> Reading | None:
    if observed.unfolded_events is None or not observed.log_events:
        return None
    many = observed.unfolded_events >= _MIN_UNFOLDED
    share = observed.unfolded_events / observed.log_events
    return Reading(share if many else 0.0, f"{observed.unfolded_events:,}")


def _latency(_: Observed, funnel: FunnelReport) -> Reading | None:
    if FEED not in funnel.stages:
        return None
    which, slowest = _most({stage: funnel.stages[stage].p95_us for stage in STAGES})
    return Reading(funnel.stages[FEED].p95_us / 1000, which, f"{slowest / 1000:.0f} ms")


CHECKS: Final = (
    Check(
        "server", "1 where the server does not answer", _problem(lambda o: o.server_problem), 1, 1,
        "The server cannot be asked: {why}.",
        "Start it with `headwater serve`, or correct the address or the key (it needs the scope "
        "admin).",
    ),
    Check(
        "home", "1 where the home folder cannot be used", _problem(lambda o: o.home_problem), 1, 1,
        "The home folder cannot be used: {why}.",
        "Name the right folder with --home, and let the server's user write to it.",
    ),
    Check(
        "disk", "share of the home folder's disk in use", _number(lambda o: o.disk_used), 0.9, 0.97,
        "The disk of the home folder is {value:.0%} full: events and records will soon be refused.",
        "Free space or move the home folder; old bundles and old decision records go first.",
    ),
    Check(
        "clock_ahead", "hours by which the newest event is ahead of the server's clock",
        _number(lambda o: o.ahead_hours), 0.1, 24,
        "Events lie {value:.1f} hours in the future of the server's clock.",
        "Correct the clock of this machine or of who sends events, or `clock_offset_seconds`.",
    ),
    Check(
        "bundle", "1 where no bundle is published", _unpublished, 1, 1,
        "No bundle is published: everybody gets what is popular.",
        "Run `headwater train`, then `headwater publish`.",
    ),
    Check(
        "bundle_fit", "1 where a published bundle cannot be loaded",
        _problem(lambda o: o.bundle_problem), 1, 1,
        "The published bundle cannot be used: {why}.",
        "Go back with `headwater rollback`, or train and publish again.",
    ),
    Check(
        "ranker", "share of feeds without the ranker; 1 while it is out", _ranker, 0.01, 0.2,
        "The ranker is out in {value:.0%} of feeds ({why}): they are ordered by the fixed blend.",
        "See that the ranker service runs (`headwater serve --ranker bentoml` keeps it running) "
        "and answers within `ranker_timeout_ms`; the server's log names the error.",
    ),
    Check(
        "source", "share of feeds in which a source fails or is late", _of_feeds(_failing_source),
        0.01, 0.2,
        "{which} fails in {value:.0%} of feeds ({why}).",
        "The server's log names the error (`feed_degraded`); a late source needs a lower quota in "
        "the policy, or a faster machine.",
    ),
    Check(
        "component", "share of feeds in which another component fails; 1 while it is left alone",
        _of_feeds(_component), 0.01, 0.2,
        "{which} fails in {value:.0%} of feeds ({why}).",
        "The server's log names the error (`feed_degraded`, `feed_failed`).",
    ),
    Check(
        "empty_source", "share of feeds in which a source finds nothing though it should",
        _of_feeds(_empty_source), 0.3, 0.9,
        "The source {which} finds nothing in {value:.0%} of the feeds in which it should.",
        "See that its data is there: posts and follows for in_network, a bundle that knows recent "
        "posts for collaborative, deep, content and item_to_item, recent events for trending.",
    ),
    Check(
        "filters", "share of candidates not seen before that filters remove",
        _of_feeds(_filters), 0.7, 0.95,
        "Filters remove {value:.0%} of what viewers have not seen, most of it as {which}.",
        "Loosen the rule under `filters` in the policy (`headwater policy show`); not_visible is "
        "what the access rule says.",
    ),
    Check(
        "seen", "share of candidates removed because the viewer had them", _of_feeds(_seen),
        0.6, 0.85,
        "Viewers have had {value:.0%} of all candidates already ({which}): the catalogue runs out.",
        "Bring in more posts, raise `quotas` and `max_candidates`, or loosen `hide_seen` and "
        "`served_minutes` in the policy.",
    ),
    Check(
        "log_lag", "seconds that feeds are behind the event log", _lag, 1, 30,
        "Feeds are {value:.0f} seconds and {which} events behind the event log.",
        "See in the server's log whether its follower stopped; else the writer is faster than one "
        "process can apply.",
    ),
    Check(
        "records", "share of decision records that are lost", _records, 0.001, 0.05,
        "{which} decision records ({value:.1%}) were not written: those feeds cannot be explained "
        "or replayed.",
        "See the disk of the home folder and `records_not_written` in the server's log.",
    ),
    Check(
        "online_store", "1 where the online store cannot be reached",
        _problem(lambda o: o.online_store_problem), 1, 1,
        "The online store cannot be reached: {why}.",
        "Start it, or correct `online_store_url`; feeds do not read it, `features materialize` "
        "does.",
    ),
    Check(
        "degraded", "share of feeds that are not ranked in full", _of_feeds(_degraded), 0.05, 0.5,
        "{value:.0%} of feeds are not ranked in full, most of them {which}, because of {why}.",
        "docs/degrade.md says what each level and reason means.",
    ),
    Check(
        "calibration", "factor by which predictions are off, beyond training's own", _calibration,
        1.5, 3,
        "Predictions of {which} are off: {why}.",
        "Train again on what was shown lately; until then values are weighed wrongly.",
    ),
    Check(
        "recall", "share of the best 100 of all posts that sources miss", _recall, 0.3, 0.6,
        "Sources miss {value:.0%} of the posts that would rank best.",
        "Raise the `quotas` of the personal sources and `max_candidates` in the policy, or train a "
        "bundle that knows the recent posts.",
    ),
    Check(
        "cold_viewers", "share of feeds whose viewer has done nothing, where feeds are impersonal",
        _of_feeds(_cold),
        0.5, inf,
        "{value:.0%} of feeds are of viewers who have done nothing yet: {why} of posts are "
        "personal.",
        "Send what people do as events, and their follows; let new people choose topics or people.",
    ),
    Check(
        "personalised", "share of posts that no personal source found", _of_feeds(_impersonal),
        0.5, 0.8,
        "{value:.0%} of posts in feeds were found by no source that knows the viewer.",
        "Raise the `quotas` of in_network, collaborative, deep, content and item_to_item.",
    ),
    Check(
        "bundle_age", "days from what the bundle learned to the newest event",
        _number(lambda o: o.bundle_age_days), 7, 28,
        "The bundle knows nothing of the last {value:.0f} days.",
        "Run `headwater features materialize`, `headwater train` and `headwater publish`.",
    ),
    Check(
        "checkpoint", "share of the log after the checkpoint (from 1,000 events on)", _unfolded,
        0.2, inf,
        "{which} events ({value:.0%} of the log) are after the checkpoint: a start replays them.",
        "Run `headwater features materialize`, as a rule once a day.",
    ),
    Check(
        "clock_behind", "days from the newest event to the server's clock",
        _number(lambda o: None if o.ahead_hours is None else -o.ahead_hours / 24), 30, inf,
        "The newest event is {value:.0f} days old: to the ranker everything is stale.",
        "Send events; to serve archived data set `clock_offset_seconds` so that it ends now.",
    ),
    Check(
        "latency", "95th percentile of a feed's time in ms", _of_feeds(_latency), 50, 150,
        "One feed in 20 takes {value:.0f} ms or longer; the slowest stage is {which} ({why}).",
        "Lower `quotas` and `max_candidates` in the policy, or give the process more of a core.",
    ),
)  # fmt: skip
"""All checks; `docs/doctor.md` explains each."""

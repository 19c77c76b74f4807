"""The stage runner: walks the ordered stages, times them, and turns faults into reasons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason, worst
from contracts.errors import PipelineError
from contracts.policy import Policy
from contracts.query import FeedQuery
from contracts.value import Ledger
from serving.candidates import POST_ID, RETRIEVED, Candidates, merge
from serving.components import (
    Component,
    Fault,
    Filter,
    Hydrator,
    OnError,
    Scorer,
    Selected,
    Selector,
    Source,
)
from serving.context import QueryContext
from serving.query_hydrators import FamilyHydrator, ViewerHydrator

T = TypeVar("T")
P = ParamSpec("P")


class StageFailed(Exception):
    """A component failed whose declaration says that the ranking cannot go on."""

    def __init__(self, component: str, reason: DegradeReason) -> None:
        super().__init__(f"{component}: {reason}")
        self.reason = reason


@dataclass(slots=True)
class Trace:
    """What happened in one run: times, yields, faults."""

    stage_us: dict[str, int] = field(default_factory=dict)
    source_yield: dict[str, int] = field(default_factory=dict)
    level: DegradeLevel = DegradeLevel.FULL
    reasons: list[DegradeReason] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Component and error of each fault, for the log; never in a response."""

    def fault(self, fault: Fault) -> None:
        """Take a fault's level and reason into account."""
        self.level = worst(self.level, fault.level)
        if fault.reason not in self.reasons:
            self.reasons.append(fault.reason)


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows that filters removed, with the reason each."""

    post_ids: NDArray[np.int64]
    reasons: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One ranked feed, before anybody has looked at it."""

    context: QueryContext
    candidates: Candidates
    ledger: Ledger
    selected: Selected
    removed: Removed
    trace: Trace


@dataclass(frozen=True)
class Stages:
    """The ordered stages of one feed; `serving.home_feed` makes the list."""

    viewer: ViewerHydrator
    families: Sequence[FamilyHydrator]
    sources: Sequence[Source]
    hydrators: Sequence[Hydrator]
    filters: Sequence[Filter]
    scorers: Sequence[Scorer]
    """Tried in order until one answers: each is the fallback of the one before it."""
    selector: Selector
    capacity: Callable[[], int]
    """Number of post slots."""

    def __post_init__(self) -> None:
        written = set(RETRIEVED)
        for hydrator in self.hydrators:
            _check_reads(hydrator.name, hydrator.reads, written)
            twice = hydrator.writes & written
            if twice:
                msg = f"{hydrator.name} writes {sorted(twice)}, which another component writes"
                raise PipelineError(msg)
            written |= hydrator.writes
        for rule in self.filters:
            _check_reads(rule.name, rule.reads, written)
        for scorer in self.scorers:
            _check_reads(scorer.name, scorer.reads, written)
        _check_reads("selector", self.selector.reads, written)


def _check_reads(name: str, reads: frozenset[str], written: set[str]) -> None:
    missing = reads - written
    if missing:
        msg = f"{name} reads {sorted(missing)}, which no component before it writes"
        raise PipelineError(msg)


class FeedPipeline:
    """Runs the stages of a feed under a soft deadline for its sources."""

    def __init__(self, stages: Stages, source_deadline_ms: float = 40.0) -> None:
        self._stages = stages
        self._deadline_ns = int(source_deadline_ms * 1e6)

    def run(self, query: FeedQuery, policy: Policy) -> Ranked:
        """Rank one feed; StageFailed where a component failed that cannot be done without."""
        trace = Trace()
        context = self._timed(trace, "query", lambda: self._query(query, policy, trace))
        candidates = self._timed(trace, "sources", lambda: self._retrieve(context, trace))
        return self._order(context, candidates, trace)

    def rank(self, query: FeedQuery, policy: Policy, candidates: Candidates) -> Ranked:
        """Rank given candidates (columns of `RETRIEVED`) with the same stages."""
        trace = Trace()
        context = self._timed(trace, "query", lambda: self._query(query, policy, trace))
        return self._order(context, candidates, trace)

    def _order(self, context: QueryContext, candidates: Candidates, trace: Trace) -> Ranked:
        hydrated = self._timed(trace, "hydrate", lambda: self._hydrate(context, candidates, trace))
        kept, removed = self._timed(trace, "filter", lambda: self._filter(context, hydrated, trace))
        scored, ledger = self._timed(trace, "score", lambda: self._score(context, kept, trace))
        selected = self._timed(
            trace, "select", lambda: self._select(context, scored, ledger, trace)
        )
        return Ranked(context, scored, ledger, selected, removed, trace)

    def _query(self, query: FeedQuery, policy: Policy, trace: Trace) -> QueryContext:
        viewer = self._stages.viewer
        context = self._must(viewer, trace, viewer.context, query, policy)
        if context.viewer_slot < 0:
            trace.reasons.append(DegradeReason.UNKNOWN_VIEWER)
        for family in self._stages.families:
            self._guard(family, trace, family.fold_in, context)
        return context

    def _select(
        self, context: QueryContext, candidates: Candidates, ledger: Ledger, trace: Trace
    ) -> Selected:
        selector = self._stages.selector
        return self._must(selector, trace, selector.select, context, candidates, ledger.value)

    def _retrieve(self, context: QueryContext, trace: Trace) -> Candidates:
        started = perf_counter_ns()
        found = []
        for source in self._stages.sources:
            limit = context.policy.quotas.get(source.source, 0)
            if limit <= 0:
                continue
            if perf_counter_ns() - started > self._deadline_ns:
                trace.fault(Fault(OnError.SKIP, DegradeReason.SOURCE_DEADLINE))
                trace.source_yield[source.source] = 0
                continue
            slots = self._guard(source, trace, source.find, context, limit)
            trace.source_yield[source.source] = 0 if slots is None else len(slots)
            if slots is not None:
                found.append((source.source.bit, slots))
        candidates, duplicates = merge(
            found, self._stages.capacity(), context.policy.max_candidates
        )
        trace.source_yield["duplicate"] = duplicates
        return candidates

    def _hydrate(self, context: QueryContext, candidates: Candidates, trace: Trace) -> Candidates:
        for hydrator in self._stages.hydrators:
            columns = self._must(hydrator, trace, hydrator.columns, context, candidates)
            if columns.keys() != hydrator.writes:
                msg = f"{hydrator.name} declares {sorted(hydrator.writes)}, wrote {sorted(columns)}"
                raise PipelineError(msg)
            candidates = candidates.with_columns(columns)
        return candidates

    def _filter(
        self, context: QueryContext, candidates: Candidates, trace: Trace
    ) -> tuple[Candidates, Removed]:
        ids = [np.empty(0, dtype=np.int64)]
        reasons = [np.empty(0, dtype=np.int8)]
        for rule in self._stages.filters:
            keep = self._guard(rule, trace, rule.keep, context, candidates)
            if keep is None or keep.all():
                continue
            gone = candidates[POST_ID][~keep]
            ids.append(gone)
            reasons.append(np.full(len(gone), rule.removal, dtype=np.int8))
            candidates = candidates.take(keep)
        return candidates, Removed(np.concatenate(ids), np.concatenate(reasons))

    def _score(
        self, context: QueryContext, candidates: Candidates, trace: Trace
    ) -> tuple[Candidates, Ledger]:
        for scorer in self._stages.scorers:
            level = scorer.level(context.policy)
            if level is None:
                continue
            scored = self._guard(scorer, trace, scorer.score, context, candidates)
            if scored is None:
                continue
            trace.level = worst(trace.level, level)
            return candidates.with_columns(scored.columns), scored.ledger
        raise StageFailed("scorers", DegradeReason.RANKER_FAILED)

    def _guard(
        self,
        component: Component,
        trace: Trace,
        call: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """Run a component; its failure becomes its declared fault. An edge: catches everything."""
        try:
            return call(*args, **kwargs)
        except Exception as error:
            fault = reason_of(error, component.fault)
            trace.failures.append(f"{component.name}: {type(error).__name__}: {error}")
            if fault.on_error is OnError.FAIL:
                trace.fault(fault)
                raise StageFailed(component.name, fault.reason) from error
            trace.fault(fault)
            return None

    def _must(
        self,
        component: Component,
        trace: Trace,
        call: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a component that cannot be done without, whatever it declares."""
        answer = self._guard(component, trace, call, *args, **kwargs)
        if answer is None:
            raise StageFailed(component.name, component.fault.reason)
        return answer

    @staticmethod
    def _timed(trace: Trace, stage: str, call: Callable[[], T]) -> T:
        started = perf_counter_ns()
        try:
            return call()
        finally:
            trace.stage_us[stage] = (perf_counter_ns() - started) // 1000


def reason_of(error: Exception, declared: Fault) -> Fault:
    """Let an error that knows its own reason name it; otherwise the declared one holds."""
    reason = getattr(error, "degrade_reason", None)
    if isinstance(reason, DegradeReason):
        return Fault(declared.on_error, reason, declared.level)
    return declared

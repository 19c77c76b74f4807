"""The stage runner: walks the ordered stages, times them, and turns faults into reasons."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Final, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DEGRADE_ORDER, DegradeLevel, DegradeReason, worst
from contracts.errors import PipelineError
from contracts.policy import Policy
from contracts.query import FeedQuery
from contracts.value import Ledger
from serving.breakers import Breakers
from serving.candidates import Candidates, merge
from serving.columns import POST_ID, RETRIEVED
from serving.components import (
    NO_DEADLINES,
    Component,
    Deadlines,
    Fault,
    Filter,
    Hydrator,
    OnError,
    Reader,
    Scorer,
    Selected,
    Selector,
    Source,
)
from serving.context import QueryContext
from serving.stages.query_hydrators import FamilyHydrator, ViewerHydrator
from serving.trace import Trace

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_RANK_BY: Final = 0.6
"""Share of the feed's budget that may be spent when a scorer starts that another can replace."""
_FINISH_BY: Final = 0.9
"""Share that may be spent when the last scorer starts; later, the fallback ladder answers."""
_PIPELINE_LEVELS: Final = DEGRADE_ORDER[: DEGRADE_ORDER.index(DegradeLevel.CACHED)]


class StageFailed(Exception):
    """A component failed whose declaration says that the ranking cannot go on."""

    def __init__(self, component: str, reason: DegradeReason, trace: Trace) -> None:
        super().__init__(f"{component}: {reason}")
        self.reason = reason
        trace.note(reason)
        self.reasons = tuple(trace.reasons)
        """This reason and every other of the run, in the order in which they arose."""


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
            _check_reads(hydrator, written)
            twice = hydrator.writes & written
            if twice:
                msg = f"{hydrator.name} writes {sorted(twice)}, which another component writes"
                raise PipelineError(msg)
            written |= hydrator.writes
        for reader in (*self.filters, *self.scorers, self.selector):
            _check_reads(reader, written)


def _check_reads(reader: Reader, written: set[str]) -> None:
    missing = sorted(reader.reads - written)
    if missing:
        raise PipelineError(f"{reader.name} reads {missing}, which no component before it writes")


class StageRunner:
    """Runs components, each under its breaker and its deadline.

    An edge: any error becomes what the component declared. Nothing is interrupted: a late answer
    is used, and counts as a failure of the component, so that its breaker opens.
    """

    def __init__(
        self, deadlines: Deadlines = NO_DEADLINES, scorers: Sequence[Component] = ()
    ) -> None:
        self.breakers = Breakers()
        self._deadlines = deadlines
        self._scorers = frozenset(scorer.name for scorer in scorers)

    def guard(
        self,
        component: Component,
        trace: Trace,
        call: Callable[[*Arguments], T],
        *arguments: *Arguments,
    ) -> T | None:
        """Run a component; None, or StageFailed, where it failed or is left alone."""
        breaker = self.breakers[component.name]
        if not breaker.calm and breaker.refuses:
            trace.fault(fault := component.fault)
            trace.note(DegradeReason.BREAKER_OPEN)
            if fault.on_error is OnError.FAIL:
                raise StageFailed(component.name, fault.reason, trace)
            return None
        started = perf_counter_ns()
        try:
            answer = call(*arguments)
        except Exception as error:
            breaker.failed()
            trace.failures.append(f"{component.name}: {type(error).__name__}: {error}")
            trace.fault(fault := reason_of(error, component.fault))
            if fault.on_error is OnError.FAIL:
                raise StageFailed(component.name, fault.reason, trace) from error
            return None
        taken_ms = (perf_counter_ns() - started) / 1e6
        if taken_ms > self._limit_ms(component):
            breaker.failed()
            trace.failures.append(f"{component.name}: took {taken_ms:.0f} ms")
            trace.note(DegradeReason.COMPONENT_SLOW)
        elif not breaker.calm:
            breaker.succeeded()
        return answer

    def must(
        self,
        component: Component,
        trace: Trace,
        call: Callable[[*Arguments], T],
        *arguments: *Arguments,
    ) -> T:
        """Run a component that cannot be done without, whatever it declares."""
        answer = self.guard(component, trace, call, *arguments)
        if answer is None:
            raise StageFailed(component.name, component.fault.reason, trace)
        return answer

    def _limit_ms(self, component: Component) -> float:
        if component.fault.on_error is OnError.FAIL:
            return self._deadlines.feed_ms
        scores = component.name in self._scorers
        return self._deadlines.scorer_ms if scores else self._deadlines.component_ms


class FeedPipeline:
    """Runs the stages of a feed under deadlines; its sources have one together, a soft one."""

    def __init__(
        self, stages: Stages, source_deadline_ms: float = 40.0, deadlines: Deadlines = NO_DEADLINES
    ) -> None:
        self._stages = stages
        self._deadline_ns = source_deadline_ms * 1e6
        self._budget_ns = deadlines.feed_ms * 1e6
        self._runner = StageRunner(deadlines, stages.scorers)

    @property
    def open_breakers(self) -> tuple[str, ...]:
        """The names of the components that are left alone now."""
        return self._runner.breakers.open

    def run(self, query: FeedQuery, policy: Policy) -> Ranked:
        """Rank one feed; StageFailed where a component failed that cannot be done without."""
        trace = Trace(self._budget_ns)
        with _edge(trace):
            context = self._timed(trace, "query", lambda: self._query(query, policy, trace))
            _in_time(trace)
            candidates = self._timed(trace, "sources", lambda: self._retrieve(context, trace))
            _in_time(trace)
            return self._order(context, candidates, trace)

    def rank(self, query: FeedQuery, policy: Policy, candidates: Candidates) -> Ranked:
        """Rank given candidates (columns of `RETRIEVED`) with the same stages, in any time."""
        trace = Trace()
        with _edge(trace):
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
        context = self._runner.must(viewer, trace, viewer.context, query, policy)
        if context.viewer_slot < 0:
            trace.reasons.append(DegradeReason.UNKNOWN_VIEWER)
        for family in self._stages.families:
            self._runner.guard(family, trace, family.fold_in, context)
        return context

    def _select(
        self, context: QueryContext, candidates: Candidates, ledger: Ledger, trace: Trace
    ) -> Selected:
        selector = self._stages.selector
        return self._runner.must(
            selector, trace, selector.select, context, candidates, ledger.value
        )

    def _retrieve(self, context: QueryContext, trace: Trace) -> Candidates:
        started = perf_counter_ns()
        found = []
        for source in self._stages.sources:
            limit = context.policy.quotas.get(source.source, 0)
            if limit <= 0:
                continue
            if perf_counter_ns() - started > self._deadline_ns:
                trace.fault(replace(source.fault, reason=DegradeReason.SOURCE_DEADLINE))
                trace.source_yield[source.source] = 0
                continue
            slots = self._runner.guard(source, trace, source.find, context, limit)
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
            wider = self._runner.guard(hydrator, trace, _widened, hydrator, context, candidates)
            if wider is None:
                neutral = hydrator.neutral(len(candidates))
                if neutral is None:
                    raise StageFailed(hydrator.name, hydrator.fault.reason, trace)
                wider = candidates.with_columns(neutral)
            candidates = wider
        return candidates

    def _filter(
        self, context: QueryContext, candidates: Candidates, trace: Trace
    ) -> tuple[Candidates, Removed]:
        ids = [np.empty(0, dtype=np.int64)]
        reasons = [np.empty(0, dtype=np.int8)]
        for rule in self._stages.filters:
            keep = self._runner.guard(rule, trace, _kept, rule, context, candidates)
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
        usable = [
            (scorer, level)
            for scorer in self._stages.scorers
            if (level := scorer.level(context.policy)) in _PIPELINE_LEVELS
        ]
        for place, (scorer, level) in enumerate(usable, start=1):
            last = place == len(usable)
            if trace.spent > (_FINISH_BY if last else _RANK_BY):
                trace.fault(replace(scorer.fault, reason=DegradeReason.FEED_DEADLINE))
                continue
            scored = self._runner.guard(scorer, trace, scorer.score, context, candidates)
            if scored is not None:
                trace.level, trace.scorer = worst(trace.level, level), scorer.name
                return candidates.with_columns(scored.columns), scored.ledger
        reason = DegradeReason.RANKER_FAILED
        if DegradeReason.FEED_DEADLINE in trace.reasons:
            reason = DegradeReason.FEED_DEADLINE
        raise StageFailed("scorers", reason, trace)

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


def _widened(hydrator: Hydrator, context: QueryContext, candidates: Candidates) -> Candidates:
    columns = hydrator.columns(context, candidates)
    if columns.keys() != hydrator.writes:
        msg = f"{hydrator.name} declares {sorted(hydrator.writes)}, wrote {sorted(columns)}"
        raise PipelineError(msg)
    return candidates.with_columns(columns)


def _kept(rule: Filter, context: QueryContext, candidates: Candidates) -> NDArray[np.bool_]:
    keep = rule.keep(context, candidates)
    if keep.dtype != np.bool_ or keep.shape != (len(candidates),):
        msg = f"{rule.name} gave {keep.dtype} {keep.shape} for a mask of {len(candidates)}"
        raise PipelineError(msg)
    return keep


def _in_time(trace: Trace) -> None:
    if trace.spent > _FINISH_BY:
        raise StageFailed("feed", DegradeReason.FEED_DEADLINE, trace)


@contextmanager
def _edge(trace: Trace) -> Iterator[None]:
    """Let nothing but StageFailed out: an error that nobody declared fails the feed, no more."""
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        raise StageFailed("pipeline", DegradeReason.FEED_FAILED, trace) from error

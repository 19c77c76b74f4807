"""The stage runner: declared columns, declared faults."""

from dataclasses import replace

import numpy as np
import pytest

from contracts.degrade import DegradeLevel, DegradeReason, RemovalReason, SourceName
from contracts.errors import PipelineError
from contracts.ids import FeedId, UserId
from contracts.policy import Exploration, Policy
from contracts.query import FeedQuery
from contracts.value import ledger
from features.history import empty_histories
from serving.columns import AUTHOR, IMPRESSIONS, IN_NETWORK, POSITIVES, POST_ID, SLOT, TOPIC
from serving.components import Fault, OnError, Scored
from serving.context import QueryContext
from serving.pipeline import FeedPipeline, StageFailed, Stages
from serving.stages.selection import SlateSelector

QUERY = FeedQuery(FeedId(1), UserId(2), 1_000_000, 10)
POLICY = Policy(name="p", exploration=Exploration(temperature=0.0))
_NO = np.empty(0, dtype=np.int64)


class Viewer:
    name = "viewer"
    fault = Fault(OnError.FAIL, DegradeReason.QUERY_HYDRATOR_FAILED)

    def context(self, query, policy):
        return QueryContext(
            query, policy, 0, 0, empty_histories(1), 0, _NO, _NO, _NO, _NO, _NO, _NO
        )


class Ten:
    name = "source.trending"
    fault = Fault(OnError.SKIP, DegradeReason.SOURCE_FAILED)
    source = SourceName.TRENDING

    def find(self, context, limit):
        return np.arange(10)[:limit]


class Facts:
    name = "facts"
    fault = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads = frozenset({SLOT})
    writes = frozenset({POST_ID, AUTHOR, TOPIC, IN_NETWORK, IMPRESSIONS, POSITIVES})

    def neutral(self, rows):
        return None

    def columns(self, context, candidates):
        slots = candidates[SLOT]
        none = np.full(len(slots), -1)
        return {
            POST_ID: slots + 100,
            AUTHOR: none,
            TOPIC: none,
            IN_NETWORK: np.zeros(len(slots), dtype=bool),
            IMPRESSIONS: np.full(len(slots), 50.0, np.float32),
            POSITIVES: np.zeros(len(slots), np.float32),
        }


class Odd:
    name = "odd"
    fault = Fault(OnError.SKIP, DegradeReason.FILTER_FAILED)
    reads = frozenset({POST_ID})
    removal = RemovalReason.SEEN

    def keep(self, context, candidates):
        return candidates[POST_ID] % 2 == 0


class Plain:
    name = "plain"
    fault = Fault(OnError.DEGRADE, DegradeReason.RANKER_FAILED, DegradeLevel.FIXED_BLEND)
    reads = frozenset({SLOT})

    def level(self, policy):
        return DegradeLevel.FULL

    def score(self, context, candidates):
        return Scored({}, ledger({"slot": candidates[SLOT].astype(np.float64)}, {}, {}))


class Fallback(Plain):
    name = "fallback"

    def level(self, policy):
        return DegradeLevel.FIXED_BLEND


STAGES = Stages(
    viewer=Viewer(),
    families=[],
    sources=[Ten()],
    hydrators=[Facts()],
    filters=[Odd()],
    scorers=[Plain(), Fallback()],
    selector=SlateSelector(lambda slots: np.zeros(len(slots), np.uint64)),
    capacity=lambda: 10,
)


class Breaks:
    """Makes any component fail, keeping what it declares."""

    def __init__(self, component, error=None):
        self._component = component
        self._error = error or RuntimeError("broken")

    def __getattr__(self, name):
        if name in {"context", "find", "columns", "keep", "score", "select", "fold_in"}:
            return self._fail
        return getattr(self._component, name)

    def _fail(self, *_arguments):
        raise self._error


def test_kept_and_removed_are_the_input():
    ranked = FeedPipeline(STAGES).run(QUERY, POLICY)
    ordered = ranked.candidates[POST_ID][ranked.selected.slate]
    assert ordered.tolist() == [108, 106, 104, 102, 100]
    assert sorted([*ordered.tolist(), *ranked.removed.post_ids.tolist()]) == list(range(100, 110))
    assert set(ranked.removed.reasons.tolist()) == {RemovalReason.SEEN}
    assert ranked.trace.level is DegradeLevel.FULL


@pytest.mark.parametrize(
    ("change", "level", "reason"),
    [
        ({"scorers": [Breaks(Plain()), Fallback()]}, DegradeLevel.FIXED_BLEND, "ranker_failed"),
        ({"sources": [Ten(), Breaks(Ten())]}, DegradeLevel.FULL, "source_failed"),
        ({"filters": [Breaks(Odd())]}, DegradeLevel.FULL, "filter_failed"),
    ],
)
def test_a_fault_becomes_what_the_component_declared(change, level, reason):
    ranked = FeedPipeline(replace(STAGES, **change)).run(QUERY, POLICY)
    assert ranked.trace.level is level
    assert ranked.trace.reasons == [reason]
    assert "broken" in ranked.trace.failures[0]
    assert len(ranked.selected.slate)


def test_an_error_that_knows_its_reason_names_it():
    error = TimeoutError("slow")
    error.degrade_reason = DegradeReason.RANKER_TIMEOUT
    stages = replace(STAGES, scorers=[Breaks(Plain(), error), Fallback()])
    assert FeedPipeline(stages).run(QUERY, POLICY).trace.reasons == ["ranker_timeout"]


@pytest.mark.parametrize(
    "change",
    [
        {"viewer": Breaks(Viewer())},
        {"hydrators": [Breaks(Facts())]},
        {"selector": Breaks(STAGES.selector)},
        {"scorers": [Breaks(Plain()), Breaks(Fallback())]},
    ],
)
def test_what_cannot_be_done_without_fails_the_run(change):
    with pytest.raises(StageFailed):
        FeedPipeline(replace(STAGES, **change)).run(QUERY, POLICY)


def test_slow_sources_are_cut_by_the_deadline_and_said():
    ranked = FeedPipeline(replace(STAGES, sources=[Ten(), Ten()]), 0.0).run(QUERY, POLICY)
    assert DegradeReason.SOURCE_DEADLINE in ranked.trace.reasons


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hydrators": []}, r"odd reads \['post_id'\]"),
        ({"hydrators": [Facts(), Facts()]}, "which another component writes"),
    ],
)
def test_stages_that_do_not_fit_are_a_build_error(change, match):
    with pytest.raises(PipelineError, match=match):
        replace(STAGES, **change)

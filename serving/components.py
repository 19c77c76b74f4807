"""The contracts of the stages: one verb each, with declared reads and writes."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason, RemovalReason, SourceName
from contracts.policy import Policy
from contracts.settings import Settings
from contracts.value import Ledger
from serving.candidates import Candidates, Column
from serving.context import QueryContext
from serving.stages.slate import Pool, Slate


class OnError(StrEnum):
    """What a component's failure means, declared at the component."""

    FAIL = "fail"  # the whole ranking fails; the feed falls to the next level
    SKIP = "skip"  # go on without it, at the same level, with the reason named
    DEGRADE = "degrade"  # go on without it, at its declared level


@dataclass(frozen=True, slots=True)
class Fault:
    """What the stage runner does and says when a component fails."""

    on_error: OnError
    reason: DegradeReason
    level: DegradeLevel = DegradeLevel.FULL


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long things may take, in milliseconds; checked where Python regains control."""

    feed_ms: float = inf
    """The whole feed, and any component that cannot be left out."""
    component_ms: float = inf
    """Any other component; its late answer is used, and counts against it."""
    scorer_ms: float = inf

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Read the deadlines of a server."""
        return cls(
            settings.feed_budget_ms, settings.component_deadline_ms, settings.ranker_timeout_ms
        )


NO_DEADLINES: Final = Deadlines()


class Component(Protocol):
    """What every stage says of itself."""

    @property
    def name(self) -> str: ...
    @property
    def fault(self) -> Fault: ...


class Source(Component, Protocol):
    """Query to post slots, best first."""

    @property
    def source(self) -> SourceName: ...

    def find(self, context: QueryContext, limit: int) -> NDArray[np.int64]:
        """Give up to `limit` post slots, best first, without duplicates."""


class Reader(Component, Protocol):
    """A stage over the candidate table."""

    @property
    def reads(self) -> frozenset[str]: ...


class Hydrator(Reader, Protocol):
    """Same rows, same order, more columns."""

    @property
    def writes(self) -> frozenset[str]: ...

    def columns(self, context: QueryContext, candidates: Candidates) -> dict[str, Column]: ...

    def neutral(self, rows: int) -> dict[str, Column] | None:
        """Give columns to go on with when it failed; None where there is no going on."""


class Filter(Reader, Protocol):
    """Keeps rows or removes them, with one reason."""

    @property
    def removal(self) -> RemovalReason: ...

    def keep(self, context: QueryContext, candidates: Candidates) -> NDArray[np.bool_]:
        """Give a mask [n], True for rows that stay."""


class Scored(NamedTuple):
    """What a scorer gives: columns that it wrote, and the ledger of values."""

    columns: dict[str, Column]
    ledger: Ledger


class Scorer(Reader, Protocol):
    """Candidates to values; the first scorer that answers writes its columns."""

    def level(self, policy: Policy) -> DegradeLevel | None:
        """Give the best level that a feed ordered by this scorer can claim; None: not for it."""

    def score(self, context: QueryContext, candidates: Candidates) -> Scored: ...


class Selected(NamedTuple):
    """An ordered slate and an ordered reserve, as row positions of the candidate table."""

    slate: NDArray[np.int64]
    reserve: NDArray[np.int64]
    multiplier: NDArray[np.float64]
    """[len(slate)]: what author decay and topic spread made of each chosen row's value."""
    followed_share: float
    pool_rows: NDArray[np.int64]
    """[p]: the rows that selection looked at, best value first."""
    pool: Pool
    chosen: Slate
    """The slate as rows of the pool, with propensities."""


class Selector(Reader, Protocol):
    """Candidates and values to an order."""

    def select(
        self, context: QueryContext, candidates: Candidates, values: NDArray[np.float64]
    ) -> Selected: ...

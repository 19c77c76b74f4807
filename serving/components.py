"""The contracts of the stages: one verb each, with declared reads and writes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason, RemovalReason, SourceName
from contracts.policy import Policy
from contracts.value import Ledger
from serving.candidates import Candidates, Column
from serving.context import QueryContext


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
        ...


class Hydrator(Component, Protocol):
    """Same rows, same order, more columns."""

    @property
    def reads(self) -> frozenset[str]: ...
    @property
    def writes(self) -> frozenset[str]: ...

    def columns(self, context: QueryContext, candidates: Candidates) -> dict[str, Column]: ...


class Filter(Component, Protocol):
    """Keeps rows or removes them, with one reason."""

    @property
    def reads(self) -> frozenset[str]: ...
    @property
    def removal(self) -> RemovalReason: ...

    def keep(self, context: QueryContext, candidates: Candidates) -> NDArray[np.bool_]:
        """Give a mask [n], True for rows that stay."""
        ...


class Scored(NamedTuple):
    """What a scorer gives: columns that it wrote, and the ledger of values."""

    columns: dict[str, Column]
    ledger: Ledger


class Scorer(Component, Protocol):
    """Candidates to values; the first scorer that answers writes its columns."""

    @property
    def reads(self) -> frozenset[str]: ...

    def level(self, policy: Policy) -> DegradeLevel | None:
        """Give the best level that a feed ordered by this scorer can claim; None: not for it."""
        ...

    def score(self, context: QueryContext, candidates: Candidates) -> Scored: ...


class Selected(NamedTuple):
    """An ordered slate and an ordered reserve, as row positions of the candidate table."""

    slate: NDArray[np.int64]
    reserve: NDArray[np.int64]
    multiplier: NDArray[np.float64]
    """[len(slate)]: what author decay and topic spread made of each chosen row's value."""
    followed_share: float


class Selector(Component, Protocol):
    """Candidates and values to an order."""

    @property
    def reads(self) -> frozenset[str]: ...

    def select(
        self, context: QueryContext, candidates: Candidates, values: NDArray[np.float64]
    ) -> Selected: ...

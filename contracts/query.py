"""One feed request, as every stage sees it: who, when, how much. Time comes only from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from contracts.ids import FeedId, UserId


class Assignment(NamedTuple):
    """An experiment arm that holds for a viewer in one layer."""

    experiment: str
    arm: str
    phase: int


@dataclass(frozen=True, slots=True)
class FeedQuery:
    """Ask for one ranked feed."""

    feed_id: FeedId
    viewer_id: UserId
    now_us: int
    """Microseconds since 1970 UTC: the only clock that a stage may read."""
    limit: int
    """Posts on the first page, 1 to 100."""
    assignments: Mapping[str, Assignment] = field(default_factory=lambda: MappingProxyType({}))

"""What happened in one run of the stages: times, yields, faults. One of each feed."""

from dataclasses import dataclass, field
from math import inf
from time import perf_counter_ns

from contracts.degrade import DegradeLevel, DegradeReason, worst
from serving.components import Fault


@dataclass(slots=True)
class Trace:
    """The clock of one run, and what it has to tell."""

    budget_ns: float = inf
    started_ns: int = field(default_factory=perf_counter_ns)
    stage_us: dict[str, int] = field(default_factory=dict)
    source_yield: dict[str, int] = field(default_factory=dict)
    scorer: str = ""
    """The scorer that answered."""
    level: DegradeLevel = DegradeLevel.FULL
    reasons: list[DegradeReason] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Component and error of each fault, for the log; never in a response."""

    def fault(self, fault: Fault) -> None:
        """Take a fault's level and reason into account."""
        self.level = worst(self.level, fault.level)
        self.note(fault.reason)

    def note(self, reason: DegradeReason) -> None:
        """Name a reason once."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    @property
    def spent(self) -> float:
        """The share of the feed's budget that is spent."""
        return (perf_counter_ns() - self.started_ns) / self.budget_ns

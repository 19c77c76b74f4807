"""The doctor: from what was measured to what binds; a pure function over plain data.

`serving.watching.checks` is the list of what it looks at, root causes first.
`pipelines.doctor` measures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from math import inf
from typing import NamedTuple

from contracts.funnel import FunnelReport


@dataclass(frozen=True, slots=True)
class Observed:
    """What was measured of a server, a home folder, or both; None where it was not.

    A problem is a sentence's end that says what is wrong; empty where nothing is.
    """

    server_problem: str | None = None
    home_problem: str | None = None
    disk_used: float | None = None
    """Share."""
    published: bool | None = None
    bundle_problem: str | None = None
    bundle_age_days: float | None = None
    """From the newest action that the bundle learned from to the newest event."""
    ranker_healthy: bool | None = None
    online_store_problem: str | None = None
    lag_events: int | None = None
    """Events that feeds have not applied."""
    log_events: int | None = None
    unfolded_events: int | None = None
    """Events after the checkpoint; all where there is none that this code can read."""
    ahead_hours: float | None = None
    """By how much the newest event is ahead of the server's clock; negative: behind."""
    records_due: int | None = None
    records_missing: int | None = None
    open_breakers: tuple[str, ...] | None = None
    funnel: FunnelReport | None = None

    def over(self, other: "Observed") -> "Observed":
        """Fill in what was not measured here."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: v for name, v in mine.items() if v is not None})


class Status(StrEnum):
    """How a check came out, worst first."""

    BROKEN = "broken"
    WARNING = "warning"
    OK = "ok"
    UNKNOWN = "unknown"


class Reading(NamedTuple):
    """What a check measured: a number, the greater the worse, and words for its sentence."""

    value: float
    which: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that may bind: what it measures, from where on it is bad, what to do."""

    name: str
    measures: str
    read: Callable[[Observed], Reading | None]
    warning: float
    broken: float
    """`inf`: never worse than a warning."""
    sentence: str
    """With the fields `value`, `which` and `why`."""
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    name: str
    status: Status
    value: float | None
    measures: str
    warning: float
    broken: float
    sentence: str
    """Empty where nothing is wrong or nothing was measured."""
    advice: str

    @property
    def bad(self) -> bool:
        """Say whether this may be what binds."""
        return self.status in {Status.BROKEN, Status.WARNING}


def diagnose(observed: Observed, checks: Sequence[Check]) -> tuple[Finding, ...]:
    """Apply all checks: the worst findings first, and of equals the one nearest to the cause."""
    findings = [_find(observed, check) for check in checks]
    order = list(Status)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.status)))


def binding(findings: Sequence[Finding]) -> Finding | None:
    """Give the one finding that binds; None where nothing does."""
    return findings[0] if findings and findings[0].bad else None


def _find(observed: Observed, check: Check) -> Finding:
    reading = check.read(observed)
    status = Status.UNKNOWN if reading is None else _status(check, reading.value)
    sentence = ""
    if reading is not None and status in {Status.BROKEN, Status.WARNING}:
        sentence = check.sentence.format(**reading._asdict())
    return Finding(
        check.name, status, None if reading is None else reading.value, check.measures,
        check.warning, check.broken, sentence, check.advice,
    )  # fmt: skip


def _status(check: Check, value: float) -> Status:
    if value >= check.broken and check.broken < inf:
        return Status.BROKEN
    return Status.WARNING if value >= check.warning else Status.OK

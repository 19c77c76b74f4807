"""Time as microseconds since 1970 UTC, and the aware datetimes of the edges."""

from dataclasses import dataclass
from datetime import UTC, datetime
from time import time_ns
from typing import Final

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3600 * SECOND_US
DAY_US: Final = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of a server: the wall clock, moved by an offset.

    An offset lets archived data be served as if it were fresh: with a clock that stands at the
    end of the data, recency means at serving what it meant in training.
    """

    offset_us: int = 0

    def now_us(self) -> int:
        """Read the time, in microseconds since 1970 UTC."""
        return now_us() + self.offset_us


def now_us() -> int:
    """Read the wall clock, in microseconds since 1970 UTC."""
    return time_ns() // 1000


def to_datetime(us: int) -> datetime:
    """Turn microseconds since 1970 into an aware UTC datetime."""
    return datetime.fromtimestamp(us / SECOND_US, tz=UTC)


def to_us(moment: datetime) -> int:
    """Turn an aware datetime into microseconds; ValueError on a naive one."""
    if moment.tzinfo is None:
        msg = f"a time needs a zone, got naive {moment.isoformat()}"
        raise ValueError(msg)
    return round(moment.timestamp() * SECOND_US)

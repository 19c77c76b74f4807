"""Reading times: ISO 8601, epoch seconds, milliseconds or microseconds, Parquet timestamps."""

from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.clock import to_datetime

ABSENT_US: Final = np.iinfo(np.int64).min
"""Stands for an absent time in int64 columns; never stored."""
UNREADABLE_US: Final = ABSENT_US + 1
_FARTHEST_US: Final = 9e18
_YEAR_1_US: Final = -62_135_596_800_000_000
_YEAR_10000_US: Final = 253_402_300_800_000_000

_FACTORS: Final = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
_WORDS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_NUMBER: Final = r"^\s*[+-]?\d{1,19}(\.\d+)?\s*$"
_ZONE: Final = r"\d(Z|z|[+-]\d{2}(:?\d{2})?)$"
_HAS_CLOCK: Final = r"\d[T ]\d"


class TimeColumn:
    """Reads one time column batch by batch; the unit is guessed once and kept, and said."""

    def __init__(self, name: str, unit: str | None = None) -> None:
        self._name = name
        self._unit = unit
        self.notes: list[str] = []

    def read(self, column: pa.Array) -> NDArray[np.int64]:
        """Give microseconds [n]; ABSENT_US where null, UNREADABLE_US where it is no time."""
        if pa.types.is_timestamp(column.type):
            return self._typed(column)
        result = np.full(len(column), ABSENT_US, dtype=np.int64)
        filled = ~column.is_null().to_numpy(zero_copy_only=False)
        numeric = pc.match_substring_regex(column, _NUMBER).fill_null(False)
        is_number = numeric.to_numpy(zero_copy_only=False)
        if is_number.any():
            result[is_number] = self._epochs(column.filter(numeric))
        is_text = filled & ~is_number
        if is_text.any():
            result[is_text] = self._texts(column.filter(pa.array(is_text)))
        return result

    def _typed(self, column: pa.Array) -> NDArray[np.int64]:
        if column.type.tz is None:
            self._say(f"{self._name} has no zone: taken as UTC")
        raw = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        factor = _FACTORS[column.type.unit]
        micros = raw // 1000 if factor < 1 else raw * int(factor)  # what overflows is not used
        far = np.abs(raw.astype(np.float64)) * factor > _FARTHEST_US
        absent = column.is_null().to_numpy(zero_copy_only=False)
        return np.where(absent, ABSENT_US, np.where(far, UNREADABLE_US, micros))

    def _epochs(self, column: pa.Array) -> NDArray[np.int64]:
        numbers = pc.utf8_trim_whitespace(column).cast(pa.float64())
        values: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False)
        if self._unit is None:
            self._unit = _guess_unit(float(np.median(values)))
            found = _scaled(values, self._unit)
            datable = found[(found >= _YEAR_1_US) & (found < _YEAR_10000_US)]
            example = (
                f"{to_datetime(int(datable[0])):%Y-%m-%d %H:%M:%S} UTC" if len(datable) else ""
            )
            self._say(
                f"{self._name} read as epoch {_WORDS[self._unit]} (guessed; the first is "
                f"{example or 'no date'})"
            )
        return _scaled(values, self._unit)

    def _texts(self, column: pa.Array) -> NDArray[np.int64]:
        texts = pc.utf8_trim_whitespace(column)
        has_zone = pc.and_(
            pc.match_substring_regex(texts, _ZONE), pc.match_substring_regex(texts, _HAS_CLOCK)
        ).to_numpy(zero_copy_only=False)
        if not has_zone.all():
            self._say(f"{self._name} has no zone: taken as UTC")
        result = np.empty(len(texts), dtype=np.int64)
        for mask, zone in ((has_zone, "UTC"), (~has_zone, None)):
            if mask.any():
                result[mask] = _iso(texts.filter(pa.array(mask)), zone)
        return result

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _guess_unit(typical: float) -> str:
    """Guess by size: seconds until the year 5138, and so on."""
    size = abs(typical)
    if size < 1e11:
        return "s"
    if size < 1e14:
        return "ms"
    return "us" if size < 1e17 else "ns"


def _scaled(values: NDArray[np.float64], unit: str) -> NDArray[np.int64]:
    micros = np.round(values * _FACTORS[unit])
    fits = np.abs(micros) < _FARTHEST_US
    return np.where(fits, np.where(fits, micros, 0.0).astype(np.int64), UNREADABLE_US)


def _iso(texts: pa.Array, zone: str | None) -> NDArray[np.int64]:
    try:
        values = texts.cast(pa.timestamp("us", tz=zone)).cast(pa.int64())
        numbers: NDArray[np.int64] = values.to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # one of them is odd: find out which
        numbers = np.array([_iso_one(text) for text in texts.to_pylist()], dtype=np.int64)
    return numbers


def _iso_one(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return int(UNREADABLE_US)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds

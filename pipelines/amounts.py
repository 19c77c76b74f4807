"""Amounts as the command line takes them: a number and its unit."""

import re
from typing import Final

from contracts.errors import InvalidInput

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MEGABYTES: Final = {"m": 1.0, "g": 1024.0, "t": 1024.0**2}


def seconds_of(text: str) -> float:
    """Read a duration, `90s`, `10m`, `1.5h` or `1d`, in seconds; InvalidInput where it is none."""
    return _amount(text, _SECONDS, "a duration is written as 90s, 10m, 2h or 1d")


def megabytes_of(text: str) -> float:
    """Read an amount of memory, `512m` or `8g`, in MB; InvalidInput where it is none."""
    return _amount(text.lower().removesuffix("b"), _MEGABYTES, "memory is written as 512m or 8g")


def _amount(text: str, units: dict[str, float], form: str) -> float:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)([{''.join(units)}])", text.strip().lower())
    amount = float(found[1]) * units[found[2]] if found else 0.0
    if amount <= 0.0:
        raise InvalidInput(f"{form}, got {text!r}", hint="a number above 0 and its unit")
    return amount

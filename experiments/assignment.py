"""Which arm holds for whom: a hash into 10,000 buckets, which the arms of a layer share out.

A unit's bucket is BLAKE2b (RFC 7693, 64 bits, big-endian) of the text `salt:unit`, modulo 10,000:
no state, the same answer in every process and in any language. Layers have salts of their own, so
that what holds in one says nothing of another; within one, arms own ranges that do not overlap.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidInput
from contracts.query import Assignment

BUCKETS: Final = 10_000


def buckets(salt: str, units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Map units [n] to buckets [n] in [0, 10,000)."""
    start = blake2b(f"{salt}:".encode(), digest_size=8)
    digests = bytearray()
    for unit in units.tolist():  # the library hashes one message at a time
        one = start.copy()
        one.update(b"%d" % unit)
        digests += one.digest()
    return (np.frombuffer(bytes(digests), dtype=">u8") % BUCKETS).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Arm:
    """What holds for the units of buckets [first, stop)."""

    assignment: Assignment
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Layer:
    """Arms that exclude one another; units in no arm's range have none."""

    name: str
    salt: str
    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        ends = [0, *(end for arm in self.arms for end in (arm.first, arm.stop)), BUCKETS]
        if ends != sorted(ends):
            msg = f"the arms of layer {self.name!r} overlap or leave [0, {BUCKETS}): {ends[1:-1]}"
            raise InvalidInput(msg, hint="give each arm, in order, buckets of its own")

    def places(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the arms of units [n], as places in `arms` [n]; -1 where a unit has none."""
        held = buckets(self.salt, units)
        stops = np.array([arm.stop for arm in self.arms], dtype=np.int64)
        firsts = np.array([*(arm.first for arm in self.arms), BUCKETS], dtype=np.int64)
        place = np.searchsorted(stops, held, side="right")
        return np.where(firsts[place] <= held, place, -1)

    def assignment(self, unit: int) -> Assignment | None:
        """Give what holds for one unit; None where nothing does."""
        place = int(self.places(np.array([unit], dtype=np.int64))[0])
        return None if place < 0 else self.arms[place].assignment

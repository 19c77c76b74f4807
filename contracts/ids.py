"""Id domains, the namespaces of the id table, and stable 63-bit hashes."""

from enum import StrEnum
from hashlib import blake2b
from re import fullmatch
from typing import Final, NewType

UserId = NewType("UserId", int)
FeedId = NewType("FeedId", int)

UNKNOWN_ID: Final = -1
"""What an id look-up answers for an external id that the id table does not hold."""

_MASK_63: Final = (1 << 63) - 1


class Namespace(StrEnum):
    """A domain of external ids; the same text in two namespaces names two things."""

    PERSON = "person"
    POST = "post"
    TOPIC = "topic"


def hash63(*parts: str | int | bytes) -> int:
    """Hash parts to a stable non-negative 63-bit integer (BLAKE2b, RFC 7693).

    Parts are length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = blake2b(digest_size=8)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return int.from_bytes(digest.digest(), "big") & _MASK_63


def feed_id_text(feed_id: int) -> str:
    """Write a feed id as 16 lower-case hexadecimal digits, the form that the API shows."""
    return f"{feed_id:016x}"


def parse_feed_id(text: str) -> FeedId:
    """Read the form that `feed_id_text` writes; ValueError on anything else."""
    if not fullmatch("[0-9a-f]{16}", text):
        msg = f"a feed id is 16 lower-case hexadecimal digits, got {text!r}"
        raise ValueError(msg)
    value = int(text, 16)
    if value > _MASK_63:
        msg = f"feed id {text!r} is outside 63 bits"
        raise ValueError(msg)
    return FeedId(value)

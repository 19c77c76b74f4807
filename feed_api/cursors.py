"""Cursors of feed pages: opaque, versioned, signed, bound to the viewer they were made for."""

import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from contracts.errors import CursorInvalid
from contracts.settings import Settings

_VERSION: Final = 1
_PAYLOAD: Final = Struct(">BqqI")
_MAC_BYTES: Final = 16
_TEXT_LENGTH: Final = -(-(_PAYLOAD.size + _MAC_BYTES) * 4 // 3)


class Position(NamedTuple):
    """Where in which snapshot a page begins."""

    feed_id: int
    viewer_id: int
    """The viewer's id when the snapshot was made; a stranger may have got one since."""
    offset: int


class CursorSigner:
    """Writes and reads cursors under a secret key (HMAC, RFC 2104, SHA-256 cut to 128 bits)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, position: Position, viewer: str) -> str:
        """Write a position as a cursor that holds for one viewer, given by external id."""
        payload = _PAYLOAD.pack(_VERSION, *position)
        return urlsafe_b64encode(payload + self._mac(payload, viewer)).rstrip(b"=").decode()

    def read(self, cursor: str, viewer: str) -> Position:
        """Read a cursor; CursorInvalid where this key did not write it for this viewer."""
        raw = _decode(cursor)
        payload, mac = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
        if not hmac.compare_digest(mac, self._mac(payload, viewer)) or payload[0] != _VERSION:
            raise _invalid()
        _, feed_id, viewer_id, offset = _PAYLOAD.unpack(payload)
        return Position(feed_id, viewer_id, offset)

    def _mac(self, payload: bytes, viewer: str) -> bytes:
        return hmac.digest(self._secret, payload + viewer.encode(), "sha256")[:_MAC_BYTES]


def cursor_secret(settings: Settings) -> bytes:
    """Give the secret of the settings, or the one that is made once and kept in the home folder.

    Conflict-free between processes that start together: the first to create the file wins.
    """
    if settings.cursor_secret is not None:
        return settings.cursor_secret.get_secret_value().encode()
    path = settings.home / "cursor.key"
    if not path.exists():
        _create_secret(path)
    return path.read_bytes()


def _create_secret(path: Path) -> None:
    part = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    finally:
        part.unlink()


def _decode(cursor: str) -> bytes:
    if len(cursor) != _TEXT_LENGTH:
        raise _invalid()
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError as error:
        raise _invalid() from error
    # Base64 has spare bits and skips foreign characters: only the one canonical text is ours.
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != cursor:
        raise _invalid()
    return raw


def _invalid() -> CursorInvalid:
    return CursorInvalid("the cursor was not given out for this viewer", hint="take it from `next`")

"""Cursors: what was written comes back; nothing else is accepted."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from contracts.errors import CursorInvalid
from contracts.settings import Settings
from feed_api.cursors import CursorSigner, Position, cursor_secret

BASE64 = ascii_letters + digits + "-_"
SIGNER = CursorSigner(b"a secret")
POSITIONS = st.builds(
    Position,
    feed_id=st.integers(0, 2**63 - 1),
    viewer_id=st.integers(-1, 2**63 - 1),
    offset=st.integers(0, 2**32 - 1),
)


@given(POSITIONS, st.text(min_size=1))
def test_a_cursor_reads_back(position: Position, viewer: str):
    assert SIGNER.read(SIGNER.write(position, viewer), viewer) == position


@given(POSITIONS, POSITIONS)
def test_two_positions_never_share_a_cursor(one: Position, other: Position):
    assert (SIGNER.write(one, "ann") == SIGNER.write(other, "ann")) == (one == other)


@given(POSITIONS, st.data())
def test_a_changed_character_is_noticed(position: Position, data: st.DataObject):
    cursor = SIGNER.write(position, "ann")
    place = data.draw(st.integers(0, len(cursor) - 1))
    character = data.draw(st.characters().filter(lambda c: c != cursor[place]))
    with pytest.raises(CursorInvalid, match="not given out for this viewer"):
        SIGNER.read(cursor[:place] + character + cursor[place + 1 :], "ann")


@given(POSITIONS)
def test_a_cursor_has_one_spelling(position: Position):
    cursor = SIGNER.write(position, "ann")
    for last in set(BASE64) - {cursor[-1]}:
        with pytest.raises(CursorInvalid):
            SIGNER.read(cursor[:-1] + last, "ann")


@given(POSITIONS, st.integers(0, 52 * 8 - 1))
def test_a_changed_bit_is_noticed(position: Position, bit: int):
    cursor = SIGNER.write(position, "ann")
    raw = bytearray(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    with pytest.raises(CursorInvalid):
        SIGNER.read(urlsafe_b64encode(raw).rstrip(b"=").decode(), "ann")


@given(POSITIONS)
def test_another_viewer_and_another_secret_are_refused(position: Position):
    cursor = SIGNER.write(position, "ann")
    with pytest.raises(CursorInvalid):
        SIGNER.read(cursor, "bob")
    with pytest.raises(CursorInvalid):
        CursorSigner(b"another secret").read(cursor, "ann")


@given(st.text(max_size=80))
def test_any_other_text_is_refused(text: str):
    with pytest.raises(CursorInvalid):
        SIGNER.read(text, "ann")


def test_the_secret_is_made_once_and_kept_to_its_owner(tmp_path: Path):
    settings = Settings(home=tmp_path)
    secret = cursor_secret(settings)
    assert len(secret) == 32
    assert cursor_secret(settings) == secret
    assert (tmp_path / "cursor.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["cursor.key"]
    given_one = Settings(home=tmp_path, cursor_secret=SecretStr("given by somebody"))
    assert cursor_secret(given_one) == b"given by somebody"

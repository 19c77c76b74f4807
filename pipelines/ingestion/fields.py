"""Typed columns of a batch: each reading checks its values and notes the rows to reject."""

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.clock import DAY_US, now_us
from contracts.events import EVENT_TYPE_BY_WORD
from contracts.ids import UNKNOWN_ID, Namespace, hash63, parse_feed_id
from pipelines.ingestion.rejects import RowCheck
from pipelines.ingestion.rows import RowBatch
from pipelines.ingestion.times import ABSENT_US, UNREADABLE_US, TimeColumn

LONGEST_ID: Final = 256
_FLOAT: Final = r"^\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*$"
_WHOLE: Final = r"^\s*\d{1,9}(\.0*)?\s*$"
_UNKNOWN_TYPE: Final = -1

Times = NDArray[np.int64]


class Fields:
    """Reads the fields of one batch into arrays of its length and collects what is wrong."""

    def __init__(self, batch: RowBatch, reader_of: Callable[[str], TimeColumn]) -> None:
        self._batch = batch
        self._reader_of = reader_of
        self.rows = len(batch.lines)
        self.check = RowCheck(self.rows)

    def texts(self, name: str) -> pa.Array:
        """Give a text column, trimmed; empty text is null, and so is an absent column."""
        column = self._batch.columns.get(name)
        if column is None:
            return pa.nulls(self.rows, pa.string())
        if not pa.types.is_string(column.type):
            column = pa.array([_joined(value) for value in column.to_pylist()], pa.string())
        trimmed = pc.utf8_trim_whitespace(column)
        return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)

    def ids(self, name: str, *, required: bool = False) -> pa.Array:
        """Give a column of external ids; rejects what is too long, and missing ones if required."""
        texts = self.texts(name)
        long = pc.greater(pc.binary_length(texts), LONGEST_ID).fill_null(False)
        self.check.reject(mask_of(long), f"{name} is longer than {LONGEST_ID} bytes")
        if required:
            self.check.reject(mask_of(texts.is_null()), f"{name} is missing")
        return texts

    def times(self, name: str, earliest_us: int) -> Times:
        """Give a time column in microseconds, ABSENT_US where null; rejects the impossible."""
        column = self._batch.columns.get(name)
        if column is None:
            return np.full(self.rows, ABSENT_US, dtype=np.int64)
        column = column if pa.types.is_timestamp(column.type) else self.texts(name)
        times = self._reader_of(name).read(column)
        self.check.reject(times == UNREADABLE_US, f"{name} is not a time that can be read")
        given = times > UNREADABLE_US
        year = np.datetime64(earliest_us, "us").astype("datetime64[Y]")
        self.check.reject(given & (times < earliest_us), f"{name} is before {year}")
        self.check.reject(given & (times > now_us() + DAY_US), f"{name} is in the future")
        return times

    def numbers(self, name: str) -> pa.Array:
        """Give a float32 column; rejects what is no finite number."""
        texts = self.texts(name)
        fits = pc.match_substring_regex(texts, _FLOAT)
        self._reject_unless(fits, f"{name} is not a number")
        numbers = pc.if_else(fits, pc.utf8_trim_whitespace(texts), None).cast(pa.float32())
        self._reject_unless(pc.is_finite(numbers), f"{name} is not a number")
        return numbers

    def positions(self, name: str) -> pa.Array:
        """Give an int16 column; rejects what is no whole number from 0 to 32767."""
        texts = self.texts(name)
        fits = pc.match_substring_regex(texts, _WHOLE)
        numbers = pc.if_else(fits, texts, None).cast(pa.float64()).cast(pa.int64())
        small = pc.and_kleene(fits, pc.less_equal(numbers, 32_767))
        self._reject_unless(small, f"{name} is no whole number 0..32767")
        return pc.if_else(small, numbers, None).cast(pa.int16())

    def event_types(self, words: dict[str, str]) -> NDArray[np.int8]:
        """Give event type codes; rejects words that are no event type."""
        texts = pc.utf8_lower(self.texts("type"))
        self.check.reject(mask_of(texts.is_null()), "type is missing")
        encoded = texts.dictionary_encode()
        codes = [_type_code(word, words) for word in encoded.dictionary.to_pylist()]
        table = np.array([*codes, _UNKNOWN_TYPE], dtype=np.int8)
        types: NDArray[np.int8] = table[_indices(encoded)]
        self.check.reject(types == _UNKNOWN_TYPE, "type is no event type")
        return types

    def feed_ids(self, name: str) -> pa.Array:
        """Give an int64 column: our own feed ids as they are, those of others hashed."""
        encoded = self.texts(name).dictionary_encode()
        numbers = [_feed_id(text) for text in encoded.dictionary.to_pylist()]
        return pa.array(numbers, pa.int64()).take(encoded.indices)

    def _reject_unless(self, fits: pa.Array, reason: str) -> None:
        """Reject the rows that are given and do not fit."""
        self.check.reject(mask_of(pc.invert(fits).fill_null(False)), reason)


def column_ids(
    find: Callable[[Namespace, list[str]], Times], namespace: Namespace, texts: pa.Array
) -> NDArray[np.int64]:
    """Give ids [n] of a text column by `intern` or `lookup` of an IdMap; UNKNOWN_ID where null."""
    encoded = texts.dictionary_encode()
    known = find(namespace, encoded.dictionary.to_pylist())
    return np.append(known, UNKNOWN_ID)[_indices(encoded)]


def nullable_ids(ids: NDArray[np.int64]) -> pa.Array:
    """Turn ids into an Arrow column, UNKNOWN_ID into null."""
    return pa.array(ids, pa.int64(), mask=ids == UNKNOWN_ID)


def nullable_times(times: Times) -> pa.Array:
    """Turn microseconds into an Arrow column, ABSENT_US into null."""
    return pa.array(times, pa.int64(), mask=times == ABSENT_US).cast(pa.timestamp("us", tz="UTC"))


def mask_of(flags: pa.Array) -> NDArray[np.bool_]:
    """Turn flags without nulls into an array, [n]."""
    mask: NDArray[np.bool_] = flags.to_numpy(zero_copy_only=False)
    return mask


def _indices(encoded: pa.DictionaryArray) -> NDArray[np.int64]:
    """Give dictionary indices, -1 for null: the last entry of a table that has one more."""
    indices: NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return indices


def _joined(value: object) -> str | None:
    if value is None:
        return None
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _type_code(word: str, words: dict[str, str]) -> int:
    ours = words.get(word, word).replace("-", "_").replace(" ", "_")
    return int(EVENT_TYPE_BY_WORD[ours]) if ours in EVENT_TYPE_BY_WORD else _UNKNOWN_TYPE


def _feed_id(text: str) -> int:
    try:
        return parse_feed_id(text)
    except ValueError:
        return hash63("feed", text)

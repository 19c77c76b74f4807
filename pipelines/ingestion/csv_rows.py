"""Rows of a CSV file: delimiter found, each row with its line, broken rows kept apart."""

import csv
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from contracts.errors import InvalidInput
from pipelines.ingestion.rows import Broken, RowBatch

_DELIMITERS: Final = (",", "\t", ";", "|")
_HEAD_BYTES: Final = 65_536
_BATCH_ROWS: Final = 200_000
_BLOCK_BYTES: Final = 12_000_000
_BOM: Final = b"\xef\xbb\xbf"


class CsvRows:
    """A text file with a header line; commas, tabs, semicolons or bars between the columns.

    Arrow reads blocks in which each line is a row. Where a quote, a blank line or a broken row
    comes in, Python's csv module reads on, for its exact line numbers, ten times slower.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._done = 0
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        _check_head(path, head)
        text = head.decode("utf-8-sig", "surrogateescape").lstrip("\r\n")
        first = text.splitlines()[0] if text.strip() else ""
        self._delimiter = max(_DELIMITERS, key=first.count)
        names = next(csv.reader([first], delimiter=self._delimiter), [])
        self._columns = [name.strip() for name in names]
        _check_names(path, self._columns)

    @property
    def columns(self) -> list[str]:
        return self._columns

    def batches(self) -> Iterator[RowBatch]:
        with self._path.open("rb") as file:
            line = self._skip_header(file)
            while block := _whole_lines(file):
                if b'"' in block:
                    # A quoted value may hold line ends, so no block ends surely from here on.
                    yield from self._careful(chain(BytesIO(block), file), line)
                    return
                batch = self._plain(block, line)
                if batch is None:
                    yield from self._careful(BytesIO(block), line)
                else:
                    yield batch
                line += block.count(b"\n")

    def _skip_header(self, file: BinaryIO) -> int:
        for line, raw in enumerate(file, 1):
            if raw.removeprefix(_BOM).strip():
                self._done += len(raw)
                return line + 1
        return 1

    def _plain(self, block: bytes, first_line: int) -> RowBatch | None:
        """Read a block in which each line is a row; None where that is not so."""
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                pa_csv.ReadOptions(column_names=self._columns, use_threads=False),
                pa_csv.ParseOptions(delimiter=self._delimiter, quote_char=False),
                pa_csv.ConvertOptions(column_types=dict.fromkeys(self._columns, pa.string())),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != block.count(b"\n"):  # blank lines
            return None
        self._done += len(block)
        columns = {
            name: column.combine_chunks()
            for name, column in zip(self._columns, table.columns, strict=True)
        }
        lines = np.arange(first_line, first_line + table.num_rows)
        return RowBatch(columns, lines, [], self._share())

    def _careful(self, raw_lines: Iterator[bytes], first_line: int) -> Iterator[RowBatch]:
        """Read line by line, each broken row apart."""
        source = _Lines(raw_lines)
        reader = csv.reader(source, delimiter=self._delimiter, strict=True)
        rows: list[list[str]] = []
        numbers: list[int] = []
        broken: list[Broken] = []
        while True:
            line = first_line + reader.line_num
            try:
                row = next(reader, None)
            except csv.Error as error:
                broken.append(Broken(line, _explain(error, line), source.last.rstrip("\r\n")))
                continue
            if row is None:
                break
            if len(row) == len(self._columns):
                rows.append(row)
                numbers.append(line)
            elif row:
                reason = f"{len(row)} columns, the header has {len(self._columns)}"
                broken.append(Broken(line, reason, _readable(self._delimiter.join(row))))
            if len(rows) >= _BATCH_ROWS:
                self._done += source.taken()
                yield self._batch(rows, numbers, broken)
                rows, numbers, broken = [], [], []
        self._done += source.taken()
        yield self._batch(rows, numbers, broken)

    def _batch(self, rows: list[list[str]], lines: list[int], broken: list[Broken]) -> RowBatch:
        try:
            columns = self._arrays(rows)
        except UnicodeEncodeError:
            good = [k for k, row in enumerate(rows) if _is_text(row)]
            for k in sorted(set(range(len(rows))) - set(good)):
                raw = _readable(self._delimiter.join(rows[k]))
                broken.append(Broken(lines[k], "not UTF-8 text", raw))
            rows, lines = [rows[k] for k in good], [lines[k] for k in good]
            columns = self._arrays(rows)
        return RowBatch(columns, np.array(lines, dtype=np.int64), broken, self._share())

    def _arrays(self, rows: list[list[str]]) -> dict[str, pa.Array]:
        columns = zip(*rows, strict=True) if rows else [()] * len(self._columns)
        return {
            name: pa.array(values, pa.string())
            for name, values in zip(self._columns, columns, strict=True)
        }

    def _share(self) -> float:
        return min(self._done / self._size, 1.0)


class _Lines:
    """Decodes lines and counts their bytes; bytes that are not UTF-8 become surrogates."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._bytes = 0
        self.last = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        self._bytes += len(raw)
        self.last = raw.decode(errors="surrogateescape")
        return self.last

    def taken(self) -> int:
        """Give the bytes read since the last call."""
        taken, self._bytes = self._bytes, 0
        return taken


def _whole_lines(file: BinaryIO) -> bytes:
    """Read the next block, up to a line end; the last line gets one if it has none."""
    block = file.read(_BLOCK_BYTES)
    if block and not block.endswith(b"\n"):
        block += file.readline()
        if not block.endswith(b"\n"):
            block += b"\n"
    return block


def _readable(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _explain(error: csv.Error, line: int) -> str:
    text = str(error)
    if "unexpected end of data" in text or "field larger" in text:
        return f"the quote opened at line {line} is not closed"
    return f"not CSV: {text}"


def _is_text(row: list[str]) -> bool:
    try:
        for value in row:
            value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_head(path: Path, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        msg = f"{path.name} is UTF-16"
        raise InvalidInput(msg, hint="save it as UTF-8")
    if b"\x00" in head or head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"PAR1")):
        msg = f"{path.name} is not text"
        raise InvalidInput(msg, hint="export it as CSV in UTF-8, or give it its right ending")
    if b"\n" not in head and b"\r" in head:
        msg = f"{path.name} ends its lines with carriage returns alone"
        raise InvalidInput(msg, hint="save it with Unix or Windows line ends")


def _check_names(path: Path, names: list[str]) -> None:
    if not any(names):
        msg = f"{path.name} has no header line"
        raise InvalidInput(msg, hint="the first line names the columns")
    empty = [k + 1 for k, name in enumerate(names) if not name]
    # A first column without a name is the index that pandas writes; the name `index` does for it.
    if empty == [1]:
        names[0] = "index" if "index" not in names else "index_"
    elif empty:
        msg = f"the header of {path.name} has no name for column {empty[0]}"
        raise InvalidInput(msg, hint="give each column a name")
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        msg = f"the header of {path.name} has {', '.join(double)} more than once"
        raise InvalidInput(msg, hint="give each column a name of its own")

"""Rows of a CSV file: delimiter found, each row with its line, broken rows kept apart."""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
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
_NOT_TEXT: Final = re.compile(r"[\ud800-\udfff]")
BOM: Final = b"\xef\xbb\xbf"


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
        if _NOT_TEXT.search(first):
            msg = f"the header of {path.name} is not UTF-8 text"
            raise InvalidInput(msg, hint="save the file as UTF-8")
        names = next(csv.reader([first], delimiter=self._delimiter), [])
        self.columns = [name.strip() for name in names]
        _check_names(path, self.columns)

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
            if raw.removeprefix(BOM).strip():
                self._done += len(raw)
                return line + 1
        return 1

    def _plain(self, block: bytes, first_line: int) -> RowBatch | None:
        """Read a block in which each line is a row; None where that is not so."""
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                pa_csv.ReadOptions(column_names=self.columns, use_threads=False),
                pa_csv.ParseOptions(delimiter=self._delimiter, quote_char=False),
                pa_csv.ConvertOptions(column_types=dict.fromkeys(self.columns, pa.string())),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != block.count(b"\n"):  # blank lines
            return None
        self._done += len(block)
        columns = {
            name: column.combine_chunks()
            for name, column in zip(self.columns, table.columns, strict=True)
        }
        lines = np.arange(first_line, first_line + table.num_rows)
        return RowBatch(columns, lines, [], self._share())

    def _careful(self, raw_lines: Iterable[bytes], first_line: int) -> Iterator[RowBatch]:
        """Read line by line, each broken row apart."""
        lines = _Lines(self._decoded(raw_lines), first_line)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        rows: list[list[str]] = []
        numbers: list[int] = []
        broken: list[Broken] = []
        while True:
            line = lines.begin_row()
            try:
                row = next(reader, None)
                if row is None:
                    break
                reason = self._fault(row, lines.taken)
            except csv.Error as error:
                row, reason = [], _explain(error, line)
            if reason is not None:
                # Of a row over several lines the first is at fault: its quote took in the others.
                lines.give_back()
                broken.append(Broken(line, reason, _readable(lines.taken[0].rstrip("\r\n"))))
            elif row:
                rows.append(row)
                numbers.append(line)
            if len(rows) >= _BATCH_ROWS:
                yield self._batch(rows, numbers, broken)
                rows, numbers, broken = [], [], []
        yield self._batch(rows, numbers, broken)

    def _fault(self, row: list[str], lines: list[str]) -> str | None:
        """Say what is wrong with a row that was read from lines; a blank one is none."""
        if row and len(row) != len(self.columns):
            over = f" over {len(lines)} lines" if len(lines) > 1 else ""
            return f"{len(row)} columns{over}, the header has {len(self.columns)}"
        return "not UTF-8 text" if _NOT_TEXT.search("".join(lines)) else None

    def _decoded(self, raw_lines: Iterable[bytes]) -> Iterator[str]:
        """Decode lines and count their bytes; bytes that are not UTF-8 become surrogates."""
        for raw in raw_lines:
            self._done += len(raw)
            yield raw.decode(errors="surrogateescape")

    def _batch(self, rows: list[list[str]], lines: list[int], broken: list[Broken]) -> RowBatch:
        values = zip(*rows, strict=True) if rows else [()] * len(self.columns)
        columns = {
            name: pa.array(column, pa.string())
            for name, column in zip(self.columns, values, strict=True)
        }
        return RowBatch(columns, np.array(lines, dtype=np.int64), broken, self._share())

    def _share(self) -> float:
        return min(self._done / self._size, 1.0)


class _Lines:
    """Lines for a reader, numbered; what a broken row has taken in can be given back."""

    def __init__(self, source: Iterator[str], first_line: int) -> None:
        self._source = source
        self._back: deque[str] = deque()
        self._next_row = first_line
        self.taken: list[str] = []
        """Lines of the row that is being read."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._source)
        self.taken.append(line)
        return line

    def begin_row(self) -> int:
        """Forget the lines of the row before, and give the number of the next line."""
        self._next_row += len(self.taken)
        self.taken = []
        return self._next_row

    def give_back(self) -> None:
        """Keep the first line of the row; the others come again."""
        self._back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


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


def _check_head(path: Path, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput(f"{path.name} is UTF-16", hint="save it as UTF-8")
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

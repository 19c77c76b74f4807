"""Rows that are not taken: first reason of each row, written with its line to a reject file."""

from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from contracts.clock import now_us, to_datetime
from pipelines.ingestion.rows import RowBatch


class RowCheck:
    """Collects the first reason against each row of a batch."""

    def __init__(self, rows: int) -> None:
        self._reason = np.full(rows, -1, dtype=np.int16)
        self._reasons: list[str] = []

    @property
    def good(self) -> NDArray[np.bool_]:
        """Rows without a reason against them, [n]."""
        return self._reason < 0

    def reject(self, bad: NDArray[np.bool_], reason: str) -> None:
        """Note a reason against rows that have none yet."""
        new = bad & self.good
        if new.any():
            self._reason[new] = len(self._reasons)
            self._reasons.append(reason)

    def rejected(self) -> list[tuple[int, str]]:
        """Give (row, reason) of each row that is not good."""
        rows = np.flatnonzero(self._reason >= 0).tolist()
        return [(row, self._reasons[self._reason[row]]) for row in rows]


class RejectFile:
    """`rejects/<file>-<time>.jsonl`: a JSON object a rejected row; made with the first of them."""

    def __init__(self, home: Path, name: str) -> None:
        self._name = f"{name}-{to_datetime(now_us()):%Y%m%dT%H%M%SZ}"
        self._folder = home / "rejects"
        self.path = self._folder / f"{self._name}.jsonl"
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self._file: BinaryIO | None = None

    def take(self, batch: RowBatch, check: RowCheck) -> None:
        """Write a batch's broken lines and rejected rows."""
        for broken in batch.broken:
            self._write({"line": broken.line, "reason": broken.reason, "raw": broken.raw})
        for row, reason in check.rejected():
            line = int(batch.lines[row])
            self._write({"line": line, "reason": reason, "row": batch.row(row)})

    def close(self) -> None:
        """Close the file, where there was a row to write."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        """Make the file; another of the same name and second is left as it is."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in count(2):
            with suppress(FileExistsError):
                return self.path.open("xb")
            self.path = self._folder / f"{self._name}-{number}.jsonl"
        raise AssertionError

    def _write(self, entry: dict[str, object]) -> None:
        if self._file is None:
            self._file = self._open()
        self._file.write(orjson.dumps(entry, default=str) + b"\n")
        self.count += 1
        self.reasons[str(entry["reason"])] += 1

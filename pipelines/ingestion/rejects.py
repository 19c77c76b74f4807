"""Rows that are not taken: first reason of each row, written with its line to a reject file."""

from collections import Counter
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
        moment = to_datetime(now_us())
        self.path = home / "rejects" / f"{name}-{moment:%Y%m%dT%H%M%SZ}.jsonl"
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

    def _write(self, entry: dict[str, object]) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
        self._file.write(orjson.dumps(entry, default=str) + b"\n")
        self.count += 1
        self.reasons[str(entry["reason"])] += 1

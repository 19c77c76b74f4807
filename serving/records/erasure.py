"""Takes erased people out of decision records.

A person's own records go. In the records of others, authors become numbers that name nobody and
still tell one author from another, so that the feed replays to the same bit.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contracts.events import EventType
from contracts.feed import ReasonCode
from contracts.record import RECORD_SCHEMA
from features.event_log import EventLog
from features.segments import integers_of
from serving.records.archive import DECISIONS, Kind
from serving.records.codec import DIGEST, Record, Row, record_digest, records_of, table_of, to_row

Ids = NDArray[np.int64]

NOBODY: Final = 2**63 - 1
"""The first author that was blanked in a record; the next is one less."""
_FOLLOWING: Final = list(ReasonCode).index(ReasonCode.FOLLOWING)
_NAMES: Final = ("authors", "reason_refs")


class Erasures(NamedTuple):
    """Who was erased, and at which place of the event log; [n] each, by person."""

    people: Ids
    seqs: Ids

    @classmethod
    def after(cls, log: EventLog, seq: int, end: int) -> "Erasures":
        """Find the erasures in the log after one place and up to another."""
        people, seqs = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        while seq < end and (events := log.tail(seq)).num_rows:
            at = events.column("type").to_numpy() == EventType.PERSON_ERASED
            people.append(integers_of(events, "viewer_id")[at])
            seqs.append(integers_of(events, "seq")[at])
            seq = int(integers_of(events, "seq")[-1])
        who, when = np.concatenate(people), np.concatenate(seqs)
        last = len(who) - 1 - np.unique(who[::-1], return_index=True)[1]
        return cls(who[last], when[last])

    def of(self, ids: Ids, log_seq: Ids | np.int64) -> NDArray[np.bool_]:
        """Say which ids [n] were erased after the places, one or [n], that their records know."""
        if not len(self.people):
            return np.zeros(len(ids), dtype=np.bool_)
        near = np.minimum(np.searchsorted(self.people, ids), len(self.people) - 1)
        found: NDArray[np.bool_] = (self.people[near] == ids) & (log_seq < self.seqs[near])
        return found

    def touches(self, path: Path, kind: Kind) -> bool:
        """Say whether a file has a record of one of these people, or one that names one."""
        names = ["viewer_id", "log_seq", *(_NAMES if kind is DECISIONS else ())]
        table = pq.read_table(path, columns=names, use_threads=False)
        return bool(self._viewers(table).any() or self._named(table).any())

    def taken_out(self, table: pa.Table, kind: Kind) -> pa.Table:
        """Give rows of a kind without these people; order may change."""
        table = table.filter(pa.array(~self._viewers(table)))
        named = self._named(table)
        if not named.any():
            return table
        changed = [self._blanked(record) for record in records_of(table.filter(pa.array(named)))]
        return pa.concat_tables([table.filter(pa.array(~named)), table_of(changed, kind.schema)])

    def _viewers(self, table: pa.Table) -> NDArray[np.bool_]:
        return self.of(integers_of(table, "viewer_id"), integers_of(table, "log_seq"))

    def _named(self, table: pa.Table) -> NDArray[np.bool_]:
        """Say which rows name one of these people as an author or a reason."""
        named = np.zeros(table.num_rows, dtype=np.bool_)
        log_seq = integers_of(table, "log_seq")
        for name in set(_NAMES) & set(table.column_names):
            lists = table.column(name).combine_chunks()
            rows = np.repeat(np.arange(table.num_rows), lists.value_lengths().to_numpy())
            named[rows[self.of(lists.flatten().to_numpy(), log_seq[rows])]] = True
        return named

    def _blanked(self, record: Record) -> Row:
        seq = np.int64(record["log_seq"])
        authors, refs = record["authors"].copy(), record["reason_refs"].copy()
        by, about = self.of(authors, seq), self.of(refs, seq)
        about &= record["reason_codes"] == _FOLLOWING
        people = np.unique(np.concatenate([authors[by], refs[about]]))
        before = record["blanked"]
        authors[by] = NOBODY - before - np.searchsorted(people, authors[by])
        refs[about] = -1
        changed: dict[str, Any] = {
            **record, "authors": authors, "reason_refs": refs, "blanked": before + len(people)
        }  # fmt: skip
        row = to_row(changed, RECORD_SCHEMA)
        if record_digest(record, RECORD_SCHEMA) != record[DIGEST]:
            return (*row[:-1], record[DIGEST])  # what was damaged before stays so
        return row

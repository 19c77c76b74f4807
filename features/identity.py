"""The id table: external string ids of a namespace <-> int64 ids, in order of creation."""

import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import NotFound
from contracts.ids import UNKNOWN_ID, Namespace
from features.storage import Database

Ids = NDArray[np.int64]

_MASK_63: Final = (1 << 63) - 1


class IdMap:
    """Maps ids both ways from memory; the database is the truth.

    Ids only grow, so one range read brings in whatever this or another process has added; a look-up
    that misses does that read before it answers `UNKNOWN_ID`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._by_external: dict[str, dict[str, int]] = {n.value: {} for n in Namespace}
        self._by_id: dict[str, dict[int, str]] = {n.value: {} for n in Namespace}
        self._read_up_to = 0

    def intern(self, namespace: Namespace, external: Sequence[str]) -> Ids:
        """Give the ids of external ids, made where they are new; durable on return.

        Not inside an open transaction: the ids would vanish with its rollback.
        """
        found = self.lookup(namespace, external)
        missing = np.flatnonzero(found == UNKNOWN_ID)
        if len(missing):
            found[missing] = self._make(namespace, [external[i] for i in missing.tolist()])
        return found

    def lookup(self, namespace: Namespace, external: Sequence[str]) -> Ids:
        """Give ids [n] of external ids [n]; `UNKNOWN_ID` where the table has none."""
        found = self._from_memory(namespace, external)
        missing = np.flatnonzero(found == UNKNOWN_ID)
        if len(missing):
            self._refresh()
            rest = [external[i] for i in missing.tolist()]
            found[missing] = self._from_memory(namespace, rest)
        return found

    def external(self, namespace: Namespace, ids: Ids) -> list[str]:
        """Give external ids [n] of ids [n]; NotFound where an id is not of the namespace."""
        table = self._by_id[namespace.value]
        wanted = ids.tolist()
        texts = [table.get(i) for i in wanted]
        if None in texts:
            self._refresh()
            texts = [table.get(i) for i in wanted]
        known = [text for text in texts if text is not None]
        if len(known) < len(texts):
            missing = wanted[texts.index(None)]
            raise NotFound(f"no {namespace.value} has the internal id {missing}")
        return known

    def all(self, namespace: Namespace) -> tuple[Ids, list[str]]:
        """Give every id of a namespace and its external id, in order of creation."""
        self._refresh()
        with self._lock:
            table = dict(self._by_id[namespace.value])
        return np.fromiter(table.keys(), dtype=np.int64, count=len(table)), list(table.values())

    def _make(self, namespace: Namespace, external: list[str]) -> Ids:
        with self._database.write() as connection:
            if self._database.nested:
                raise RuntimeError("intern ids before the transaction that uses them")
            # Once more under the write lock: another thread may have made some meanwhile.
            found = self.lookup(namespace, external)
            missing = np.flatnonzero(found == UNKNOWN_ID).tolist()
            new = list(dict.fromkeys(external[i] for i in missing))
            last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='ids'").fetchone()
            first_id = (last[0] if last else 0) + 1
            connection.executemany(
                "INSERT INTO ids (id, namespace, external) VALUES (?, ?, ?)",
                zip(range(first_id, first_id + len(new)), repeat(namespace.value), new),
            )
        made = dict(zip(new, range(first_id, first_id + len(new)), strict=True))
        found[missing] = [made[external[i]] for i in missing]
        return found

    def _from_memory(self, namespace: Namespace, external: Sequence[str]) -> Ids:
        table = self._by_external[namespace.value]
        ids = map(table.get, external, repeat(UNKNOWN_ID))
        return np.fromiter(ids, dtype=np.int64, count=len(external))

    def _refresh(self) -> None:
        """Read what was committed since the last time."""
        with self._lock, self._database.snapshot() as connection:
            rows = connection.execute(
                "SELECT id, namespace, external FROM ids WHERE id > ? ORDER BY id",
                (self._read_up_to,),
            ).fetchall()
            for number, namespace, external in rows:
                self._by_external.setdefault(namespace, {})[external] = number
                self._by_id.setdefault(namespace, {})[number] = external
            if rows:
                self._read_up_to = rows[-1][0]


def event_ids_of(external: Iterable[str]) -> Ids:
    """Hash external event ids to the log's event ids; equal to `hash63` of each, in a tight loop.

    Files and the API both use it, so that one event sent both ways is stored once.
    """
    digests = bytearray()
    for text in external:
        raw = text.encode()
        digests += blake2b(len(raw).to_bytes(4, "big") + raw, digest_size=8).digest()
    return (np.frombuffer(bytes(digests), dtype=">u8") & np.uint64(_MASK_63)).astype(np.int64)

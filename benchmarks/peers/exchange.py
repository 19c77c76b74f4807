"""What a system's program is given and gives back: a split as arrays, lists, costs.

It needs NumPy and SciPy alone, so that it runs in every system's own environment.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

LONGEST = 100
"""Items of a list."""
Lists = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """One fit: `values[offsets[p]:offsets[p + 1]]` are the items of person p, oldest first."""

    model: str
    settings: dict[str, Any]
    n_items: int
    values: Lists
    offsets: Lists
    people: Lists
    """[Q]: who gets a list; each has a history."""
    costs: dict[str, float] = field(default_factory=dict)
    """Seconds of each phase, and CPU seconds of the process in it."""

    @property
    def owners(self) -> Lists:
        """Name the person of each value."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def matrix(self) -> csr_matrix:
        """Mark who acted on what: float32 [people, items]."""
        ones, shape = np.ones(len(self.values), np.float32), (len(self.offsets) - 1, self.n_items)
        return csr_matrix((ones, self.values.astype(np.int32), self.offsets), shape=shape)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase: `prepare` (the system's own data set), `fit`, `recommend`."""
        began, busy = perf_counter(), process_time()
        yield
        self.costs[f"{name}_seconds"] = perf_counter() - began
        self.costs[f"{name}_cpu_seconds"] = process_time() - busy

    def best(self, scores: Callable[[Lists], NDArray[Any]]) -> Lists:
        """Take the best items by scores of a block of people, what they know left out."""
        known, lists = self.matrix(), []
        for start in range(0, len(self.people), 256):
            block = self.people[start : start + 256]
            found = np.array(scores(block), dtype=np.float32)
            found[known[block].nonzero()] = -np.inf
            order = np.argsort(-found, axis=1, kind="stable")[:, :LONGEST]
            left = np.isfinite(np.take_along_axis(found, order, axis=1))
            lists.append(np.where(left, order, -1))
        return np.concatenate(lists)

    def filled(self, people: NDArray[Any], items: NDArray[Any]) -> Lists:
        """Lay out pairs, best first within a person, as lists; -1 where none is left."""
        lists = np.full((len(self.people), LONGEST), -1, dtype=np.int64)
        order = np.argsort(people, kind="stable")
        row = np.searchsorted(self.people, people[order])
        place = np.arange(len(row)) - np.searchsorted(row, row)
        lists[row, place] = items[order]
        return lists


def write_task(folder: Path, task: Task) -> None:
    """Write what `answer` reads."""
    np.savez(folder / "task.npz", values=task.values, offsets=task.offsets, people=task.people)
    told = {"model": task.model, "settings": task.settings, "n_items": task.n_items}
    (folder / "task.json").write_text(json.dumps(told), encoding="utf-8")


def answer(distribution: str, models: Mapping[str, Callable[[Task], Lists]]) -> None:
    """Run the task in the folder named on the command line; write lists and costs there."""
    folder = Path(sys.argv[1])
    told = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    with np.load(folder / "task.npz") as arrays:
        task = Task(**told, **arrays)
    task.costs["base_mb"] = _memory_mb("VmRSS")
    np.save(folder / "lists.npy", models[task.model](task))
    found = {**task.costs, "peak_mb": _memory_mb("VmHWM"), "version": version(distribution)}
    (folder / "costs.json").write_text(json.dumps(found), encoding="utf-8")


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

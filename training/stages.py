"""What a training run costs, stage by stage: wall time and peak memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Final, NamedTuple

AGAIN: Final = ", again on all before the test"
"""Behind the name of a stage that the second fit runs again."""
FINALLY: Final = ", again on everything"
"""Behind the name of a stage that a final fit runs again."""
_CLEAR: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")


class StageCost(NamedTuple):
    """One stage's cost."""

    name: str
    seconds: float
    peak_mb: float
    """Most resident memory of the process during the stage, in MB."""


class StageClock:
    """Times stages; `begins` and `done` tell whoever shows progress."""

    def __init__(
        self,
        begins: Callable[[str], None] | None = None,
        done: Callable[[StageCost], None] | None = None,
    ) -> None:
        self.costs: list[StageCost] = []
        self._begins, self._done = begins, done

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage; stages do not nest."""
        if self._begins is not None:
            self._begins(name)
        _reset_peak()
        began = perf_counter()
        yield
        cost = StageCost(name, round(perf_counter() - began, 3), round(_peak_mb(), 1))
        self.costs.append(cost)
        if self._done is not None:
            self._done(cost)


def _reset_peak() -> None:
    if _CLEAR.exists():
        try:
            _CLEAR.write_text("5")
        except OSError:
            return  # then the peak is the process's, not the stage's


def _peak_mb() -> float:
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024.0

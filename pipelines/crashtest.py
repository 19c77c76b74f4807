"""The crash test: kill -9 a writer at random moments, then count what is lost or doubled."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from contracts.seeds import stage_generator
from features.segments import integers_of
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.crash_api import crash_api_posting

_LONGEST_SECONDS: Final = 0.6
_FILE_EVENTS: Final = 400_000
_MOST_INGESTS: Final = 200
_IDS_A_ROUND: Final = 10_000_000


@dataclass(slots=True)
class CrashCount:
    """What one kind of writing came to, over all kills."""

    mode: str
    kills: int = 0
    acknowledged: int = 0
    """Events that the writer had said to be on disk before it died."""
    found: int = 0
    """Events in the log afterwards; more than acknowledged where it died between the two."""
    lost: int = 0
    """Acknowledged events that the log lacks."""
    doubled: int = 0
    """Events that the log holds more than once, and places in the log that are missing."""

    @property
    def holds(self) -> bool:
        """Whether nothing acknowledged is lost and nothing doubled."""
        return self.lost == 0 and self.doubled == 0

    def as_json(self) -> dict[str, object]:
        """Give the counts as plain data."""
        return {**asdict(self), "holds": self.holds}


@dataclass(frozen=True, slots=True)
class Killed:
    """The lines that a process had said before it died, without `ready`."""

    lines: list[str]
    finished: bool
    """It ended by itself before it could be killed."""


def kill_at_random(
    command: Sequence[str], generator: np.random.Generator, longest_seconds: float
) -> Killed:
    """Start a process, wait for its line `ready`, and SIGKILL it after a random time."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        stdout = process.stdout
        if stdout is None or stdout.readline() != "ready\n":
            process.kill()
            raise RuntimeError(f"the process did not get ready: {' '.join(command)}")
        try:
            process.wait(generator.uniform(0.0, longest_seconds))
        except subprocess.TimeoutExpired:
            process.kill()
        said = stdout.read()
    # A line without its end was cut off by the kill: it acknowledges nothing.
    return Killed(said.split("\n")[:-1], process.returncode == 0)


def count_in_log(home: Path, acknowledged: np.ndarray) -> tuple[int, int, int]:
    """Open the log as after a crash and give (found, lost, doubled) for acknowledged ids."""
    with Workspace.open(home) as workspace:
        rows = workspace.log.scan(columns=("event_id", "seq"))
        last = workspace.log.last_seq
    ids, seqs = integers_of(rows, "event_id"), integers_of(rows, "seq")
    unique = np.unique(ids)
    lost = len(np.setdiff1d(acknowledged, unique))
    gaps = last - len(np.unique(seqs))
    return len(ids), lost, len(ids) - len(unique) + gaps


def crash_writes(mode: str, home: Path, rounds: int, seed: int) -> CrashCount:
    """Kill a process that appends (mode `append` or `bulk`) and count after every kill."""
    generator = stage_generator(seed, mode)
    count = CrashCount(mode)
    acknowledged: list[np.ndarray] = []
    for number in range(rounds):
        command = _worker(mode, home, str((number + 1) * _IDS_A_ROUND))
        for line in kill_at_random(command, generator, _LONGEST_SECONDS).lines:
            first, size = map(int, line.split())
            acknowledged.append(np.arange(first, first + size))
        count.kills += 1
        ids = np.concatenate(acknowledged) if acknowledged else np.zeros(0, dtype=np.int64)
        count.acknowledged = len(ids)
        count.found, lost, doubled = count_in_log(home, ids)
        count.lost += lost
        count.doubled += doubled
    return count


def crash_ingest(home: Path, rounds: int, seed: int, events: int = _FILE_EVENTS) -> CrashCount:
    """Kill `ingest` of one file again and again, then let it finish and count."""
    generator = stage_generator(seed, "ingest")
    count = CrashCount("ingest")
    home.mkdir(parents=True, exist_ok=True)
    file = home.parent / f"{home.name}-events.csv"
    write_events(file, events, seed)
    for _ in range(_MOST_INGESTS):
        # After enough kills it may finish.
        patience = _LONGEST_SECONDS * 2 if count.kills < rounds else 600.0
        killed = kill_at_random(_worker("ingest", home, str(file)), generator, patience)
        said = [int(line) for line in killed.lines if line.isdigit()]
        promised = events if killed.finished else max(said, default=0)
        count.acknowledged = max(count.acknowledged, promised)
        count.found, _, doubled = count_in_log(home, np.zeros(0, dtype=np.int64))
        count.doubled += doubled
        count.lost += max(0, count.acknowledged - count.found)
        if killed.finished:
            break
        count.kills += 1
    file.unlink()
    return count


def crash_posting(home: Path, rounds: int) -> CrashCount:
    """Kill the server while events are posted to it; what a client sends again may not double."""
    done = crash_api_posting(home, rounds)
    return CrashCount(
        "api", done.kills, done.acknowledged, done.found, done.lost, done.doubled + done.seq_gaps
    )


def write_events(path: Path, events: int, seed: int) -> None:
    """Write a file of likes and clicks without event ids, over several months."""
    generator = stage_generator(seed, "events")
    people = generator.integers(0, 500, events)
    posts = generator.integers(0, 2_000, events)
    seconds = 1_700_000_000 + generator.integers(0, 120 * 86_400, events)
    with path.open("w", encoding="utf-8") as file:
        file.write("user_id,post_id,type,timestamp\n")
        for person, post, second in zip(people, posts, seconds, strict=True):
            word = "like" if post % 3 else "click"
            file.write(f"u{person},p{post},{word},{second}\n")


def run_crashtest(folder: Path, rounds: int, seed: int, reporter: Reporter) -> list[CrashCount]:
    """Run every mode in a folder of its own; seconds a kill: about two."""
    modes: Mapping[str, Callable[[Path], CrashCount]] = {
        "append": lambda home: crash_writes("append", home, rounds, seed),
        "bulk": lambda home: crash_writes("bulk", home, rounds, seed),
        "ingest": lambda home: crash_ingest(home, rounds, seed),
        "posting through the API": lambda home: crash_posting(home, rounds),
    }
    counts = []
    for mode, run in modes.items():
        with reporter.stage(f"kill -9 during {mode}, {rounds} times"):
            counts.append(run(folder / mode))
    return counts


def _worker(mode: str, home: Path, argument: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.crash_worker", mode, str(home), argument]

"""What every benchmark says of itself: machine, date, commit; a table, and JSON in var/bench."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

BENCH = Path("var/bench")

Row = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """Describe this machine in the words that a reader compares by."""
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def finish(name: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print the rows as a table and write `var/bench/<name>.json`."""
    table = Table(title=name)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console(width=max(100, 14 * len(columns))).print(table)
    BENCH.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "rows": list(rows),
    }
    target = BENCH / f"{name}.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {target}")


def run_measured(command: Sequence[str]) -> dict[str, Any]:
    """Run a command to its end: wall and CPU seconds, and peak memory by the kernel's count."""
    print(">", " ".join(command[1:]), flush=True)
    started = perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} failed")
    return {
        "seconds": round(perf_counter() - started, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Give p50, p95 and p99 of some durations, in milliseconds (nearest rank)."""
    ordered = sorted(seconds)
    if not ordered:
        return {"p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0}
    pick = {
        f"p{q}_ms": ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in (50, 95, 99)
    }
    return {name: round(value * 1000, 2) for name, value in pick.items()}


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 10 else f"{value:,.1f}"
    return "" if value is None else str(value)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = info.read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()

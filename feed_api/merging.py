"""Makes one Prometheus text of several workers' texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_UP: Final = "headwater_worker_up"


@dataclass(slots=True)
class _Family:
    """One metric: its HELP and TYPE lines, and its samples by name and labels."""

    kind: str = "untyped"
    heads: list[str] = field(default_factory=list)
    samples: dict[str, str | float] = field(default_factory=dict)


def merged_metrics(texts: Mapping[int, str | None]) -> str:
    """Sum counters and histograms over workers; a gauge keeps each worker's value, with its label.

    None stands for a worker that did not answer. When a counter began is left out: a sum of
    several processes has no such time.
    """
    families: dict[str, _Family] = {}
    for worker, text in texts.items():
        if text is not None:
            _add(families, worker, text)
    lines = [f"# HELP {_UP} Whether a worker answers.", f"# TYPE {_UP} gauge"]
    lines += [f'{_UP}{{worker="{k}"}} {int(text is not None)}' for k, text in texts.items()]
    for family in families.values():
        lines += family.heads
        lines += [f"{name} {value}" for name, value in family.samples.items()]
    return "\n".join(lines) + "\n"


def _add(families: dict[str, _Family], worker: int, text: str) -> None:
    family = _Family()
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, rest = line.split(" ", 3)
            family = families.setdefault(name, _Family())
            if line not in family.heads:
                family.heads.append(line)
            if word == "TYPE":
                family.kind = rest
                if name.endswith("_created"):
                    del families[name]
        elif line:
            name, value = line.rsplit(" ", 1)
            if family.kind in ("counter", "histogram"):
                family.samples[name] = float(family.samples.get(name, 0.0)) + float(value)
            else:
                family.samples[_labelled(name, worker)] = value


def _labelled(name: str, worker: int) -> str:
    bare, brace, labels = name.partition("{")
    return f'{bare}{{worker="{worker}"{"," + labels if brace else "}"}'

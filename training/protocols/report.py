"""One protocol's section of `docs/results.md`: ours beside the published figures."""

from datetime import UTC, datetime
from pathlib import Path

from training.intervals import Interval
from training.protocols.run import ENSEMBLE, ProtocolResult
from training.report import put_section, table


def write_protocol(path: Path, result: ProtocolResult, notes: dict[str, str]) -> None:
    """Put the section into the file, in the place of its old one."""
    name = f"Published protocol: {result.set.name}"
    put_section(path, name, section(name, result, notes))


def comparison(result: ProtocolResult, *, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Lay out head and rows: ours, then the published, each with ours less theirs, then the goal.

    `brief` fits a terminal: means without intervals, published models without their source.
    """
    metrics = result.set.metrics
    head = ["model", *metrics, f"over best single ({metrics[-1]})", "seconds", "CPU s", "peak MB"]

    def written(value: Interval | None) -> str:
        if value is None:
            return ""
        return f"{value.mean:.4f}" if brief else value.text()

    rows = [
        [
            row.model, *(written(row.metrics[m]) for m in metrics), written(row.over_best_single),
            f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}", f"{row.peak_mb:.0f}",
        ]
        for row in result.rows
    ]  # fmt: skip
    ours = next(row for row in result.rows if row.model == ENSEMBLE)
    others = [
        (p.model if brief else f"{p.model} ({p.source})", p.figures) for p in result.set.published
    ]
    if result.set.goal:
        others.append(("the goal", result.set.goal))
    for model, figures in others:
        cells = [
            f"{figures[m]:.4f} ({'' if brief else 'ours '}{ours.metrics[m].mean - figures[m]:+.4f})"
            if m in figures
            else "-"
            for m in metrics
        ]
        rows.append([model, *cells, "", "", "", ""])
    return head, rows


def section(name: str, result: ProtocolResult, notes: dict[str, str]) -> str:
    """Write the section."""
    weights = ", ".join(f"{k} {v:g}" for k, v in result.blend.weights.items() if v)
    day = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    facts = {**notes, "Blend, chosen on validation": weights}
    head, rows = comparison(result)
    lines = [
        f"## {name}",
        "",
        f"{result.people} people tested, {day}. Protocol: {result.set.protocol}.",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
        *table(head, rows),
    ]
    return "\n".join(lines) + "\n"

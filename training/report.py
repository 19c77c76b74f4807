"""Write `docs/results.md`: a section a set, replaced when that set is run again."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from training.evaluate import ModelRow
from training.stages import StageCost

HEAD: Final = """# Results

Written by the program (`headwater train --results docs/results.md`, `headwater
reproduce`); never by hand. Every figure is a mean over people, each person's value
first, with the 95 % interval of a paired bootstrap over people (1,000 resamples, seeded). All
posts are ranked, those that a person has acted on are left out, no post is sampled.
"""
_SECTION: Final = re.compile(r"^## ", re.MULTILINE)
_SHOWN: Final = ("recall@10", "ndcg@10", "hr@10", "mrr@10", "recall@20", "ndcg@20", "recall@50")


def write_results(
    path: Path,
    rows: Sequence[ModelRow],
    ranker_metrics: Mapping[str, float],
    notes: Mapping[str, Any],
    costs: Sequence[StageCost] = (),
) -> None:
    """Put one set's section into the file, in the place of its old one."""
    put_section(path, rows[0].set, section(rows, ranker_metrics, notes, costs))


def put_section(path: Path, name: str, text: str) -> None:
    """Put a section under its heading's name, in the place of its old one; in order of name."""
    sections = _sections(path)
    sections[name] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "\n".join(sections[key] for key in sorted(sections))
    path.write_text(f"{HEAD}\n{body}", encoding="utf-8")


def section(
    rows: Sequence[ModelRow],
    ranker_metrics: Mapping[str, float],
    notes: Mapping[str, Any],
    costs: Sequence[StageCost],
) -> str:
    """Write one set: protocol, notes, the table, beyond accuracy, slices, the ranker, the cost."""
    first = rows[0]
    day = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    lines = [
        f"## {first.set}",
        "",
        f"{first.people} people tested, {day}. Protocol: {first.protocol}.",
    ]
    lines += ["", *(f"- {key}: {value}" for key, value in notes.items()), ""]
    lines += table(
        ["model", *_SHOWN, "NDCG@20 over popularity", "over best single"],
        [
            [
                row.model,
                *(row.metrics[m].text() for m in _SHOWN),
                row.over_popularity.text(),
                row.over_best_single.text(),
            ]
            for row in rows
        ],
    )
    lines += ["", "Beyond accuracy, at 20; Recall@20 of slices:", ""]
    names = list(dict.fromkeys(s for row in rows for s in row.slices))
    lines += table(
        ["model", "coverage", "novelty (bits)", "popularity bias", "Gini", *names],
        [
            [
                row.model,
                *(
                    f"{row.lists.get(f'{m}@20', float('nan')):.3f}"
                    for m in ("coverage", "novelty", "popularity_bias", "gini")
                ),
                *(row.slices[s].text(3) if s in row.slices else "-" for s in names),
            ]
            for row in rows
        ],
    )
    if ranker_metrics:
        lines += ["", "The ensemble ranker's predictions on the test:", ""]
        lines += table(["figure", "value"], [[k, f"{v:.4f}"] for k, v in ranker_metrics.items()])
    if costs:
        lines += ["", "Cost:", ""]
        lines += table(
            ["stage", "seconds", "peak MB"],
            [[c.name, f"{c.seconds:.1f}", f"{c.peak_mb:.0f}"] for c in costs],
        )
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a Markdown table."""
    cells = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *cells]


def _sections(path: Path) -> dict[str, str]:
    """Read the sections of a results file by the set's name."""
    if not path.exists():
        return {}
    parts = _SECTION.split(path.read_text(encoding="utf-8"))[1:]
    return {part.split("\n", 1)[0].strip(): f"## {part.rstrip()}\n" for part in parts}

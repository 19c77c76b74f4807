"""Writes `docs/benchmarks.md` from the last runs in `var/bench`; figures are never typed by hand.

A benchmark that has no run here keeps the section that it has.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import BENCH

TARGET: Final = Path("docs/benchmarks.md")
_HEAD: Final = """# Benchmarks

Each table is written by `python -m benchmarks.report` from the last run of its program
(`make bench NAME=<name>`). These are shared, noisy machines: compare figures within one run, as
ratios; the CPU time a feed is the figure that noise moves least.
"""
_WHAT: Final = {
    "latency": (
        "The whole platform feed request over HTTP: 100,000 live posts, 20,000 people with "
        "histories, the real ensemble, a decision record written. Arrivals are a Poisson process "
        "from a second process on the same machine, latency counts from the moment a request "
        "should have left. It stops where it breaks: p95 over 150 ms, errors over 0.1 %, or under "
        "95 % of the rate achieved."
    ),
    "live_posts": (
        "The same requests with ten times the posts: 900,000 that came after the bundle, encoded "
        "from their content at the start, in nobody's history; both homes in one run "
        "(`python -m benchmarks.latency --live`)."
    ),
    "stages": "From files to the first feed, each stage a process of its own.",
    "plan": (
        "Cost of training as `headwater train --budget` estimates it, beside what it took: steps "
        "of a second or more, on one thread. The constants were fitted on simulated worlds, "
        "MovieLens-100K and MovieLens-1M, not on Last.fm."
    ),
    "features": (
        "The point-in-time join and the feature reads of the request path, beside Feast on the "
        "same inputs, with every value compared."
    ),
    "continual-2d": (
        "2,000 people and 8,000 posts over 28 days: trained without the last 2 days, then on all, "
        "cold and from the champion; and what the champion is worth to whom it never learned of."
    ),
    "continual-7d": "The same, without the last 7 days.",
    "retrieval": (
        "Closed forms and factors as they would be served, on Gowalla's validation cut: what a "
        "short list of neighbours or a low rank keeps of the exact recall (`kept`), the bundle's "
        "index against exact search on real item vectors, and people who were left out of the "
        "fit, folded in from their history, beside the same people fitted."
    ),
    "served": (
        "Gowalla from LightGCN's files to a served bundle, by the commands, and what everybody's "
        "lists reach on the files' own test, whose lines none of these commands has read. Settings "
        "stand in `benchmarks/served.py`."
    ),
    "ranker": (
        "The ranker's network against others, and without each group of its features: changes "
        "against the present one, with 95 % of 1,000 paired bootstrap resamples of people, bold "
        "where they exclude 0; a lower log-loss is better. Three fits a model on rows between the "
        "two cuts, each judged on other people, later in time in the simulated world; the test is "
        "never asked. Latency is NumPy at 1,000 candidates on one thread. Every head's figures: "
        "`make bench NAME=ranker_variants`."
    ),
    "propensities": (
        "Logged propensities against Monte-Carlo: a chi-square test a feed, whose p-values must "
        "be uniform; and what drawn pages keep of the greedy page's value."
    ),
    "diversity": "Diversity rules over the same pools, in true likes of a world that is known.",
    "replay": "Feeds rebuilt from their decision records, and what a record weighs.",
    "faults": "Every component broken in turn: the level that answered, and how late.",
    "swap": "Bundles changed under load: 20,000 posts, 5,000 people, 20 requests a second.",
    "why": "Why and why-not answers for random posts of the corpus and of feeds.",
}
_LEFT_OUT: Final = {"broken"}
_ELSEWHERE: Final = {"ranker_variants", "scaling"}
"""What is told in another document, or in short by another section."""


def main() -> None:
    """Rewrite the sections whose runs are here."""
    old = _sections(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {}
    runs = [path for path in sorted(BENCH.glob("*.json")) if path.stem not in _ELSEWHERE]
    new = {path.stem: _section(path) for path in runs}
    body = "\n".join({**old, **new}[name] for name in sorted({**old, **new}))
    TARGET.write_text(f"{_HEAD}\n{body}", encoding="utf-8")
    print(f"written: {TARGET} ({', '.join(new) or 'no runs found'})")


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## ([\w-]+)\n", text, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {name: f"## {name}\n{body.rstrip()}\n" for name, body in pairs}


def _section(path: Path) -> str:
    run = json.loads(path.read_text(encoding="utf-8"))
    machine = run["machine"]
    lines = [
        f"## {path.stem}",
        "",
        _what(path.stem),
        "",
        f"{run['date']}, commit {run['commit'] or 'none'}: {machine['cpu']}, {machine['cores']} "
        f"cores, {machine['memory_gib']} GiB, Python {machine['python']}.",
        "",
        *_table(run["rows"]),
        "",
    ]
    return "\n".join(lines)


def _what(name: str) -> str:
    """Say what is measured: the words beside the program, where it has more than a sentence."""
    beside = Path(__file__).with_name(f"{name}.md")
    return beside.read_text(encoding="utf-8").strip() if beside.exists() else _WHAT.get(name, "")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = [n for n in dict.fromkeys(k for row in rows for k in row) if n not in _LEFT_OUT]
    head = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return head + ["| " + " | ".join(_cell(row.get(n)) for n in names) + " |" for row in rows]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4g}"


if __name__ == "__main__":
    main()

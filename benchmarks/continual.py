"""Warm start beside a cold one, and what a bundle is worth to strangers, in a world that goes on.

`make bench NAME=continual ARGS="--days 2"`: a champion is trained on all but the last days of a
generated world; then the whole world is there, and another is trained cold and from the champion.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.measure import BENCH, Row, finish
from contracts.clock import DAY_US, to_datetime
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.console import Reporter
from pipelines.ingestion.ingest import ingest, open_dataset
from simulator.world import DEFAULT_END_US, World
from training.champion import STRANGERS, judge_bundle
from training.config import TrainingConfig
from training.drift import drift_of
from training.evaluate import DECIDING, table
from training.intervals import bootstrap_means, interval
from training.ranking import TrainingResult, test_exam, train_ranking
from training.reading import TrainingData, read_training_data
from training.scoring import Judged
from training.stages import StageClock

MODELS = ("als", "deep", "ensemble")
COLUMNS = ("what", "cold", "warm", "warm - cold")


def main() -> None:
    """Train three times, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=2, help="days that the log gains")
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = TrainingConfig(seed=options.seed, threads=1, deep_seconds=600.0)
    early, whole = grow(BENCH / "continual", options.people, options.days)
    champion = train_ranking(early, config, StageClock()).bundle
    runs = {
        name: train_ranking(whole, config, StageClock(), champion, warm=name == "warm")
        for name in ("cold", "warm")
    }
    print("\n".join(runs["warm"].warm))
    report = drift_of(champion, whole)
    print(f"drift: due {report.due}, {report.why}")
    rows = [*_quality(runs), *_seconds(runs), *_strangers(champion, whole, config)]
    finish(f"continual-{options.days}d", rows, COLUMNS)


def grow(folder: Path, people: int, days: int) -> tuple[TrainingData, TrainingData]:
    """Read a world without its last days, and whole, from one workspace."""
    shutil.rmtree(folder, ignore_errors=True)
    World.generate(11, people=people, posts=4 * people).write(folder / "whole")
    shutil.copytree(folder / "whole", folder / "early")
    events = pq.read_table(folder / "whole" / "events.parquet")
    cut = to_datetime(DEFAULT_END_US - days * DAY_US)
    early = events.filter(pc.less(events["known_time"], cut))
    pq.write_table(early, folder / "early" / "events.parquet")
    posts = (folder / "whole" / "posts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    made = [line for line in posts if line.split('"created":"')[1] < cut.isoformat()]
    (folder / "early" / "posts.jsonl").write_text("".join(made), encoding="utf-8")
    read = []
    with Workspace.open(folder / "home") as workspace:
        for name in ("early", "whole"):
            ingest(workspace, open_dataset(folder / name), Reporter(as_json=True))
            read.append(read_training_data(workspace))
    return read[0], read[1]


def _quality(runs: dict[str, TrainingResult]) -> list[Row]:
    rows: list[Row] = []
    for model in MODELS:
        cold, warm = (_values(runs[name].judged[model]) for name in ("cold", "warm"))
        means = bootstrap_means(np.stack([cold, warm], axis=1), 0)
        found = [
            interval(float(np.nanmean(v)), m) for v, m in zip((cold, warm), means.T, strict=True)
        ]
        gap = interval(found[1].mean - found[0].mean, means[:, 1] - means[:, 0])
        rows.append(dict(zip(COLUMNS, (f"{model} {DECIDING}", *(v.text() for v in (*found, gap))),
                             strict=True)))  # fmt: skip
    return rows


def _values(judged: Judged) -> np.ndarray:
    return judged.values[DECIDING]


def _seconds(runs: dict[str, TrainingResult]) -> list[Row]:
    costs = {
        name: {stage: sum(c.seconds for c in run.costs if c.name.split(",")[0] == stage)
               for stage in dict.fromkeys(c.name.split(",")[0] for c in run.costs)}
        for name, run in runs.items()
    }  # fmt: skip
    for cost in costs.values():
        cost["all stages"] = sum(cost.values())
    return [
        {"what": f"{stage}, seconds", "cold": costs["cold"][stage], "warm": costs["warm"][stage],
         "warm - cold": costs["warm"][stage] - costs["cold"][stage]}
        for stage in ("als", "deep", "ranker", "all stages")
    ]  # fmt: skip


def _strangers(champion: Bundle, data: TrainingData, config: TrainingConfig) -> list[Row]:
    """Give the champion's Recall@20 of people and posts that it never learned of."""
    exam, source, split = test_exam(data, config)
    judged = judge_bundle(champion, data.dataset, exam, source, config.union)
    rows = table("world", split.sentence, list(judged.values()), exam, config.seed)
    return [
        {"what": f"champion's {row.model}: recall@20 of {name}", "cold": row.slices[name].text()}
        for row in rows for name in STRANGERS if name in row.slices
    ]  # fmt: skip


if __name__ == "__main__":
    main()

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
from training.stages import StageClock
from training.warm import WarmStart

MODELS = ("collaborative", "deep", "ensemble")
COLUMNS = ("what", "cold", "warm", "warm - cold", "champion")


def main() -> None:
    """Train three times, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=2, help="days that the log gains")
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = TrainingConfig(seed=options.seed, threads=1, deep_seconds=600.0)
    early, whole = grow(BENCH / "continual", options.people, options.days)
    before = train_ranking(early, config, StageClock())
    champion = before.bundle
    starts = {"cold": None, "warm": WarmStart.of(champion, before.first, whole.dataset, config)}
    runs = {n: train_ranking(whole, config, StageClock(), champion, s) for n, s in starts.items()}
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
        both = [runs[name].judged[model].values[DECIDING] for name in ("cold", "warm")]
        means = bootstrap_means(np.stack(both, axis=1), 0)
        cold, warm = (float(np.nanmean(values)) for values in both)
        rows.append(
            {
                "what": f"{model}, {DECIDING}",
                "cold": interval(cold, means[:, 0]).text(),
                "warm": interval(warm, means[:, 1]).text(),
                "warm - cold": interval(warm - cold, means[:, 1] - means[:, 0]).text(),
            }
        )
    return rows


def _seconds(runs: dict[str, TrainingResult]) -> list[Row]:
    def spent(name: str, stage: str) -> float:
        return sum(c.seconds for c in runs[name].costs if stage in ("all", c.name.split(",")[0]))

    stages = ("als", "deep", "ranker", "all")
    pairs = {stage: (spent("cold", stage), spent("warm", stage)) for stage in stages}
    return [
        {"what": f"{stage}, seconds", "cold": cold, "warm": warm, "warm - cold": warm - cold}
        for stage, (cold, warm) in pairs.items()
    ]


def _strangers(champion: Bundle, data: TrainingData, config: TrainingConfig) -> list[Row]:
    """Give the champion's Recall@20 of people and posts that it never learned of."""
    exam, source, split = test_exam(data, config)
    judged = judge_bundle(champion, data.dataset, exam, source, config.union)
    rows = table("world", split.sentence, list(judged.values()), exam, config.seed)
    found = [(row, name) for row in rows for name in STRANGERS if name in row.slices]
    everybody = [
        {"what": f"{row.model}, recall@20", "champion": row.metrics["recall@20"].text()}
        for row in rows
    ]
    return everybody + [
        {
            "what": f"{row.model}, {name.replace('_', ' ')}",
            "champion": row.slices[name].text(),
        }
        for row, name in found
    ]


if __name__ == "__main__":
    main()

"""`headwater train`: from the event log to a bundle."""

from typing import Annotated

import typer

from pipelines.console import AsJson, Home, Reporter, Results, home_of
from pipelines.flow import run_training
from training.config import TrainingConfig
from training.evaluate import ModelRow
from training.split import SplitConfig
from training.stages import StageClock

Warm = Annotated[
    bool, typer.Option("--continue", help="Begin from the champion's weights: fewer passes.")
]


def train(
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the training libraries.")] = 2,
    deep_seconds: Annotated[
        float | None,
        typer.Option(min=1.0, help="Time budget of each fit of the deep family; 30 to 90 by size."),
    ] = None,
    test_people: Annotated[
        int, typer.Option(min=1, help="Most people asked in validation and test.")
    ] = 10_000,
    refit: Annotated[
        bool, typer.Option(help="Fit the families again on all before the test.")
    ] = True,
    warm: Warm = False,
    results: Results = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Train all model families and the ensemble ranker into a bundle.

    Families are fitted before a first cut in time, the ranker between the cuts, and everything is
    tested after the second. The bundle becomes the challenger; `headwater publish` serves it.
    """
    report = Reporter(as_json)
    config = TrainingConfig(
        seed=seed,
        threads=threads,
        deep_seconds=deep_seconds,
        refit=refit,
        split=SplitConfig(most_people=test_people),
    )
    clock = StageClock(
        begins=lambda name: report.say(f"{name} ..."),
        done=lambda cost: report.say(f"  done in {cost.seconds:.1f} s, {cost.peak_mb:.0f} MB"),
    )
    found = run_training(home_of(home), config, clock, results, warm=warm)
    report.say(f"Warm start: {found.notes.get('Warm start', 'no, it is asked for by --continue')}")
    print_models(report, found.rows)
    figures = [(name, f"{value:.4f}") for name, value in found.ranker_metrics.items()]
    if figures:
        report.table("Ensemble ranker, its predictions on the test", ("figure", "value"), figures)
    report.say(f"Gate: {found.why}", style="bold")
    report.say(f"Bundle {found.bundle_id}. Next: headwater publish")
    report.finish(
        {
            "bundle_id": found.bundle_id,
            "run_id": found.run_id,
            "promote": found.promote,
            "why": found.why,
            "models": [model_summary(row) for row in found.rows],
            "ranker": found.ranker_metrics,
            "notes": found.notes,
            "stages": [
                {"stage": cost.name, "seconds": cost.seconds, "peak_mb": cost.peak_mb}
                for cost in found.costs
            ],
            "seconds": round(sum(cost.seconds for cost in found.costs), 3),
            "peak_mb": max(cost.peak_mb for cost in found.costs),
        }
    )


def print_models(report: Reporter, rows: list[ModelRow]) -> None:
    """Print the table of models, figures with their 95 % intervals."""
    shown = ("recall@20", "ndcg@20")
    columns = ("model", "Recall@10", "HR@10", *shown, "NDCG@20 over popularity", "coverage@20")
    report.table(
        f"{rows[0].set}: {rows[0].people} people tested",
        columns,
        [
            (
                row.model,
                f"{row.metrics['recall@10'].mean:.4f}",
                f"{row.metrics['hr@10'].mean:.4f}",
                *(row.metrics[name].text() for name in shown),
                row.over_popularity.text(),
                f"{row.lists['coverage@20']:.3f}",
            )
            for row in rows
        ],
    )
    report.say(f"Protocol: {rows[0].protocol}.")


def model_summary(row: ModelRow) -> dict[str, object]:
    """Give a row as plain values: metric -> [mean, low, high]."""
    return row.model_dump(mode="json", exclude={"set", "protocol", "fit_seconds"})

"""`headwater train`: from the event log to a bundle, in a budget where one is given."""

from pathlib import Path
from typing import Annotated, Any

import typer

from contracts.errors import InvalidInput
from pipelines.amounts import megabytes_of, seconds_of
from pipelines.anytime import COMPARED, AnytimeTraining, limits_here, search_home, tell_left_out
from pipelines.console import AsJson, Home, Reporter, Results, home_of
from pipelines.flow import FlowResult, read_home, run_training
from pipelines.ray_option import RayWorkers, ray_session
from training.config import TrainingConfig
from training.evaluate import ModelRow
from training.recipes.deep import DeepRecipe
from training.report import write_results
from training.search import configured
from training.split import SplitConfig
from training.stages import StageClock

Warm = Annotated[
    bool, typer.Option("--continue", help="Begin from the champion's weights: fewer passes.")
]
FinalFit = Annotated[
    bool,
    typer.Option("--final-fit", help="After the test, fit the families once more on everything."),
]
Budget = Annotated[
    float | None,
    typer.Option(
        parser=seconds_of, help="Time for all, as 90s, 10m or 2h: a first bundle soon, then better."
    ),
]
Ram = Annotated[
    float | None,
    typer.Option(
        parser=megabytes_of, help="With --budget: memory, as 512m or 8g; what is free by default."
    ),
]
Search = Annotated[
    float | None,
    typer.Option(parser=seconds_of, help="Time to search settings on validation first, as 5m."),
]
Publish = Annotated[
    bool, typer.Option("--publish", help="With --budget: publish what the gate lets through.")
]
Settings = Annotated[
    Path | None, typer.Option(help="File of settings: what a search wrote, or your own.")
]


def train(
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
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
    final_fit: FinalFit = False,
    warm: Warm = False,
    budget: Budget = None,
    ram: Ram = None,
    publish: Publish = False,
    search: Search = None,
    config: Settings = None,
    ray: RayWorkers = None,
    results: Results = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Train all model families and the ensemble ranker into a bundle.

    Families are fitted before a first cut in time, the ranker between the cuts, and everything is
    tested after the second. The bundle becomes the challenger; `headwater publish` serves it.
    With --budget costs are estimated first, and better bundles follow a quick one.
    """
    report, folder = Reporter(as_json), home_of(home)
    split = SplitConfig(most_people=test_people)
    base = TrainingConfig(
        seed=seed,
        threads=threads,
        deep_seconds=deep_seconds,
        refit=refit,
        split=split,
        final_fit=final_fit,
    )
    base = base if config is None else configured(config, base)
    if budget is None and (publish or ram is not None):
        raise InvalidInput("--ram and --publish belong to --budget", hint="give --budget 10m")
    if budget is None:
        if search is not None:
            base = search_home(folder, read_home(folder), base, search, report)
        with ray_session(ray, folder) as jobs:
            fit = DeepRecipe.fit_reported if jobs is None else jobs.fit_deep
            found = run_training(folder, base, _clock(report), results, warm=warm, fit_deep=fit)
        begun = found.notes.get("Warm start", "no, it is asked for by --continue")
        report.say(f"Warm start: {begun}")
        _finish(report, found, {})
        return
    if warm or ray is not None:
        msg = "a budget begins cold and in one process"
        raise InvalidInput(msg, hint="give --budget, or --continue and --ray")
    limits = limits_here(budget, ram, threads)
    _in_budget(AnytimeTraining(folder, base, limits, report, publish, search or 0.0), results)


def _clock(report: Reporter) -> StageClock:
    return StageClock(
        begins=lambda name: report.say(f"{name} ..."),
        done=lambda cost: report.say(f"  done in {cost.seconds:.1f} s, {cost.peak_mb:.0f} MB"),
    )


def _in_budget(run: AnytimeTraining, results: Path | None) -> None:
    """Run the rounds, print estimates beside actuals, and report the best round as the run."""
    plan, report = run.run(), run.report
    said = run.summary(plan)
    for one in said["rounds"]:
        title = f"Round {one['round']!r}: {one['seconds']} s, estimated {one['estimated_seconds']}"
        rows = [tuple(str(step[name]) for name in COMPARED) for step in one["steps"]]
        report.table(title, COMPARED, rows)
    tell_left_out(report, run.left_out(plan))
    report.say(f"First bundle after {said['first_bundle_seconds']} s. Ended: {run.stopped}.")
    best = (run.best or run.ran[0]).found
    if results is not None:
        write_results(results, best.rows, best.ranker_metrics, best.notes, best.costs)
    _finish(report, best, {"budget": said})


def _finish(report: Reporter, found: FlowResult, more: dict[str, Any]) -> None:
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
            **more,
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
    return row.model_dump(mode="json", exclude={"set", "protocol"})

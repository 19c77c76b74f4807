"""The demo: from nothing, or from a folder of files, to a served feed; one function a stage."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from time import perf_counter
from typing import Any, Final

from contracts.clock import DAY_US, SECOND_US, now_us
from contracts.errors import Conflict
from features.materialize import materialize
from features.segments import times_of
from features.store import open_store
from features.workspace import Workspace
from feed_api import keys
from feed_api.database import home_url, open_database
from pipelines.certify import certify_home
from pipelines.commands.train import print_models
from pipelines.console import Reporter
from pipelines.demo_feeds import print_addresses, serve_on, show_feeds
from pipelines.describe import describe
from pipelines.flow import run_training
from pipelines.ingestion.ingest import ingest, open_dataset
from pipelines.publish import publish_bundle
from pipelines.server_process import RunningServer, free_port, serving
from simulator.world import World
from training.config import TrainingConfig, small_config
from training.evaluate import ModelRow
from training.stages import StageClock
from training.tracking import CHAMPION, set_alias

MARKER: Final = "DEMO"
_FRESH_DAYS: Final = 2
_SMALL_BELOW: Final = 1000


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What the demo is to do."""

    home: Path
    data: Path | None
    once: bool
    people: int
    posts: int
    port: int
    results: Path | None = None
    """Markdown file whose section of this data set is replaced."""
    seed: int = 1


def run_demo(plan: DemoPlan, report: Reporter) -> dict[str, Any]:
    """Run every stage and give the summary; without `once` the server goes on until Ctrl-C."""
    start = perf_counter()
    clear_home(plan.home)
    folder = plan.data or _write_world(plan, report)
    with Workspace.open(plan.home) as workspace:
        counts = _ingest(workspace, folder, report)
        _materialize(workspace, report)
        offset = clock_offset_seconds(workspace)
    models = _train_and_publish(plan, report)
    token = _make_key(plan.home)
    with ExitStack() as stack:
        with report.stage("start the server"):
            server = _start(stack, plan, token, offset)
        shown = show_feeds(plan.home, server, token, offset, report)
        took = round(perf_counter() - start, 1)
        report.say(f"From start to feed: {took:.0f} s", style="bold")
        print_addresses(server, token, plan.home, shown["viewer"], report)
        if not plan.once:
            serve_on(server)
    return {
        "ok": shown["smoke"]["items"] > 0 and shown["smoke"]["level"] == "full",
        "home": str(plan.home),
        "counts": counts,
        "seconds": report.seconds,
        "total_seconds": took,
        **models,
        **shown,
    }


def clear_home(home: Path) -> None:
    """Begin anew: remove what an earlier demo left; Conflict where the folder is not a demo's."""
    if home.exists() and any(home.iterdir()):
        if not (home / MARKER).exists():
            msg = f"{home} holds data that no demo made"
            raise Conflict(msg, hint="name another folder with --home")
        rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).write_text("Made by `headwater demo`, which empties this folder.\n")


def clock_offset_seconds(workspace: Workspace) -> int:
    """Give what to add to the clock so that archived data is served as on its last day.

    0 where the log ends within the last two days.
    """
    times = times_of(workspace.log.scan(columns=["event_time"]), "event_time")
    last_us = int(times.max()) if len(times) else now_us()
    behind_us = now_us() - last_us
    return 0 if abs(behind_us) < _FRESH_DAYS * DAY_US else -(behind_us // SECOND_US)


def _write_world(plan: DemoPlan, report: Reporter) -> Path:
    folder = plan.home / "world"
    with report.stage("generate a world"):
        World.generate(plan.seed, plan.people, plan.posts, end_us=now_us()).write(folder)
    return folder


def _ingest(workspace: Workspace, folder: Path, report: Reporter) -> Mapping[str, int]:
    with report.stage("ingest"):
        done = ingest(workspace, open_dataset(folder), report)
    for file in done.files:
        if file.rejected:
            report.say(f"{file.file}: {file.rejected} rows rejected, see {file.reject_file}")
    counts = {**workspace.catalog.counts(), "events": done.events_in_log}
    report.table(f"Data set {done.dataset}", ("what", "count"), list(counts.items()))
    for warned in describe(workspace).warnings:
        report.say(f"warning: {warned.text}", style="yellow")
    return counts


def _materialize(workspace: Workspace, report: Reporter) -> None:
    with report.stage("materialize features"), report.progress("snapshots") as advance:
        done = materialize(workspace, progress=lambda _, total: advance(total=total))
    with report.stage("fill the online store"):
        store = open_store(workspace)
        store.apply()
        store.materialize(done.end_us)


def _train_and_publish(plan: DemoPlan, report: Reporter) -> dict[str, Any]:
    """Train, print the table, publish; a demo serves what it has even where the gate refuses."""
    small = plan.data is None and plan.people < _SMALL_BELOW
    config = small_config() if small else TrainingConfig()
    clock = StageClock(
        begins=lambda name: report.say(f"  {name}", style="dim"),
        done=lambda cost: report.say(f"    {cost.seconds:.1f} s", style="dim"),
    )
    with report.stage("train and evaluate"):
        found = run_training(plan.home, config, clock, plan.results)
    print_models(report, found.rows)
    report.say(f"Gate: {found.why}")
    with report.stage("certify features"):
        certify_home(plan.home)
    with report.stage("publish"):
        publish_bundle(plan.home, found.bundle_id)
        set_alias(plan.home, CHAMPION, found.bundle_id)
    return {
        "bundle_id": found.bundle_id,
        "gate": {"promote": found.promote, "why": found.why},
        "models": [_brief(row) for row in found.rows],
        "ranker": found.ranker_metrics,
    }


def _brief(row: ModelRow) -> dict[str, object]:
    """Give a row's main figures: [mean, low, high] each."""
    figures = {name: row.metrics[name] for name in ("recall@20", "ndcg@20", "hr@10")}
    compared = {
        "ndcg@20 over popularity": row.over_popularity,
        "ndcg@20 over best single": row.over_best_single,
    }
    rounded = {
        name: [round(value, 5) for value in interval]
        for name, interval in {**figures, **compared}.items()
    }
    return {"model": row.model, "people": row.people, **rounded}


def _make_key(home: Path) -> str:
    engine = open_database(home_url(home))
    made = keys.create_key(engine, "demo", [keys.Scope.ADMIN], now_us())
    engine.dispose()
    return made.token


def _start(stack: ExitStack, plan: DemoPlan, token: str, offset: int) -> RunningServer:
    settings = {"HEADWATER_CLOCK_OFFSET_SECONDS": str(offset)}
    port = free_port(plan.port)
    return stack.enter_context(serving(plan.home, token, port, settings, plan.home / "server.log"))

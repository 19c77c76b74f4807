"""The demo: from nothing, or from a folder of files, to a served feed; one function a stage."""

import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from time import perf_counter
from typing import Any, Final

from contracts.clock import DAY_US, SECOND_US, Clock, now_us
from contracts.errors import Conflict, InvalidInput, Unavailable
from features.materialize import materialize
from features.segments import integers_of
from features.storage import WriterLock
from features.store import open_store
from features.workspace import Workspace
from feed_api.signals import signals_lead_to
from pipelines import worked_example
from pipelines.certify import certify_home
from pipelines.commands.train import print_models
from pipelines.console import Reporter
from pipelines.describe import describe
from pipelines.feeds import answer_rows, print_feed
from pipelines.flow import run_training
from pipelines.ingestion.ingest import ingest, open_dataset
from pipelines.platform_client import PlatformClient
from pipelines.publish import publish_bundle
from pipelines.server_process import RunningServer, free_port, make_admin_key, serving
from simulator.world import World
from training.config import TrainingConfig, small_config
from training.evaluate import ModelRow
from training.stages import StageClock
from training.tracking import CHAMPION, set_alias

MARKER: Final = "DEMO"
_FRESH_DAYS: Final = 2
_SMALL_BELOW: Final = 1000
_SHOWN_FEEDS: Final = 2
_SHOWN_POSTS: Final = 8
_KEPT_POSTS: Final = 3
_PAGE: Final = 20


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
    folder = _begin(plan, report)
    with Workspace.open(plan.home) as workspace:
        counts = _ingest(workspace, folder, report)
        _materialize(workspace, report)
        offset = clock_offset_seconds(workspace)
    models = _train_and_publish(plan, report)
    token = make_admin_key(plan.home, "demo")
    port, log = free_port(plan.port), plan.home / "server.log"
    settings = {"HEADWATER_CLOCK_OFFSET_SECONDS": str(offset)}
    with ExitStack() as stack:
        # Told to end, it takes the server with it.
        stack.enter_context(signals_lead_to(lambda *_: sys.exit(143), signal.SIGTERM))
        with report.stage("start the server"):
            server = stack.enter_context(serving(plan.home, token, port, settings, log))
        shown = _show_feeds(plan.home, server, token, offset, report)
        took = round(perf_counter() - start, 1)
        report.say(f"From start to feed: {took:.0f} s", style="bold")
        _print_addresses(server, token, plan.home, shown["viewer"], report)
        if not plan.once:
            _serve_on(server)
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
    """Begin anew: remove what an earlier demo left.

    Conflict where the folder is not a demo's, or somebody is writing to it.
    """
    if home.exists() and any(home.iterdir()):
        if not (home / MARKER).exists():
            msg = f"{home} holds data that no demo made"
            raise Conflict(msg, hint="name another folder with --home")
        lock = WriterLock(home / "writer.lock")
        try:
            rmtree(home)
        finally:
            lock.release()
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).write_text("Made by `headwater demo`, which empties this folder.\n")


def clock_offset_seconds(workspace: Workspace) -> int:
    """Give what to add to the clock so that archived data is served as on its last day.

    0 where the log ends within the last two days.
    """
    times = integers_of(workspace.log.scan(columns=["event_time"]), "event_time")
    last_us = int(times.max()) if len(times) else now_us()
    behind_us = now_us() - last_us
    return 0 if abs(behind_us) < _FRESH_DAYS * DAY_US else -(behind_us // SECOND_US)


def _begin(plan: DemoPlan, report: Reporter) -> Path:
    """Empty the home and give the folder to read; what is wrong is found out before."""
    if plan.data is not None:
        if plan.data.resolve().is_relative_to(plan.home.resolve()):
            msg = f"{plan.data} lies in {plan.home}, which the demo empties"
            raise InvalidInput(msg, hint="name another folder with --home")
        open_dataset(plan.data)
        clear_home(plan.home)
        return plan.data
    with report.stage("generate a world"):
        world = World.generate(plan.seed, plan.people, plan.posts, end_us=now_us())
        clear_home(plan.home)
        world.write(plan.home / "world")
    return plan.home / "world"


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


def _show_feeds(
    home: Path, server: RunningServer, token: str, offset_seconds: int, report: Reporter
) -> dict[str, Any]:
    """Print feeds and the worked example; give them and a smoke request's answer."""
    now = Clock(offset_seconds * SECOND_US).now_us()
    with (
        PlatformClient(server.url, token) as client,
        Workspace.open(home, read_only=True) as workspace,
    ):
        shown = worked_example.some_viewers(workspace, _SHOWN_FEEDS, worked_example.TYPICAL)
        viewer = worked_example.some_viewers(workspace, 3, worked_example.LITTLE_KNOWN)[-2:][0]
        feeds = []
        for person in shown:
            rows = answer_rows(workspace, client.feed(person, _SHOWN_POSTS), now)
            print_feed(report, f"The feed of {person}", rows)
            feeds.append({"viewer": person, "items": [asdict(row) for row in rows[:_KEPT_POSTS]]})
        example = None
        if len(workspace.catalog.topics()[0]):
            example = worked_example.three_likes(workspace, client, viewer, now)
            worked_example.print_example(report, example)
        start = perf_counter()
        answer = client.feed(viewer, _PAGE)
        smoke = {
            "items": len(answer["items"]),
            "level": answer["level"],
            "milliseconds": round(1000 * (perf_counter() - start), 1),
        }
    told = None if example is None else example.as_json()
    return {"viewer": viewer, "feeds": feeds, "example": told, "smoke": smoke}


def _print_addresses(
    server: RunningServer, token: str, home: Path, viewer: str, report: Reporter
) -> None:
    """Say where to go on."""
    url = f"{server.url}/v1/platform/feed?viewer={viewer}"
    rows = [
        ("API documentation", f"{server.url}/docs"),
        ("metrics", f"{server.url}/metrics"),
        ("a feed over HTTP", f"curl -H 'Authorization: Bearer {token}' '{url}'"),
        ("a feed in the terminal", f"headwater feed {viewer} --home {home}"),
        ("MLflow", f"headwater mlflow --home {home}"),
        ("the server's log", str(server.log)),
    ]
    report.say("Where to go on", style="bold")
    for what, where in rows:
        report.console.print(f"  {what:<24}{where}", soft_wrap=True, markup=False)


def _serve_on(server: RunningServer) -> None:
    """Wait for Ctrl-C; Unavailable where the server ends by itself."""
    with suppress(KeyboardInterrupt):
        code = server.process.wait()
        msg = f"the server ended by itself with status {code}"
        raise Unavailable(msg, hint=f"its log is {server.log}")

"""Training in a budget: a first bundle soon, then better ones while time is left."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import numpy as np
import psutil

from contracts.errors import BundleMismatch, Conflict
from contracts.events import POSITIVE_ACTIONS
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.console import Reporter
from pipelines.flow import FlowResult, load_champion, read_home, set_challenger, train_on
from pipelines.publish import champion_id, publish_bundle
from training.config import TrainingConfig
from training.costs import Limits, Sizes, machine_speed
from training.dataset import require_actions
from training.plan import LeftOut, Plan, Round, make_plan, settings_of
from training.reading import TrainingData
from training.search import search
from training.stages import StageClock, StageCost
from training.tracking import CHALLENGER, CHAMPION, log_search, set_alias

CONFIGS: Final = "configs"
COMPARED: Final = ("step", "estimated_seconds", "seconds", "estimated_mb", "peak_mb")


class BudgetSpent(Exception):
    """A step would not end in time."""


class Ran(NamedTuple):
    """One round that ended with a bundle."""

    round: Round
    found: FlowResult
    seconds: float
    at_seconds: float
    """Since the command began."""


@dataclass(slots=True)
class AnytimeTraining:
    """Rounds of a plan, one after the other; what ended stays, whatever ends the next one."""

    home: Path
    base: TrainingConfig
    limits: Limits
    report: Reporter
    publish: bool = False
    search_seconds: float = 0.0
    began: float = field(default_factory=monotonic)
    ran: list[Ran] = field(default_factory=list)
    best: Ran | None = None
    """The newest round that the gate let through; the first one where it let none through."""
    published: dict[str, str] = field(default_factory=dict)
    """Bundle -> `published`, or why not."""
    stopped: str = "nothing better fits in the time left"
    _champion: Bundle | None = None
    _data: TrainingData | None = None

    def run(self) -> Plan:
        """Run all; InvalidInput where not even the first round fits. Give the first plan."""
        sizes, self._champion = count_home(self.home), load_champion(self.home)
        todo = plan = make_plan(
            sizes,
            self.base,
            self.limits,
            champion=champion_id(self.home) is not None,
            searching=self.search_seconds,
        )
        self._tell_plan(plan)
        try:
            while todo.rounds:
                done = self._run(todo.rounds[0])
                if self.search_seconds:
                    self._search()
                # What a machine turned out to be says more than half a second of timing it.
                speed = todo.limits.speed * min(1.5, max(0.3, done.round.seconds / done.seconds))
                limits = self.limits._replace(seconds=self._left(), speed=speed)
                todo = make_plan(sizes, self.base, limits, after=done.round.name)
        except (BudgetSpent, KeyboardInterrupt) as error:
            if not self.ran:
                raise
            spent = isinstance(error, BudgetSpent)
            self.stopped = f"the budget ended: {error}" if spent else "interrupted"
            self.report.say(f"Stopped, {self.stopped}. The best bundle so far stays.")
        return plan

    def _left(self) -> float:
        return self.limits.seconds - (monotonic() - self.began)

    def _run(self, this: Round) -> Ran:
        expected = {step.name: step.seconds for step in this.steps}

        def begins(name: str) -> None:
            seconds = expected.get(name, 0.0)
            if self.ran and seconds > self._left():
                raise BudgetSpent(f"{name!r} takes about {seconds:.1f} s")
            self.report.say(f"  {name}, about {seconds:.1f} s ...", style="dim")

        def done(cost: StageCost) -> None:
            self.report.say(f"    {cost.seconds:.1f} s, {cost.peak_mb:.0f} MB", style="dim")

        self.report.say(f"Round {this.name!r}, about {this.seconds:.0f} s", style="bold")
        started, clock = monotonic(), StageClock(begins, done)
        if self._data is None:
            with clock.stage("read"):
                self._data = read_home(self.home)
        found, tested = train_on(self.home, self._data, this.config, clock, self._champion)
        self.report.say(f"Gate: {found.why}", style="bold")
        now = monotonic()
        ended = Ran(this, found, now - started, now - self.began)
        self.ran.append(ended)
        if found.promote:
            self._champion = tested
        if found.promote or self.best is None:
            self.best = ended
        set_challenger(self.home, self.best.found.bundle_id)
        set_alias(self.home, CHALLENGER, self.best.found.bundle_id)
        if self.publish and found.promote:
            self._publish(found.bundle_id)
        return ended

    def _publish(self, bundle_id: str) -> None:
        """Make a bundle champion; what the certificate or the golden requests refuse stays."""
        try:
            publish_bundle(self.home, bundle_id)
        except (Conflict, BundleMismatch) as error:
            self.published[bundle_id] = str(error)
        else:
            set_alias(self.home, CHAMPION, bundle_id)
            self.published[bundle_id] = "published"
        self.report.say(f"{bundle_id}: {self.published[bundle_id]}")

    def _search(self) -> None:
        seconds, self.search_seconds = min(self.search_seconds, self._left()), 0.0
        if self._data is not None and seconds > 0:
            self.base = search_home(self.home, self._data, self.base, seconds, self.report)

    def _tell_plan(self, plan: Plan) -> None:
        rows = [
            (r.name, f"{r.seconds:.0f}", f"{r.peak.peak_mb:.0f}", r.peak.name) for r in plan.rounds
        ]
        self.report.table("Plan", ("round", "seconds, about", "MB, about", "most in"), rows)
        tell_left_out(self.report, plan.left_out)

    def left_out(self, plan: Plan) -> tuple[LeftOut, ...]:
        """Say what the best round left out."""
        best = self.best or self.ran[0]
        refused = [each.round for each in self.ran if not each.found.promote]
        return replace(plan, base=self.base).missing(best.round.config, refused)

    def summary(self, plan: Plan) -> dict[str, Any]:
        """Give plan, estimates beside actuals, and what is left out, as plain values."""
        return {
            "limits": self.limits._asdict(),
            "plan": [
                {"round": r.name, "seconds": r.seconds, "peak_mb": r.peak.peak_mb,
                 "settings": settings_of(r.config)} for r in plan.rounds
            ],
            "rounds": [_ran(each) for each in self.ran],
            "published": self.published,
            "left_out": [left._asdict() for left in self.left_out(plan)],
            "first_bundle_seconds": round(self.ran[0].at_seconds, 2),
            "stopped": self.stopped,
        }  # fmt: skip


def tell_left_out(report: Reporter, left_out: Sequence[LeftOut]) -> None:
    """Print what is left out, a line a reason."""
    for why in dict.fromkeys(left.why for left in left_out):
        parts = (f"{left.what} ({left.how})" for left in left_out if left.why == why)
        report.say(f"Left out, {why}: {'; '.join(parts)}")


def count_home(home: Path) -> Sizes:
    """Count what training would read, from two columns of the log; InvalidInput on too little."""
    with Workspace.open(home, read_only=True) as workspace:
        log = workspace.log.scan(columns=("type", "viewer_id"))
        posts = workspace.catalog.counts()["posts"]
        facts = json.loads(workspace.meta_get("dataset") or "{}")
    acting = np.isin(log["type"].to_numpy(), POSITIVE_ACTIONS)
    people = len(np.unique(log["viewer_id"].to_numpy()[acting]))
    actions = int(acting.sum())
    require_actions(str(facts.get("name", "events")), actions, people, posts)
    known = facts.get("has_impressions")
    return Sizes(people, posts, actions, log.num_rows - actions if known else 0)


def limits_here(seconds: float, ram_mb: float | None, threads: int) -> Limits:
    """Time this machine; memory is what is free where none is named."""
    free = psutil.virtual_memory().available / 2**20
    return Limits(seconds, free if ram_mb is None else ram_mb, threads, machine_speed())


def search_home(
    home: Path, data: TrainingData, config: TrainingConfig, seconds: float, report: Reporter
) -> TrainingConfig:
    """Search on validation, keep the file and the trials in MLflow; give what was found."""
    with report.stage(f"search on validation, {seconds:.0f} s"):
        searched, tried = search(data, config, seconds)
    path = searched.save(home / CONFIGS)
    log_search(home, searched, tried)
    for name, tuned in searched.tuned.items():
        word = "taken" if tuned.taken else "not better for certain: the default stays"
        report.say(
            f"{name}: {tuned.trials} trials, {tuned.pruned} pruned; NDCG@20 over the default on "
            f"people not searched on {tuned.gain.text()}; {word}"
        )
    report.say(f"Written: {path}")
    return searched.onto(config)


def _ran(one: Ran) -> dict[str, Any]:
    """Put estimate and actual of each step side by side, stages of one name together."""
    steps = []
    for name, seconds, peak in one.round.steps:
        mine = [cost for cost in one.found.costs if cost.name == name]
        took = round(sum(cost.seconds for cost in mine), 3)
        most = max((cost.peak_mb for cost in mine), default=0.0)
        steps.append(
            dict(zip(COMPARED, (name, round(seconds, 3), took, round(peak), most), strict=True))
        )
    return {
        "round": one.round.name,
        "bundle_id": one.found.bundle_id,
        "promote": one.found.promote,
        "why": one.found.why,
        "estimated_seconds": round(one.round.seconds, 2),
        "seconds": round(one.seconds, 2),
        "at_seconds": round(one.at_seconds, 2),
        "steps": steps,
    }

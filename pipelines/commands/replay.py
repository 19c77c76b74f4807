"""`headwater replay`: rebuild a served feed from its record, or a sample of all feeds."""

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.markup import escape
from threadpoolctl import threadpool_limits

from contracts.clock import to_datetime
from contracts.errors import InvalidInput, NotFound
from contracts.ids import Namespace, feed_id_text
from contracts.policy import Policy
from features.workspace import Workspace
from pipelines.console import AsJson, Home, Reporter, feed_id_of, home_of
from pipelines.policies import find_policy
from pipelines.replay import OUTCOMES, Checked, Sampled, check, replay_sample
from serving.proof.replay import Counterfactual, counterfactual
from serving.records.archive import RecordArchive
from serving.records.writer import find_record
from serving.shelves import Shelves
from serving.stages.decision import Decision, Record

_CONVERSE: Final = (
    "This is a counterfactual: only the recorded candidates are ordered again. What another bundle "
    "or policy would have retrieved, and how the viewer would have acted on it, is not known."
)


def replay(
    feed_id: Annotated[
        str | None, typer.Argument(help="The feed's id, 16 hexadecimal digits.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="A bundle's id: order the same candidates by its ranker.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="A policy's name or file: order the candidates by it.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Replay so many feeds, chosen by the seed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild a served feed from its record: identical to the bit, or what differs.

    With --bundle or --policy, what these would have made of the recorded candidates beside it.
    With --sample instead of a feed, the nightly check. Exit status 1 where any feed differs.
    """
    report, folder = Reporter(as_json), home_of(home)
    if sample is not None:
        if feed_id or bundle or policy:
            msg = "--sample checks feeds as they were served: it takes no feed, bundle or policy"
            raise InvalidInput(msg, hint="leave one of the two out")
        with report.progress("replay", sample) as advance:
            found = replay_sample(folder, sample, seed, advance)
        _show_sample(report, found)
        report.finish({"ok": not found.counts["different"], **found.as_dict()})
        return
    if feed_id is None:
        msg = "nothing to replay: name a feed, or say how many with --sample"
        raise InvalidInput(msg, hint="`headwater feed VIEWER` prints the id of the feed it ranks")
    _replay_one(report, folder, feed_id_of(feed_id), bundle, policy)


def _replay_one(
    report: Reporter, home: Path, feed_id: int, bundle: str | None, policy_ref: str | None
) -> None:
    """Replay a feed and show it; exit status 1 where it did not come back as it was served."""
    with closing(RecordArchive(home / "records", read_only=True)) as archive:
        record = find_record(archive, feed_id)
    if record is None:
        msg = f"there is no record of the feed {feed_id_text(feed_id)}"
        raise NotFound(msg, hint="records are kept for `record_days`")
    shelves = Shelves(home)
    with threadpool_limits(1), Workspace.open(home, read_only=True) as workspace:
        found = check(record, shelves)
        policy = shelves.policy(record["policy_hash"])
        shown = _Shown(report, workspace, record, policy)
        result = shown.feed(found)
        if bundle or policy_ref:
            other = find_policy(policy_ref, home) if policy_ref else policy
            ranker = shelves.ranker(bundle) if bundle else None
            result["counterfactual"] = shown.counterfactual(
                counterfactual(record, other, ranker), bundle, other
            )
    report.finish({"ok": found.outcome != "different", **result})


class _Shown:
    """One record on the terminal, ids as in the person's files."""

    def __init__(
        self, report: Reporter, workspace: Workspace, record: Record, policy: Policy
    ) -> None:
        self._report, self._workspace, self._record = report, workspace, record
        self._policy, self._decision = policy, Decision.of(record)

    def feed(self, found: Checked) -> dict[str, Any]:
        """Show the facts, the verdict and the slate; give them as JSON."""
        record = self._record
        feed = feed_id_text(record["feed_id"])
        viewer = self._name(Namespace.PERSON, record["viewer_id"])
        reasons = ", ".join(record["reasons"])
        removed = sum(json.loads(record["removed_counts"]).values())
        facts = {
            "feed": f"{feed} of {viewer}, {to_datetime(record['now']):%Y-%m-%d %H:%M:%S} UTC",
            "level": f"{record['level']}{f' ({reasons})' if reasons else ''}",
            "ranked by": f"{record['scorer']}, bundle {record['bundle_id'] or 'none'}, policy "
            f"{self._policy.name} {record['policy_hash']}",
            "known then": f"the event log up to {record['log_seq']:,}, "
            f"{max(0, record['history_version']):,} events in the viewer's history",
            "pool": f"{len(record['pool_ids'])} candidates, {len(record['slate'])} in the slate, "
            f"{len(record['reserve_ids'])} in reserve, {removed:,} removed by filters",
            "pages": f"first of {record['limit']}, {len(record['pages'])} read later",
        }
        for name, text in facts.items():
            self._report.console.print(f"[bold]{name:>10}[/]  {escape(text)}")
        slate = self._slate()
        rows = [(r["place"], r["post_id"], r["author_id"], r["value"], r["chance"]) for r in slate]
        self._report.table(
            f"First page as replayed, {len(rows)} posts",
            ("#", "post", "author", "value", "propensity"),
            [(str(place + 1), *rest) for place, *rest in rows],
        )
        self._verdict(found)
        return {
            "feed_id": feed, "viewer": viewer, "outcome": found.outcome,
            "identical": found.outcome not in {"different", "within_tolerance"},
            "differences": list(found.differences), "level": record["level"],
            "reasons": record["reasons"], "scorer": record["scorer"],
            "bundle_id": record["bundle_id"], "policy_hash": record["policy_hash"],
            "slate": slate, "pages": self._pages(),
        }  # fmt: skip

    def counterfactual(
        self, found: Counterfactual, bundle: str | None, policy: Policy
    ) -> dict[str, Any]:
        """Show what another bundle or policy makes of the same candidates, with the moves."""
        page = int(self._record["limit"])
        names = [f"bundle {bundle}"] * bool(bundle) + [f"policy {policy.name} {policy.hash}"]
        served = {post: place for place, post in enumerate(found.served.tolist())}
        rows, moves = [], []
        for place, post in enumerate(found.otherwise[:page].tolist()):
            before = served.get(post)
            rows.append((
                str(place + 1), self._name(Namespace.POST, post),
                "not in the slate" if before is None else str(before + 1),
                _arrow(before, place),
            ))  # fmt: skip
        for move in found.moves:
            name = self._name(Namespace.POST, move.post_id)
            moves.append({"post_id": name, "served": move.served, "otherwise": move.otherwise})
        self._report.table(
            f"Counterfactual: {' and '.join(names)}", ("#", "post", "served at", "move"), rows
        )
        stayed = len(np.intersect1d(found.otherwise[:page], found.served[:page]))
        self._report.say(f"{stayed} of {len(rows)} posts of the first page stay on it.")
        self._report.say(_CONVERSE, style="yellow")
        return {
            "bundle_id": bundle, "policy": policy.name, "policy_hash": policy.hash,
            "otherwise": [self._name(Namespace.POST, p) for p in found.otherwise.tolist()],
            "moves": moves, "stay_on_first_page": stayed, "note": _CONVERSE,
        }  # fmt: skip

    def _slate(self) -> list[dict[str, Any]]:
        """List the first page with values and propensities; a fallback has neither."""
        decision, page = self._decision, int(self._record["limit"])
        ids = decision.ordered_ids[:page].tolist()
        posts = [self._name(Namespace.POST, post) for post in ids]
        if not decision.ranked:
            blank = {"author_id": None, "value": None, "chance": None}
            return [{"place": k, "post_id": post, **blank} for k, post in enumerate(posts)]
        order, pool = decision.pool(decision.ledger(self._policy).value)
        chosen = decision.select(pool, self._policy)
        rows = order[chosen.rows[:page]]
        authors = np.asarray(self._record["authors"])[rows].tolist()
        values = (pool.values[chosen.rows] * chosen.multiplier)[:page].tolist()
        chances = chosen.propensity[:page].tolist()
        return [
            {"place": k, "post_id": self._name(Namespace.POST, post),
             "author_id": self._name(Namespace.PERSON, author), "value": value, "chance": chance}
            for k, (post, author, value, chance) in enumerate(
                zip(decision.post_ids[rows].tolist(), authors, values, chances, strict=True)
            )
        ]  # fmt: skip

    def _pages(self) -> list[dict[str, Any]]:
        return [
            {"offset": page["offset"], "read": to_datetime(page["now"]).isoformat(),
             "posts": [self._name(Namespace.POST, post) for post in page["posts"].tolist()],
             "gaps": page["gaps"]}
            for page in self._record["pages"]
        ]  # fmt: skip

    def _verdict(self, found: Checked) -> None:
        say = self._report.say
        if found.outcome == "different":
            say("DIFFERENT: the record does not give the feed that it names.", style="bold red")
        elif found.outcome == "fallback":
            say("The pipeline did not rank this feed: there is nothing to compute again.")
        elif found.outcome == "within_tolerance":
            say("Equal ids, values within 1e-6: as on another CPU class.", style="bold yellow")
        else:
            say("Identical: predictions, values, slate and propensities, to the bit.", "bold green")
        if found.outcome == "erased":
            say("It names people who were erased since: their ids are blanked in it.")
        for difference in found.differences:
            say(f"  {difference}", style="red")

    def _name(self, namespace: Namespace, row_id: int) -> str | None:
        """Give an id as in the person's files; a number for one that no file names."""
        if row_id < 0:
            return None
        try:
            return self._workspace.ids.external(namespace, np.array([row_id], dtype=np.int64))[0]
        except NotFound:
            return f"#{row_id}"


def _show_sample(report: Reporter, found: Sampled) -> None:
    told = found.as_dict()
    report.table(
        f"Replay of {told['records']:,} feeds, seed {found.seed}",
        ("outcome", "feeds", "share"),
        [(name, told[name], f"{told[name] / told['records']:.2%}") for name in OUTCOMES],
    )
    report.say(
        f"{told['identical']:,} of {told['replayed']:,} identical · record p50 "
        f"{told['record_bytes_p50']:,} p95 {told['record_bytes_p95']:,} bytes · "
        f"{told['per_second']:,} feeds a second",
        style="bold red" if told["different"] else "bold green",
    )
    for example in found.examples:
        report.say(f"  {example['feed_id']}: {'; '.join(example['differences'])}", style="red")


def _arrow(before: int | None, after: int) -> str:
    if before is None:
        return "in"
    gap = before - after
    return "=" if not gap else f"{'up' if gap > 0 else 'down'} {abs(gap)}"

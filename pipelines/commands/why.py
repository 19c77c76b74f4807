"""`headwater why`: explain one post of one feed."""

from contextlib import closing
from typing import Annotated

import typer
from rich.markup import escape
from rich.padding import Padding

from contracts.errors import NotFound
from contracts.feed import Explanation
from contracts.ids import UNKNOWN_ID, Namespace
from contracts.settings import load_settings
from features.workspace import Workspace
from feed_api.platform.why import Why, why_of
from pipelines.console import AsJson, Home, Reporter, feed_id_of, home_of
from serving.opening import open_service


def why(
    feed_id: Annotated[str, typer.Argument(help="The feed's id, 16 hexadecimal digits.")],
    post_id: Annotated[str, typer.Argument(help="The post's id, as in your files.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a post stands where it stands in a feed, or why it is not there.

    What the feed's record does not hold is computed as things stand now, and it says so.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    feed = feed_id_of(feed_id)
    with Workspace.open(folder, read_only=True) as workspace:
        post = int(workspace.ids.lookup(Namespace.POST, [post_id])[0])
        if post == UNKNOWN_ID:
            raise NotFound(f"no post is known as {post_id!r}", hint="ids are those of your files")
        with closing(open_service(workspace, load_settings(), start=False)) as service:
            found = service.explain(feed, None, post)
        answer = why_of(workspace, found)
    _print(report, answer, found)
    report.finish(answer.body)


def _print(report: Reporter, answer: Why, found: Explanation) -> None:
    told = answer.told
    report.say(answer.labels[found.post_id])
    report.say(told.headline, style="bold")
    for title, sentences in (
        ("Why", told.why),
        ("Why here", told.here),
        ("Why not", told.why_not),
        ("What would change it", told.change),
        ("What is recorded", told.basis),
    ):
        if sentences:
            report.say(f"\n{title}", style="bold cyan")
            for sentence in sentences:
                report.console.print(Padding(escape(sentence), (0, 0, 0, 2)))
    report.say("")
    if found.sources_now:
        rows = [(s.source, s.rank, s.quota) for s in found.sources_now]
        report.table("Where each source ranks it now", ("source", "rank", "it may give"), rows)
    parts = [(name, f"{v:.6g}") for name, v in found.ledger.items() if v]
    if parts:
        report.table("Ledger, in the order of its fold, without zeros", ("part", "value"), parts)
    chances = [(name, f"{v:.4g}") for name, v in found.probabilities.items() if v]
    if chances:
        report.table("Predicted (dwell in seconds)", ("action", "probability"), chances)

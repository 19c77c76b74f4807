"""`headwater why`: explain one post of one feed."""

from typing import Annotated

import numpy as np
import typer

from contracts.errors import InvalidInput, NotFound
from contracts.feed import Explanation
from contracts.ids import UNKNOWN_ID, Namespace, feed_id_text, parse_feed_id
from contracts.settings import load_settings
from features.workspace import Workspace
from feed_api.platform.words import explanation_text
from pipelines.console import AsJson, Home, Reporter, home_of
from serving.opening import open_service


def why(
    feed_id: Annotated[str, typer.Argument(help="The feed's id, 16 hexadecimal digits.")],
    post_id: Annotated[str, typer.Argument(help="The post's id, as in your files.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a post stands where it stands in a feed, or why it is not there."""
    report = Reporter(as_json)
    folder = home_of(home)
    feed = _feed_id(feed_id)
    with Workspace.open(folder, read_only=True) as workspace:
        post = int(workspace.ids.lookup(Namespace.POST, [post_id])[0])
        if post == UNKNOWN_ID:
            msg = f"no post is known as {post_id!r}"
            raise NotFound(msg, hint="ids are those of your files")
        service = open_service(workspace, load_settings(), start=False)
        try:
            found = service.explain(feed, None, post)
        finally:
            service.close()
        ahead = _external(workspace, found)
    sentence = explanation_text(found, ahead)
    report.say(sentence, style="bold")
    parts = [(name, f"{value:.6g}") for name, value in found.ledger.items()]
    if parts:
        report.table("Ledger: terms, then multipliers, then lifts", ("part", "value"), parts)
        chances = [(name, f"{value:.4g}") for name, value in found.probabilities.items()]
        report.table("Predicted (dwell in seconds)", ("action", "probability"), chances)
    report.finish(
        {
            "feed_id": feed_id_text(found.feed_id),
            "post_id": post_id,
            "outcome": found.outcome,
            "position": found.position,
            "text": sentence,
            "sources": list(found.sources),
            "removed_by": found.removed_by,
            "value": found.value,
            "ledger": dict(found.ledger),
            "probabilities": dict(found.probabilities),
        }
    )


def _feed_id(text: str) -> int:
    try:
        return parse_feed_id(text)
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def _external(workspace: Workspace, found: Explanation) -> str | None:
    ahead = found.behind.get("post_id")
    if ahead is None:
        return None
    return workspace.ids.external(Namespace.POST, np.array([int(ahead)], dtype=np.int64))[0]

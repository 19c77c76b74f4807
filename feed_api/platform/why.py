"""An explanation as the API and the command line give it: external ids, numbers, and words."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.compute as pc

from contracts.feed import Explanation
from contracts.ids import Namespace, feed_id_text
from features.workspace import Workspace
from feed_api.platform.queries import names_of
from feed_api.platform.why_words import Told, tell

_TITLE: Final = 50


class Why(NamedTuple):
    """One explanation in both forms."""

    told: Told
    labels: Mapping[int, str]
    """What a reader calls each post: the start of its text and its id."""
    body: Mapping[str, Any]
    """Fields of `schemas.WhyOut`."""


def why_of(workspace: Workspace, explanation: Explanation) -> Why:
    """Put an explanation into words and plain data, posts named by their external ids."""
    placed = explanation.placement
    rivals = [explanation.lost_to, placed.instead if placed else None]
    ahead = explanation.behind.get("post_id")
    ids = [explanation.post_id, *(rival.post_id for rival in rivals if rival)]
    if ahead is not None:
        ids.append(int(ahead))
    names = names_of(workspace, Namespace.POST, ids)
    labels = _labels(workspace, names)
    told = tell(explanation, labels)
    body = asdict(explanation)
    body |= {
        "feed_id": feed_id_text(explanation.feed_id),
        "post_id": names[explanation.post_id],
        "text": told.text,
    }
    if ahead is not None:
        body["behind"]["post_id"] = names[int(ahead)]
    for rival in (body["lost_to"], (body["placement"] or {}).get("instead")):
        if rival is not None:
            rival["post_id"] = names[rival["post_id"]]
    return Why(told, labels, body)


def _labels(workspace: Workspace, names: Mapping[int, str]) -> dict[int, str]:
    """Call each post by the start of its text; one that was deleted by its id alone."""
    rows = workspace.catalog.posts_by_id(np.array(list(names), dtype=np.int64))
    rows = rows.filter(pc.invert(rows.column("deleted")))
    ids, texts = rows.column("post_id").to_pylist(), rows.column("text").to_pylist()
    titles = {post: " ".join(text.split()) for post, text in zip(ids, texts, strict=True)}
    return {post: _label(titles.get(post, ""), name) for post, name in names.items()}


def _label(title: str, name: str) -> str:
    if not title:
        return f"post {name}"
    cut = title if len(title) <= _TITLE else f"{title[: _TITLE - 1].rstrip()}…"
    return f"“{cut}” ({name})"

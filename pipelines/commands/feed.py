"""`headwater feed`: rank one viewer's feed and print it."""

from contextlib import closing
from dataclasses import asdict
from secrets import randbits
from typing import Annotated

import typer

from contracts.clock import Clock
from contracts.ids import FeedId, UserId, feed_id_text
from contracts.query import FeedQuery
from contracts.settings import load_settings
from features.workspace import Workspace
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.feeds import page_rows, print_feed, viewer_id
from serving.opening import open_service


def feed(
    viewer: Annotated[str, typer.Argument(help="The viewer's id, as in your files.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Posts to print.")] = 20,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Rank a feed for one viewer and print it, a reason beside each post.

    The feed is ranked in this process, from the published bundle and the event log as it stands.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    now = Clock(load_settings().clock_offset_seconds * 1_000_000).now_us()
    with Workspace.open(folder, read_only=True) as workspace:
        person = viewer_id(workspace, viewer)
        settings = load_settings().unhurried()
        with closing(open_service(workspace, settings, start=False)) as service:
            page = service.open(FeedQuery(FeedId(randbits(63)), UserId(person), now, limit))
        rows = page_rows(workspace, page, now)
    feed_id = feed_id_text(page.feed_id)
    print_feed(report, f"Feed {feed_id} of {viewer}", rows)
    reasons = ", ".join(page.degrade_reasons)
    report.say(
        f"level {page.level}{f' ({reasons})' if reasons else ''} · followed "
        f"{page.followed_share:.0%} · policy {page.policy_hash} · bundle {page.bundle_id}"
    )
    if rows:
        report.say(f"Next: headwater why {feed_id} {rows[0].post_id}")
    report.finish(
        {
            "feed_id": feed_id,
            "viewer": viewer,
            "level": page.level,
            "degrade_reasons": list(page.degrade_reasons),
            "policy_hash": page.policy_hash,
            "bundle_id": page.bundle_id,
            "followed_share": page.followed_share,
            "items": [asdict(row) for row in rows],
        }
    )

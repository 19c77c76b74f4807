"""What the demo shows of a running server: feeds with reasons, the worked example, addresses."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from contracts.clock import SECOND_US, Clock
from contracts.errors import Unavailable
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.feeds import answer_rows, print_feed
from pipelines.platform_client import PlatformClient
from pipelines.server_process import RunningServer
from pipelines.worked_example import (
    LITTLE_KNOWN,
    TYPICAL,
    print_example,
    some_viewers,
    three_likes,
)

_SHOWN_FEEDS: Final = 2
_SHOWN_POSTS: Final = 8
_KEPT_POSTS: Final = 3
_PAGE: Final = 20


def show_feeds(
    home: Path, server: RunningServer, token: str, offset_seconds: int, report: Reporter
) -> dict[str, Any]:
    """Print feeds and the worked example; give them and a smoke request's answer."""
    now = Clock(offset_seconds * SECOND_US).now_us()
    with (
        PlatformClient(server.url, token) as client,
        Workspace.open(home, read_only=True) as workspace,
    ):
        shown = some_viewers(workspace, _SHOWN_FEEDS, TYPICAL)
        viewer = some_viewers(workspace, 3, LITTLE_KNOWN)[-2:][0]
        feeds = []
        for person in shown:
            rows = answer_rows(workspace, client.feed(person, _SHOWN_POSTS), now)
            print_feed(report, f"The feed of {person}", rows)
            feeds.append({"viewer": person, "items": [asdict(row) for row in rows[:_KEPT_POSTS]]})
        example = None
        if len(workspace.catalog.topics()[0]):
            example = three_likes(workspace, client, viewer, now)
            print_example(report, example)
        start = perf_counter()
        answer = client.feed(viewer, _PAGE)
        smoke = {
            "items": len(answer["items"]),
            "level": answer["level"],
            "milliseconds": round(1000 * (perf_counter() - start), 1),
        }
    told = None if example is None else example.as_json()
    return {"viewer": viewer, "feeds": feeds, "example": told, "smoke": smoke}


def print_addresses(
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


def serve_on(server: RunningServer) -> None:
    """Wait for Ctrl-C; Unavailable where the server ends by itself."""
    with suppress(KeyboardInterrupt):
        code = server.process.wait()
        msg = f"the server ended by itself with status {code}"
        raise Unavailable(msg, hint=f"its log is {server.log}")

"""`headwater simulate world`: files of a small world with known truth."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from contracts.clock import to_datetime, to_us
from contracts.errors import InvalidInput
from pipelines.console import AsJson, Reporter
from simulator.world import DEFAULT_END_US, World


def world(
    out: Annotated[Path, typer.Option(help="Folder to write the four files into.")],
    people: Annotated[int, typer.Option(help="How many people.")] = 3000,
    posts: Annotated[int, typer.Option(help="How many posts.")] = 12_000,
    days: Annotated[int, typer.Option(help="How many days the log spans.")] = 28,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same world.")] = 1,
    end: Annotated[
        str | None,
        typer.Option(help="When the world ends, ISO 8601 with a zone.", show_default="2026-11-01Z"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Generate a small world with known truth: people, posts, follows and what they did."""
    report = Reporter(as_json)
    end_us = DEFAULT_END_US if end is None else _moment(end)
    with report.stage("generate"):
        made = World.generate(seed, people, posts, days, end_us)
    with report.stage("write"):
        paths = made.write(out)
    counts = {
        "people": len(made.people),
        "posts": len(made.posts),
        "follows": len(made.history.follows.follower),
        "showings": len(made.history),
        "events": made.events.num_rows,
    }
    report.table(f"World {seed} in {out}", ("what", "count"), list(counts.items()))
    report.say(f"Next: headwater ingest {out}")
    files = [str(path) for path in paths]
    report.finish({**counts, "seed": seed, "end": to_datetime(end_us).isoformat(), "files": files})


def _moment(text: str) -> int:
    try:
        return to_us(datetime.fromisoformat(text))
    except ValueError as error:
        msg = f"--end wants a time such as 2026-11-01T00:00:00+00:00, got {text!r}: {error}"
        raise InvalidInput(msg) from error

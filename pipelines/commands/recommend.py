"""`headwater recommend`: plain top-k lists for everybody."""

from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import InvalidInput, NotFound
from models.bundle import Bundle
from pipelines.commands.evaluate import challenger_id
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.publish import champion_id
from pipelines.recommend import MODELS, recommend_all


def recommend(
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Write lists for everybody; needed, to be sure.")
    ] = False,
    k: Annotated[int, typer.Option("--k", min=1, max=1000, help="Posts a person.")] = 20,
    model: Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")] = "ensemble",
    bundle: Annotated[
        str | None, typer.Option(help="Bundle id; the champion, else the challenger, by default.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write plain top-k lists for all users to a Parquet file.

    Columns: person_id and post_id as in your files, rank from 1, score. Posts that a person has
    acted on are left out; the moment is just after the newest event.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    if not all_users:
        msg = "lists are written for everybody only"
        raise InvalidInput(msg, hint="add --all-users; for one person: headwater feed VIEWER")
    name = bundle or champion_id(folder) or challenger_id(folder)
    if name is None:
        msg = f"there is no bundle in {folder / 'bundles'}"
        raise NotFound(msg, hint="train one with `headwater train`")
    loaded = Bundle.load(folder / "bundles" / name)
    with report.progress("people") as advance:
        people, rows = recommend_all(folder, loaded, model, k, out, advance)
    report.say(f"{rows:,} rows for {people:,} people by {model} of bundle {name} in {out}")
    report.finish(
        {"people": people, "rows": rows, "model": model, "bundle_id": name, "out": str(out)}
    )

"""How every command speaks: text and tables for people, one JSON object for programs.

Under `--json` all that people read goes to standard error, so that standard output holds the
JSON object as its last line and nothing that gets in its way.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Final, Protocol

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from contracts.errors import InvalidInput
from contracts.ids import parse_feed_id
from contracts.settings import load_settings

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of run-time data; the setting `home` by default."),
]
BundleId = Annotated[
    str | None, typer.Option(help="Bundle id; the champion, else the challenger, by default.")
]
Results = Annotated[
    Path | None, typer.Option(help="Markdown file whose section of this data set is replaced.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]

WIDE: Final = 120
"""Columns of what is printed into a file or a pipe."""
_JSON_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS

Cell = str | int | float | None


class Advance(Protocol):
    """Moves a progress bar: by some steps, or to a new total."""

    def __call__(self, steps: int = 1, *, total: int | None = None) -> None: ...


@dataclass(slots=True)
class Reporter:
    """What one command prints, and how long its stages took."""

    as_json: bool = False
    console: Console = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> wall time, in the order in which `stage` ran."""

    def __post_init__(self) -> None:
        stream = sys.stderr if self.as_json else sys.stdout
        width = None if stream.isatty() or "COLUMNS" in os.environ else WIDE
        self.console = Console(stderr=self.as_json, highlight=False, width=width)

    def say(self, text: str, style: str | None = None) -> None:
        """Print one line; square brackets are text, not markup."""
        self.console.print(escape(text), style=style)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Print a table; columns whose cells are all numbers stand to the right."""
        self.console.print(f"[bold]{escape(title)}[/]")
        shown = Table()
        for k, name in enumerate(columns):
            numeric = all(isinstance(row[k], int | float | None) for row in rows)
            shown.add_column(name, justify="right" if numeric else "left", no_wrap=k == 0)
        for row in rows:
            shown.add_row(*(escape(cell_text(cell)) for cell in row))
        self.console.print(shown)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say what begins, and how long it took once it is done."""
        start = perf_counter()
        self.console.print(f"[bold]{escape(name)}[/] ...")
        yield
        took = perf_counter() - start
        self.seconds[name] = round(took, 3)
        self.console.print(f"  [green]done[/] in {took:.1f} s")

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar while the block runs; it leaves nothing behind."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        quiet = not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=quiet) as bar:
            task = bar.add_task(label, total=total)

            def advance(steps: int = 1, *, total: int | None = None) -> None:
                bar.update(task, advance=steps, total=total)

            yield advance

    def finish(self, result: Mapping[str, object]) -> None:
        """Print the result as the last line under `--json`; exit status 1 where it is not `ok`."""
        if self.as_json:
            typer.echo(json_line(result))
        if not result.get("ok", True):
            raise typer.Exit(1)


def home_of(home: Path | None) -> Path:
    """Give the home folder of an option, or the one of the settings."""
    return load_settings().home if home is None else home


def feed_id_of(text: str) -> int:
    """Read a feed id that a person gives; InvalidInput where it is none."""
    try:
        return parse_feed_id(text)
    except ValueError as error:
        raise InvalidInput(str(error)) from error


def json_line(result: Mapping[str, object]) -> str:
    """Write an object on one line; NaN and infinity become null, other objects their text."""
    return orjson.dumps(result, default=str, option=_JSON_OPTIONS).decode()


def cell_text(cell: Cell) -> str:
    """Write a table cell: thousands apart, four decimals, a dash for what is absent."""
    if cell is None:
        return "-"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)

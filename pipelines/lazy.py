"""Commands that are imported when they are run, so that `--help` stays instant."""

import re
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import typer
from typer._click.core import Command, Context  # what Typer's classes take and give
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class CommandRow(NamedTuple):
    """One command of the command line."""

    path: str
    """Words after `headwater`, e.g. `policy show`."""
    target: str
    """`module:function`."""
    help: str
    """One line for the list of commands."""
    panel: str
    """Heading under which the list shows it."""


def first_line(target: str) -> str:
    """Read what `module:function` in `commands` says of itself, without importing the module."""
    module, function = target.split(":")
    source = (Path(__file__).parent / "commands" / f"{module}.py").read_text(encoding="utf-8")
    found = re.search(rf'^def {function}\(.*?"""(.+?)(?:"""|\n)', source, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


class LazyCommand(TyperCommand):
    """A name and one line of help; the real command takes its place when it is run."""

    def __init__(self, row: CommandRow) -> None:
        *above, name = row.path.split()
        panel = None if above else row.panel
        super().__init__(name=name, help=row.help, rich_help_panel=panel)
        self.row = row

    def load(self) -> Command:
        """Import the command's module and build the real command."""
        module, function = self.row.target.split(":")
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(name=self.name)(getattr(import_module(module), function))
        return get_command(app)

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Hand over to the real command: the context that comes back is its own."""
        return self.load().make_context(info_name, args, parent, **extra)


def add_commands(
    root: TyperGroup, rows: tuple[CommandRow, ...], groups: dict[str, tuple[str, str]]
) -> None:
    """Add commands to a group; `groups` gives each first word of two its (help, panel)."""
    for row in rows:
        *above, _ = row.path.split()
        parent = root
        for word in above:
            if word not in parent.commands:
                help_text, panel = groups[word]
                parts = [r.path.split()[-1] for r in rows if r.path.startswith(f"{word} ")]
                group = TyperGroup(
                    name=word,
                    help=f"{help_text} ({' · '.join(parts)})",
                    rich_help_panel=panel,
                    rich_markup_mode="rich",
                    no_args_is_help=True,
                )
                parent.add_command(group)
            found = parent.commands[word]
            if not isinstance(found, TyperGroup):
                raise TypeError(f"{word!r} is a command and a group of commands")
            parent = found
        parent.add_command(LazyCommand(row))

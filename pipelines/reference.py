"""Writes `docs/cli.md` from the command line itself; `make docs` runs it, a test checks it."""

import sys
from inspect import cleandoc
from pathlib import Path
from typing import Final, Literal, get_args, get_origin

import typer
from typer._click.core import Command, Parameter  # what Typer's commands are made of
from typer.core import TyperArgument, TyperOption

from pipelines.cli import commands
from pipelines.lazy import CommandRow, LazyCommand

PATH: Final = Path("docs/cli.md")
_TYPE_WORDS: Final = {
    "bool": "flag",
    "str": "text",
    "Path": "path",
    "int": "integer",
    "float": "number",
}
_INTRODUCTION: Final = """\
# Command line

Written by `make docs` from the code; edits here are lost, and a test fails where the two differ.

`headwater --help` lists the commands, `headwater COMMAND --help` explains one. Commands that
report take `--json` and then print one JSON object as the last line of standard output, with all
else on standard error. Exit status: 0 done, 2 your input, 1 a failure inside (`headwater --debug
COMMAND` shows the traceback). Settings: [settings](settings.md).
"""


def reference() -> str:
    """Write the whole page, the commands in the order of `headwater --help`."""
    parts = [_INTRODUCTION]
    panel = ""
    for row in commands():
        if row.panel != panel:
            panel = row.panel
            parts.append(f"## {panel}\n")
        parts.append(_section(row, LazyCommand(row).load()))
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write the page, or with --check say whether it is up to date."""
    page = reference()
    if "--check" in arguments:
        if PATH.read_text(encoding="utf-8") == page:
            return 0
        typer.echo(f"{PATH} is not what the code says: run `make docs`", err=True)
        return 1
    PATH.write_text(page, encoding="utf-8")
    typer.echo(f"wrote {PATH}: {len(commands())} commands")
    return 0


def _section(row: CommandRow, command: Command) -> str:
    shown = [p for p in command.params if p.name != "help"]
    arguments = [p for p in shown if isinstance(p, TyperArgument)]
    options = [p for p in shown if isinstance(p, TyperOption)]
    names = "".join(f" {_argument_name(p)}" for p in arguments)
    usage = f"headwater {row.path}{names}{' [OPTIONS]' if options else ''}"
    lines = [f"### `headwater {row.path}`", "", cleandoc(command.help or ""), ""]
    lines += ["```text", usage, "```", ""]
    if shown:
        lines += ["| name | type | default | |", "|---|---|---|---|"]
        lines += [
            f"| {_names(p)} | {_kind(p)} | {_default(p)} | {_help(p)} |"
            for p in [*arguments, *options]
        ]
        lines.append("")
    return "\n".join(lines)


def _names(parameter: Parameter) -> str:
    if isinstance(parameter, TyperArgument):
        return f"`{_argument_name(parameter)}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _argument_name(parameter: Parameter) -> str:
    name = getattr(parameter, "metavar", None) or (parameter.name or "").upper()
    return name if parameter.required else f"[{name}]"


def _kind(parameter: Parameter) -> str:
    if not isinstance(parameter, TyperArgument | TyperOption):
        return ""
    if parameter.type_descriptor.parameter_info.parser:
        return "text"
    kind: object = parameter.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return " / ".join(f"`{choice}`" for choice in get_args(kind))
    repeated = get_origin(kind) is list
    name = getattr(get_args(kind)[0] if repeated else kind, "__name__", str(kind))
    return f"{_TYPE_WORDS.get(name, name)}{', repeated' if repeated else ''}"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    absent = any(parameter.default is none for none in (None, False, ()))
    if absent or callable(parameter.default):
        return ""
    return f"`{parameter.default}`"


def _help(parameter: Parameter) -> str:
    text = getattr(parameter, "help", "") or ""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

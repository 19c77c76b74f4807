"""The command line: instant, complete, and clear when something is wrong."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest
from typer.core import TyperGroup

from pipelines import cli
from pipelines.cli import GROUPS, commands, main
from pipelines.lazy import CommandRow, add_commands

HEAVY = ("torch", "mlflow", "feast", "bentoml", "pandas", "sklearn", "faiss", "fastapi", "scipy")


def run(*arguments: str) -> int:
    """Run the command line in this process and give its exit status."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    code = stop.value.code
    assert isinstance(code, int)
    return code


def cpu_seconds_of_children() -> float:
    """Add up processor time, which a busy machine does not move as it moves wall time."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pipelines.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):
        before = cpu_seconds_of_children()
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        seconds.append(cpu_seconds_of_children() - before)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    # Beside what its libraries take, in the same run: machines differ by more than any bound.
    libraries = []
    for _ in range(3):
        before = cpu_seconds_of_children()
        subprocess.run([sys.executable, "-c", "import typer, rich.console, orjson"], check=True)
        libraries.append(cpu_seconds_of_children() - before)
    assert min(seconds) < 5 * min(libraries)


def test_help_names_every_command_under_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for row in commands():
        assert row.path.split()[-1] in shown, row.path
        assert row.panel in shown


@pytest.mark.parametrize("row", commands(), ids=lambda row: row.path.replace(" ", "-"))
def test_every_command_exists_and_says_what_the_list_says(row: CommandRow) -> None:
    module, function = row.target.split(":")
    found = getattr(import_module(module), function)
    first = (found.__doc__ or "").strip().splitlines()[0]
    assert first == row.help
    assert len(row.help) < 90


def test_every_group_is_named() -> None:
    words = {row.path.split()[0] for row in commands() if " " in row.path}
    assert words == GROUPS.keys()


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "Usage: headwater" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("headwater 0.")


def test_an_unknown_command_suggests_a_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulat") == 2
    assert "Did you mean 'simulate'?" in capsys.readouterr().err


FAILURES = '''
from contracts.errors import BundleMismatch, InvalidInput

def user() -> None:
    """Fail."""
    raise InvalidInput("row 3 of people.csv has no id", hint="name the column with --map")

def inside() -> None:
    """Fail."""
    raise BundleMismatch("the bundle wants 37 features, the code has 36")

def unforeseen() -> None:
    """Fail."""
    raise ZeroDivisionError("division by zero")
'''


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Add three commands that fail, each in its way."""
    (tmp_path / "failing_commands.py").write_text(FAILURES)
    monkeypatch.syspath_prepend(tmp_path)
    rows = tuple(
        CommandRow(f"fail-{name}", f"failing_commands:{name}", "Fail.", "Data")
        for name in ("user", "inside", "unforeseen")
    )
    everything = (*commands(), *rows)
    monkeypatch.setattr(cli, "commands", lambda: everything)


@pytest.mark.usefixtures("failing")
def test_user_errors_say_what_where_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail-user") == 2
    shown = capsys.readouterr().err
    assert "The input is not acceptable. row 3 of people.csv has no id" in shown
    assert "What to do: name the column with --map" in shown
    assert "Traceback" not in shown


@pytest.mark.usefixtures("failing")
def test_inside_errors_exit_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail-inside") == 1
    assert "The model bundle does not fit this code." in capsys.readouterr().err
    assert run("fail-unforeseen") == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in shown
    assert "--debug" in shown


@pytest.mark.usefixtures("failing")
def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        main(["--debug", "fail-unforeseen"])


def test_json_errors_are_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "show", "no-such-policy", "--json") == 2
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["ok"] is False
    assert last["error"]["type"] == "not-found"
    assert "ensemble, fixed-blend, popular" in last["error"]["hint"]


def test_a_command_that_is_also_a_group_is_refused() -> None:
    rows = (CommandRow("policy", "x:y", "", ""), CommandRow("policy show", "x:y", "", ""))
    with pytest.raises(TypeError, match="'policy' is a command and a group"):
        add_commands(TyperGroup(name="root"), rows, GROUPS)

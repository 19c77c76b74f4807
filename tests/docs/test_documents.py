"""Documents say what the code does: links, commands, settings, dependencies, the reference."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from contracts.errors import InvalidInput
from contracts.settings import Settings, load_settings
from pipelines.cli import GROUPS, commands
from pipelines.lazy import LazyCommand
from pipelines.reference import PATH, main, reference

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda p: p.relative_to(ROOT)
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROWS = {row.path: row for row in commands()}


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def shell_lines(page: Path) -> list[str]:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    bodies = [body.replace("\\\n", " ") for kind, body in blocks if kind == "bash"]
    lines = [line for body in bodies for line in body.splitlines()]
    bare = [line.split("  #")[0].strip() for line in lines]
    return [line for line in bare if line and not line.startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_in_a_document_is_one_of_ours(page: Path) -> None:
    for line in shell_lines(page):
        words = [w for w in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S*", w)]
        if words and words[0] == "make":
            check_make(shlex.split(line))
        elif words and words[0].endswith("headwater"):
            check_headwater(words[1:])


def check_make(words: list[str]) -> None:
    """Ask make what it would do; an unknown target is an error."""
    done = subprocess.run(
        ["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def check_headwater(words: list[str]) -> None:
    """Parse a command line with the real command, without running it."""
    if not words or words[0].startswith("-") or "--help" in words:
        return
    depth = 2 if words[0] in GROUPS else 1
    path = " ".join(words[:depth])
    assert path in ROWS, f"there is no command `headwater {path}`"
    LazyCommand(ROWS[path]).load().make_context(path, list(words[depth:]))


def test_checks_of_commands_can_fail() -> None:
    with pytest.raises(AssertionError, match="no command"):
        check_headwater(["policy", "shout"])
    with pytest.raises(AssertionError, match="No rule"):
        check_make(["make", "no-such-target"])


def test_the_command_reference_is_what_the_code_says() -> None:
    assert (ROOT / PATH).read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_reference_program_tells_an_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / PATH).parent.mkdir()
    (tmp_path / PATH).write_text("old")
    assert main(["--check"]) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0


def table_names(page: Path) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_setting_is_documented_with_its_default() -> None:
    page = ROOT / "docs" / "settings.md"
    assert table_names(page) == list(Settings.model_fields)
    shown = dict(re.findall(r"^\| `([^`]+)` \| `?([^|`]+)`? \|", page.read_text(), re.MULTILINE))
    for name, field in Settings.model_fields.items():
        default = "none" if field.default is None else str(field.default)
        assert shown[name].strip().lower() == default.lower(), name


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_settings.cache_clear()
    monkeypatch.setenv("HEADWATER_PORT", "eighty")
    with pytest.raises(InvalidInput, match="port: Input should be a valid integer"):
        load_settings()
    load_settings.cache_clear()


def dependency_names() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    return [re.split(r"[\[<>=~! ]", one, maxsplit=1)[0] for group in wanted for one in group]


def test_every_dependency_says_what_it_is_for() -> None:
    assert table_names(ROOT / "docs" / "dependencies.md") == dependency_names()


def test_constraints_hold_every_dependency_and_no_local_version() -> None:
    text = (ROOT / "constraints.txt").read_text()
    pins = {line.split("==")[0].lower().replace("-", "_") for line in text.splitlines()[1:]}
    assert {name.lower().replace("-", "_") for name in dependency_names()} <= pins
    assert "+" not in text
    assert " @ " not in text


def test_every_decision_is_listed_and_short() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    for page in sorted(folder.glob("0*.md")):
        assert f"]({page.name})" in index
        body = page.read_text()
        assert len(body.splitlines()) <= 60
        for heading in ("## Context", "## Decision", "## Consequences", "## Alternatives"):
            assert heading in body, f"{page.name} lacks {heading}"

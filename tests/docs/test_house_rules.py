"""The house rules that no linter holds for us: sizes, imports in place, broad excepts."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
ROOMS = (
    "contracts", "features", "models", "training", "experiments", "serving", "simulator",
    "feed_api", "pipelines",
)  # fmt: skip
SOURCES = sorted(
    path.relative_to(ROOT)
    for room in (*ROOMS, "benchmarks", "tests", "notebooks")
    for path in (ROOT / room).rglob("*.py")
)
MAX_FILE, MAX_FUNCTION = 400, 60
EDGES = {
    Path("feed_api/edge.py"): "the HTTP edge",
    Path("pipelines/cli.py"): "the command line's edge",
    Path("serving/pipeline.py"): "the stage runner",
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def reraises(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler ends by raising again: it cleans up and swallows nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_file_keeps_the_house_rules(path: Path) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_FILE, f"{path} has {len(lines)} lines, {MAX_FILE} is the most"
    tree = parsed(path)
    for function in functions(tree):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= MAX_FUNCTION, f"{path}:{function.lineno} {function.name}: {length} lines"
        inside = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not inside, f"{path}:{inside[0].lineno} imports inside {function.name}"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] in ROOMS], ids=str)
def test_broad_excepts_stand_only_at_the_three_edges(path: Path) -> None:
    if path in EDGES:
        return
    handlers = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.ExceptHandler)]
    caught = [h.lineno for h in handlers if broad(h) and not reraises(h)]
    assert not caught, f"{path}:{caught} catches everything; only {sorted(EDGES.values())} may"


def test_the_median_file_is_short() -> None:
    ours = [path for path in SOURCES if path.parts[0] in ROOMS]
    lengths = sorted(len((ROOT / path).read_text().splitlines()) for path in ours)
    assert lengths[len(lengths) // 2] <= 150


def test_tests_are_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_examples_of_a_property_do_not_depend_on_what_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> list[int]:
        found: list[int] = []

        @settings(max_examples=200, database=None)
        @given(st.integers(0, 2**40))
        def draw(number: int) -> None:
            found.append(number)

        draw()
        return found

    before = drawn()
    (tmp_path / "of_this_test.py").write_text(f"RARE = {[10**9 + k for k in range(200)]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_module("of_this_test")
    assert drawn() == before


def test_the_rules_find_what_they_look_for() -> None:
    """A rule that can not fail is no rule: each one is tried on code that breaks it."""
    source = "def f():\n import os\n try:\n  os.x()\n except Exception:\n  pass\n"
    tree = ast.parse(source)
    (function,) = functions(tree)
    assert any(isinstance(n, ast.Import) for n in ast.walk(function))
    (handler,) = (n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler))
    assert broad(handler)
    assert not reraises(handler)

"""The notebook of one's own model runs, holds its model to the laws, and stays as short as said."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "02_own_model.ipynb"
MOST_LINES = 60
CELL_SECONDS = 40.0


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_lines(source: str) -> int:
    stripped = [line.strip() for line in source.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in stripped)


def test_model_recipe_and_registration_take_fewer_than_60_lines() -> None:
    own = [cell for cell in read().cells if "own-model" in cell.metadata.get("tags", [])]
    text = "\n".join(cell.source for cell in own)
    assert "class TrendingTopics:" in text
    assert "def fit(" in text
    assert "contenders = " in text
    assert 30 < sum(code_lines(cell.source) for cell in own) < MOST_LINES


def test_no_class_hides_in_another_cell_and_no_output_is_kept() -> None:
    notebook = read()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert "class " not in cell.source or "own-model" in cell.metadata.get("tags", [])


@pytest.mark.slow
@pytest.mark.e2e
def test_the_notebook_runs_and_its_model_has_learned() -> None:
    notebook = read()
    NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len([o for o in outputs if "image/png" in o.get("data", {})]) == 1
    printed = "".join(o.get("text", "") for o in outputs)
    assert "trending_topics keeps 12 laws" in printed
    assert "FAISS finds the 20 best scores: True" in printed
    assert "a post made just now has a vector: True" in printed
    lowest = printed.split("trending_topics over popularity: ")[1].split("[")[1].split(",")[0]
    assert float(lowest) > 0.0

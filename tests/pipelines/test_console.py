"""The reporter: people read tables, programs read the last line."""

import json

import numpy as np
import pytest

from pipelines.console import Reporter, cell_text


def test_json_goes_alone_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter(as_json=True)
    report.say("reading [people]")
    report.table("Counts", ("what", "count"), [("people", 3000), ("share", 0.25)])
    report.finish({"mean": np.float32(0.5), "bad": float("nan"), 3: np.arange(2)})
    captured = capsys.readouterr()
    assert "reading [people]" in captured.err
    assert json.loads(captured.out) == {"3": [0, 1], "bad": None, "mean": 0.5}


def test_people_see_everything_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter()
    report.table("Counts", ("what", "count"), [("people", 3000), ("[none]", None)])
    report.finish({"people": 3000})
    shown = capsys.readouterr().out
    assert "3,000" in shown
    assert "[none]" in shown
    assert "{" not in shown


def test_stages_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter()
    with report.stage("train"):
        pass
    assert list(report.seconds) == ["train"]
    assert report.seconds["train"] >= 0.0
    assert "train" in capsys.readouterr().out


def test_progress_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter(as_json=True)
    with report.progress("reading", total=2) as advance:
        advance()
        advance(1, total=4)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "-"), (1234567, "1,234,567"), (0.12345, "0.1235"), ("a", "a")]
)
def test_cells(cell: object, text: str) -> None:
    assert cell_text(cell) == text  # type: ignore[arg-type]

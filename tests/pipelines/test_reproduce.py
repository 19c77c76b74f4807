"""`headwater reproduce`: a small set from files to table, and what it says of broken ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import InvalidInput, NotFound
from pipelines.commands.reproduce import reproduce

PEOPLE, ITEMS = 48, 60


def write_social(folder: Path) -> None:
    """Six circles of people who trust each other and share ten items; a fifth is the test."""
    generator = np.random.Generator(np.random.PCG64(2))
    chance = np.full((PEOPLE, ITEMS), 0.05)
    chance[np.arange(PEOPLE)[:, None] // 8 == np.arange(ITEMS)[None, :] // 10] = 0.7
    people, items = np.nonzero(generator.random((PEOPLE, ITEMS)) < chance)
    tested = generator.random(len(people)) < 0.2
    folder.mkdir(parents=True)
    for name, chosen in (("train_set", ~tested), ("test_set", tested)):
        rows = np.stack([people[chosen], items[chosen]], axis=1)
        np.savetxt(folder / f"{name}.txt", rows, "%d", ",", header="user,item", comments="")
    trust = [(p, q) for p in range(PEOPLE) for q in range(PEOPLE) if p != q and p // 8 == q // 8]
    np.savetxt(folder / "trust.txt", trust, "%d", ",", header="user,friend", comments="")


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_files_become_a_table_and_a_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_social(tmp_path / "ciao-social")
    results = tmp_path / "results.md"
    reproduce("all", tmp_path, seed=1, threads=1, results=results, as_json=True)
    found = last_json(capsys)
    assert found["ok"]
    (only,) = found["sets"]  # the sets whose folders are absent are passed over
    assert only["set"] == "ciao"
    assert [row["model"] for row in only["rows"]] == [
        "als", "als_small", "ease", "popularity", "ensemble",
    ]  # fmt: skip
    for row in only["rows"]:
        assert {"recall@20", "ndcg@20", "seconds", "peak_mb"} <= row.keys()
        low, high = row["intervals"]["ndcg@20"][1:]
        assert low <= row["ndcg@20"] <= high
    scores = {row["model"]: row["ndcg@20"] for row in only["rows"]}
    assert scores["ensemble"] > scores["popularity"] + 0.1
    text = results.read_text()
    assert "## Published protocol: ciao" in text
    assert "no SHA256SUMS beside the files: they were not checked" in text
    assert "- Seed: 1, 1 threads" in text


def test_what_cannot_be_run_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no set 'nonsense'"):
        reproduce("nonsense", tmp_path)
    with pytest.raises(NotFound, match="holds none of"):
        reproduce("all", tmp_path)
    with pytest.raises(NotFound, match=r"lacks train_set\.txt"):
        reproduce("ciao", tmp_path)


@pytest.mark.parametrize("text", ["", "user,item\n", "user,item\n1,two\n"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    write_social(tmp_path / "ciao-social")
    (tmp_path / "ciao-social" / "test_set.txt").write_text(text)
    with pytest.raises(InvalidInput, match=r"test_set\.txt"):
        reproduce("ciao", tmp_path)


def test_an_empty_list_of_people_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "gowalla"
    folder.mkdir()
    (folder / "train.txt").write_text("0 1 2\n1 2 3\n")
    (folder / "test.txt").write_text("")
    with pytest.raises(InvalidInput, match=r"test\.txt holds no"):
        reproduce("gowalla", tmp_path)


@pytest.mark.slow
@pytest.mark.e2e
def test_lastfm_reaches_its_goal(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole protocol on the published files, as docs/results.md has it."""
    reproduce("lastfm", data_dir, threads=1, as_json=True)
    (only,) = last_json(capsys)["sets"]
    assert only["people"] == 1881
    assert only["reached"]

"""The README's way, step by step, run as it stands there on a smaller world."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = {"simulate": ["--people", "300", "--posts", "900"], "train": ["--deep-seconds", "5"]}


def steps() -> list[list[str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("Step by step")[1].split("```bash\n")[1].split("```")[0]
    return [shlex.split(line)[1:] for line in block.splitlines()]


@pytest.mark.e2e
@pytest.mark.slow
def test_every_step_of_the_readme_works_on_what_the_one_before_left(tmp_path: Path) -> None:
    words = steps()
    assert [step[0] for step in words] == [
        "simulate", "ingest", "data", "features", "train", "evaluate", "publish", "feed", "serve",
    ]  # fmt: skip
    last = {}
    for step in words[:-1]:  # serving is tested where a server can be asked something
        arguments = [*step, *SMALL.get(step[0], []), "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{step}: {done.stderr[-2000:]}"
        last[step[0]] = json.loads(done.stdout.splitlines()[-1])
    assert last["ingest"]["files"][0]["accepted"] == 300
    assert last["publish"]["bundle_id"] == last["train"]["bundle_id"]
    assert last["feed"]["level"] == "full"
    assert len(last["feed"]["items"]) == 20

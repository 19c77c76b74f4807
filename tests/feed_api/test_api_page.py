"""docs/api.md: its commands run, its tables are whole."""

import re
import shlex
from pathlib import Path

import pytest

from feed_api.access import REQUIRED_SCOPE
from feed_api.keys import Scope
from feed_api.problems import PROBLEM_TYPES

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
CURLS = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
CURLS = [line for line in CURLS if line.startswith("curl")]


@pytest.fixture(scope="module")
def shared(make_api_of_module):
    api = make_api_of_module(posts=20)
    api.ask("PUT", "/v1/platform/blocks/ann/cat")
    return api


def request_of(command: str, key: str) -> tuple[str, str, dict[str, str], str | None]:
    """Read method, path, headers and body out of a curl command."""
    words = iter(shlex.split(command)[1:])
    method, path, headers, body = "GET", "", {}, None
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value.replace("$HEADWATER_KEY", key)
        elif word == "-d":
            body = next(words)
        else:
            path = word.removeprefix("$HEADWATER_URL")
    return method, path, headers, body


@pytest.mark.parametrize("command", CURLS)
def test_every_command_works(shared, command):
    method, path, headers, body = request_of(command, shared.keys["admin"])

    async def send(client):
        client.headers.pop("authorization")
        return await client.request(method, path, headers=headers, content=body)

    feed_id = shared.feed("ann")["feed_id"]
    path = path.replace("00d2f0c4a1b2c3d4", feed_id)
    assert shared.run(send).status_code in {200, 201, 202, 204}


def test_every_operation_has_a_command(shared):
    document = shared.ask("GET", "/openapi.json").json()
    asked = [request_of(command, "")[:2] for command in CURLS]
    for path, methods in document["paths"].items():
        pattern = re.sub(r"\{\w+\}", r"[^/?]+", path) + r"(\?.*)?"
        for method, operation in methods.items():
            assert f"`{operation['operationId']}`" in PAGE
            assert any(m.lower() == method and re.fullmatch(pattern, p) for m, p in asked), path


def test_the_table_of_errors_is_the_closed_list():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", PAGE, re.MULTILINE)
    assert {word: int(status) for word, status in rows} == {
        word: error.status for word, error in PROBLEM_TYPES.items()
    }
    assert len(rows) == len(PROBLEM_TYPES)


def test_every_scope_and_metric_is_named(shared):
    for scope in Scope:
        assert f"`{scope.value}`" in PAGE
    for name, scope in REQUIRED_SCOPE.items():
        heading = next(x for x in PAGE.splitlines() if x.startswith("###") and f"`{name}`" in x)
        assert f"scope `{scope.value}`" in heading
    shared.feed("nobody")
    text = shared.ask("GET", "/metrics").text
    for metric in re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)", text, re.MULTILINE):
        if not metric.endswith("_created"):
            assert f"`{metric}`" in PAGE, metric

"""Conventions of the API, held to over its own OpenAPI file."""

from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from contracts.funnel import FunnelReport
from feed_api.access import REQUIRED_SCOPE, PlatformRoute
from feed_api.platform import schemas
from feed_api.platform.examples import examples
from feed_api.problems import PROBLEM_TYPES

MODELS = {
    "read_feed": schemas.FeedOut,
    "explain_post": schemas.WhyOut,
    "preview_control": schemas.PreviewOut,
    "read_funnel": FunnelReport,
    "rank_posts": schemas.RankOut,
    "post_events": schemas.EventsOut,
}
BODIES = {
    "rank_posts": schemas.RankIn,
    "post_events": schemas.EventBatch,
    "put_post": schemas.PostIn,
    "put_person": schemas.PersonIn,
}


@pytest.fixture(scope="module")
def document(make_api_of_module) -> dict[str, Any]:
    api = make_api_of_module(posts=0)
    answer = api.ask("GET", "/openapi.json")
    return answer.json()


@pytest.fixture(scope="module")
def operations(document) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation | {"method": method, "path": path}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_platform_operation_needs_the_scope_that_the_list_names(operations):
    assert {n for n, o in operations.items() if o["path"].startswith("/v1/")} == set(REQUIRED_SCOPE)
    for name, scope in REQUIRED_SCOPE.items():
        assert operations[name]["security"] == [{"ApiKey": [scope.value]}]
    assert {n for n, o in operations.items() if not o["security"]} == {
        "health", "readiness", "metrics",
    }  # fmt: skip


def test_every_operation_is_described_with_an_example(operations):
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"].endswith((".", ")")), name
        for parameter in operation.get("parameters", ()):
            assert "example" in parameter, (name, parameter["name"])
        if "requestBody" in operation:
            assert "example" in operation["requestBody"]["content"]["application/json"], name
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                assert "example" in content, (name, status)


def test_every_operation_lists_its_problems(document, operations):
    shared = document["components"]["responses"]
    for name in REQUIRED_SCOPE:
        problems = {s for s in operations[name]["responses"] if s >= "400"}
        assert problems >= {"400", "401", "403", "500", "503"}, name
        assert problems <= set(shared), name
        if "requestBody" in operations[name]:
            assert problems >= {"413", "415"}, name
        if operations[name]["method"] == "delete":
            assert "404" in problems, name
    for status, answer in shared.items():
        example = answer["content"]["application/problem+json"]["example"]
        assert str(example["status"]) == status
        assert set(example) == set(document["components"]["schemas"]["Problem"]["properties"])


def test_every_post_takes_an_idempotency_key(operations):
    for operation in operations.values():
        names = [parameter["name"] for parameter in operation.get("parameters", ())]
        assert ("Idempotency-Key" in names) == (operation["method"] == "post")


def test_success_says_whether_something_was_made(operations):
    wanted = {"put": {"201", "204"}, "delete": {"204"}}
    for name, operation in operations.items():
        if operation["method"] in wanted:
            found = {s for s in operation["responses"] if s < "300"}
            assert found == wanted[operation["method"]], name


def test_every_schema_is_closed(document):
    for name, schema in document["components"]["schemas"].items():
        if name in {"Alive", "Ready", "BadRow"}:
            continue
        assert schema["additionalProperties"] is False, name


def test_ids_are_text_everywhere(document):
    for name, schema in document["components"]["schemas"].items():
        for field, kind in schema.get("properties", {}).items():
            if field.endswith("_id") or field in {"viewer", "post", "target", "author"}:
                kinds = [kind, *kind.get("anyOf", ())]
                assert all(k.get("type") in (None, "string", "null") for k in kinds), (name, field)


@pytest.mark.parametrize("name", sorted(BODIES))
def test_request_examples_are_taken(name: str):
    parsed = BODIES[name].model_validate(examples().requests[name])
    if isinstance(parsed, schemas.EventBatch):
        assert not [row for row in parsed.events if isinstance(row, schemas.BadRow)]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_answer_examples_are_what_is_given(name: str):
    model: type[BaseModel] = MODELS[name]
    assert model.model_validate(examples().answers[name]).model_dump() == examples().answers[name]


def test_each_problem_type_names_one_error():
    assert len({error.type for error in PROBLEM_TYPES.values()}) == len(PROBLEM_TYPES)
    assert all(word == word.lower() and " " not in word for word in PROBLEM_TYPES)


def test_a_route_without_a_scope_can_not_be_built():
    async def anything() -> None:
        return None

    with pytest.raises(Exception, match="/v1/secret has no scope") as raised:
        PlatformRoute("/v1/secret", anything, operation_id="read_secret")
    assert raised.type.__name__ == "PipelineError"
    assert issubclass(PlatformRoute, APIRoute)

"""Completes the OpenAPI file: examples, problem answers, scopes; a test holds them complete."""

from collections.abc import Mapping
from typing import Any, Final

from feed_api.access import REQUIRED_SCOPE
from feed_api.platform.examples import examples
from feed_api.problems import PROBLEM_MEDIA_TYPE, PROBLEM_TYPES, problem_body

VERSION: Final = "1"

_EVERY: Final = (400, 401, 403, 500, 503)
_WITH_BODY: Final = (413, 415)
_OF_METHOD: Final[Mapping[str, tuple[int, ...]]] = {"post": (409, 422), "delete": (404,)}
_MORE: Final[Mapping[str, tuple[int, ...]]] = {
    "read_feed": (410,),
    "explain_post": (404,),
    "preview_control": (404,),
    "put_follow": (422,),
    "put_block": (422,),
}
"""Problems of an operation beside those of its kind."""

_DESCRIPTION: Final = """Ranked feeds for your back end. Ids are yours: text, 1 to 200 characters.
Errors are RFC 9457 problem details; `type` is a word of a closed list. Docs: docs/api.md."""

_STRING: Final = {"type": "string"}
_REQUEST_ID: Final = "0af7651916cd43dd"
_PATH: Final = "/v1/platform/feed"
_IDEMPOTENCY_KEY: Final[Mapping[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255},
    "description": "The same key and body again: the stored answer, for 24 hours.",
}


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an object that has all of these properties and no others."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


_PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {"title": "Problem"} | _closed(
    {
        "type": {"type": "string", "enum": sorted(PROBLEM_TYPES)},
        "title": _STRING,
        "status": {"type": "integer"},
        "detail": _STRING,
        "instance": _STRING,
        "request_id": _STRING,
        "errors": {"type": "array", "items": _closed({"field": _STRING, "message": _STRING})},
    }
)


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """Complete what FastAPI wrote, in place, and give it back."""
    document["info"]["description"] = _DESCRIPTION
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = dict(_PROBLEM_SCHEMA)
    statuses = sorted({error.status for error in PROBLEM_TYPES.values()})
    components["responses"] = {str(s): _problem_answer(s) for s in statuses}
    components["securitySchemes"] = {
        "ApiKey": {"type": "http", "scheme": "bearer", "description": "`Bearer hw_...`"}
    }
    for methods in document["paths"].values():
        for method, operation in methods.items():
            _complete(method, operation)
    return document


def _complete(method: str, operation: dict[str, Any]) -> None:
    name = operation["operationId"]
    answers = operation["responses"]
    answers.pop("422", None)
    if name in REQUIRED_SCOPE:
        operation["security"] = [{"ApiKey": [REQUIRED_SCOPE[name].value]}]
        of_body = _WITH_BODY if "requestBody" in operation else ()
        problems = {*_EVERY, *of_body, *_OF_METHOD.get(method, ()), *_MORE.get(name, ())}
        for status in sorted(problems):
            answers[str(status)] = {"$ref": f"#/components/responses/{status}"}
    else:
        operation["security"] = []
    if method == "post":
        operation.setdefault("parameters", []).append(dict(_IDEMPOTENCY_KEY))
    if method == "put":
        answers["201"] = {"description": "Made."}
    shown = examples()
    for parameter in operation.get("parameters", ()):
        parameter["example"] = shown.parameters[parameter["name"]]
    if name in shown.requests:
        operation["requestBody"]["content"]["application/json"]["example"] = shown.requests[name]
    if name in shown.answers:
        success = "202" if "202" in answers else "200"
        answers[success]["content"]["application/json"]["example"] = shown.answers[name]
    if name == "metrics":
        example = 'headwater_feeds_total{level="full"} 12.0\n'
        answers["200"]["content"] = {"text/plain": {"schema": _STRING, "example": example}}
    if name == "readiness":
        answers["503"] = {"description": "Not ready.", "content": answers["200"]["content"]}


def _problem_answer(status: int) -> dict[str, Any]:
    first, *others = [error for error in PROBLEM_TYPES.values() if error.status == status]
    return {
        "description": "; ".join(f"`{kind.type}`: {kind.title}" for kind in (first, *others)),
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": problem_body(first(first.title.lower()), _REQUEST_ID, _PATH),
            }
        },
    }

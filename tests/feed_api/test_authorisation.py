"""Every operation of the OpenAPI file against every kind of key: 401, 403, or let in."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from feed_api.keys import Scope
from feed_api.platform.examples import examples


class Operation(NamedTuple):
    """One operation, ready to be called."""

    name: str
    method: str
    path: str
    scope: str


_PARAMS = {
    "read_feed": {"viewer": "ann"},
    "preview_control": {"type": "fewer_of_author", "post": "p-1"},
}


@pytest.fixture(scope="module")
def shared(make_api_of_module):
    return make_api_of_module(posts=1)


def operations(api) -> Iterator[Operation]:
    for path, methods in api.ask("GET", "/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            if operation["security"]:
                (scope,) = operation["security"][0]["ApiKey"]
                filled = path.format(**examples().parameters)
                yield Operation(operation["operationId"], method, filled, scope)


def call(api, operation: Operation, authorization: str | None):
    body = examples().requests.get(operation.name)
    params = _PARAMS.get(operation.name)

    async def send(client):
        client.headers.pop("authorization")
        headers = {} if authorization is None else {"authorization": authorization}
        return await client.request(
            operation.method, operation.path, json=body, params=params, headers=headers
        )

    return api.run(send)


def test_without_a_valid_key_everything_answers_401(shared):
    key = shared.keys["admin"]
    wrong = {
        "none": None,
        "empty": "",
        "another scheme": f"Basic {key}",
        "no secret": "Bearer hw_",
        "unknown": f"Bearer hw_{'0' * 16}_{'A' * 43}",
        "wrong secret": f"Bearer {key[:-2]}{'AA' if key[-2:] != 'AA' else 'BB'}",
        "secret of another key": f"Bearer {key[:19]}{shared.keys['rank'][19:]}",
        "longer": f"Bearer {key}A",
        "revoked": f"Bearer {shared.keys['revoked']}",
    }
    bodies = set()
    for operation in operations(shared):
        for kind, authorization in wrong.items():
            answer = call(shared, operation, authorization)
            assert answer.status_code == 401, (operation.name, kind)
            assert answer.json()["type"] == "unauthorized"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            if kind in {"unknown", "wrong secret", "secret of another key", "revoked"}:
                bodies.add(answer.json()["detail"])
    assert len(bodies) == 1


def test_a_key_without_the_scope_answers_403_and_does_nothing(shared):
    before = shared.workspace.log.last_seq
    for operation in operations(shared):
        for scope in {s.value for s in Scope} - {operation.scope, "admin"}:
            answer = call(shared, operation, f"Bearer {shared.keys[scope]}")
            assert answer.status_code == 403, (operation.name, scope)
            assert answer.json()["type"] == "forbidden"
            assert operation.scope in answer.json()["detail"]
    assert shared.workspace.log.last_seq == before


def test_a_key_with_the_scope_is_let_in(shared):
    names = []
    for operation in operations(shared):
        for scope in (operation.scope, "admin"):
            answer = call(shared, operation, f"Bearer {shared.keys[scope]}")
            assert answer.status_code in {200, 201, 202, 204, 404}, (operation.name, scope)
        names.append(operation.name)
    assert len(names) == 14


def test_the_key_is_checked_before_the_body_is_read(shared):
    async def send(client):
        client.headers.pop("authorization")
        return await client.post("/v1/platform/events", content=b"{", headers={})

    assert shared.run(send).status_code == 401

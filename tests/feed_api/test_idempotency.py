"""Idempotency-Key: one effect, one answer, whoever asks how often."""

import asyncio

from sqlalchemy import update

from contracts.clock import now_us
from feed_api.database import STORED_ANSWERS, home_url, open_database
from feed_api.idempotency import KEEP_US

EVENTS, RANK = "/v1/platform/events", "/v1/platform/rank"
BATCH = {"events": [{"viewer": "ann", "type": "like", "post": "p-1"}]}


def send(api, key: str = "k-1", body: object = BATCH, path: str = EVENTS, caller: str = "admin"):
    return api.ask("POST", path, caller, json=body, headers={"Idempotency-Key": key})


def test_a_replay_is_the_same_answer_and_no_second_effect(api):
    first, again = send(api), send(api)
    assert first.json()["accepted"] == 1
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert api.workspace.log.last_seq == first.json()["seq"]


def test_a_key_belongs_to_one_body_one_caller_one_operation(api):
    send(api)
    other = {"events": BATCH["events"] * 2}
    problem = send(api, body=other)
    assert (problem.status_code, problem.json()["type"]) == (422, "idempotency-key-reused")
    assert send(api, caller="events:write").json()["accepted"] == 1
    ranked = send(api, body={"viewer": "ann", "posts": ["p-1"]}, path=RANK)
    assert ranked.status_code == 200
    assert send(api, key="k-2", body=other).json()["accepted"] == 2


def test_what_failed_is_not_kept(api):
    assert send(api, body={"events": []}).status_code == 400
    assert send(api).json()["accepted"] == 1


def test_many_at_once_have_one_effect(api):
    before = api.workspace.log.last_seq

    async def all_at_once(client):
        headers = {"Idempotency-Key": "k-many"}
        posts = (client.post(EVENTS, json=BATCH, headers=headers) for _ in range(20))
        return await asyncio.gather(*posts)

    answers = api.run(all_at_once)
    assert {answer.status_code for answer in answers} <= {202, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["type"] == "request-in-flight"
            assert answer.headers["retry-after"] == "1"
    assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
    assert api.workspace.log.last_seq == before + 1


def test_a_retry_after_a_crash_between_effect_and_answer_adds_nothing(api):
    first = send(api)
    engine = open_database(home_url(api.settings.home))
    with engine.begin() as connection:  # the answer was never stored
        connection.execute(STORED_ANSWERS.delete())
    engine.dispose()
    again = send(api)
    assert (again.json()["accepted"], again.json()["duplicates"]) == (0, 1)
    assert again.json()["seq"] == first.json()["seq"]


def test_an_answer_is_forgotten_after_a_day(api):
    send(api)
    engine = open_database(home_url(api.settings.home))
    with engine.begin() as connection:
        old = now_us() - KEEP_US - 1
        connection.execute(update(STORED_ANSWERS).values(created_us=old))
    engine.dispose()
    assert "idempotency-replayed" not in send(api).headers

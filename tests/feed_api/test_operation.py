"""Logs, metrics, probes, overload, and what is answered when something breaks inside."""

import asyncio
import json

from contracts.errors import PipelineError
from feed_api.app import MAX_WAITING_FEEDS

FEED = "/v1/platform/feed"
SECRET_BODY = {"text": "sesame-text", "author": "sesame-author"}


def lines(api) -> list[dict]:
    return [json.loads(line) for line in api.log_text().splitlines()]


def test_a_request_has_one_line_with_its_id(api):
    answer = api.ask("GET", FEED, params={"viewer": "ann"})
    (line,) = [x for x in lines(api) if x.get("request_id") == answer.headers["x-request-id"]]
    assert (line["event"], line["level"], line["status"]) == ("request", "info", 200)
    assert (line["method"], line["route"]) == ("GET", "/v1/platform/feed")
    assert line["key"] == api.keys["admin"][3:19]
    assert 0 < line["ms"] < 10_000
    assert line["timestamp"].endswith("Z")


def test_neither_keys_nor_what_people_wrote_is_logged(api):
    key = api.keys["admin"]
    secret = key[20:]
    unknown = f"hw_{'1' * 16}_{'sesame'.ljust(43, 'x')}"
    api.put_post("p-sesame", **SECRET_BODY)
    api.ask("PUT", "/v1/platform/posts/p-1", json={"text": 5, "author": key, key: 1})
    api.ask("GET", FEED, params={"viewer": f"sesame {key}", "cursor": key, "api_key": key})
    api.ask("GET", f"/v1/platform/{key}")
    api.ask("GET", f"/v1/platform/posts/{key}")
    api.ask("GET", FEED, headers={"X-Request-Id": f"{key}!"}, params={"viewer": "ann"})
    api.ask("GET", FEED, params={"viewer": "ann"}, headers={"authorization": f"Bearer {unknown}"})
    api.ask("POST", "/v1/platform/events", content=key.encode())
    api.feeds.failure = PipelineError(f"it broke at {key}")
    api.ask("GET", FEED, params={"viewer": "sesame"})
    text = api.log_text()
    assert secret not in text
    assert "sesame" not in text
    assert "it broke at hw_***" in text


def test_what_breaks_inside_is_logged_and_not_told(api):
    api.feeds.failure = PipelineError("sesame is not open")
    answer = api.ask("GET", FEED, params={"viewer": "ann"})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (500, "pipeline")
    assert "sesame" not in answer.text
    assert problem["request_id"] in problem["detail"]
    (line,) = [x for x in lines(api) if x.get("request_id") == problem["request_id"]]
    assert line["level"] == "error"
    assert "PipelineError: sesame is not open" in line["exception"]


def test_what_nobody_foresaw_is_an_answer_too(api):
    api.feeds.failure = TypeError("sesame is no number")
    answer = api.ask("GET", FEED, params={"viewer": "ann"})
    assert (answer.status_code, answer.json()["type"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "TypeError" in lines(api)[-1]["exception"]
    assert "sesame" not in answer.text


def test_feeds_beyond_the_bound_are_refused_at_once(api):
    api.feeds.gate.clear()

    async def flood(client):
        asks = [
            asyncio.create_task(client.get(FEED, params={"viewer": "ann"}))
            for _ in range(MAX_WAITING_FEEDS + 5)
        ]
        done, _ = await asyncio.wait(asks, timeout=1)
        api.feeds.gate.set()
        return [task.result() for task in done], await asyncio.gather(*asks)

    early, answers = api.run(flood)
    assert [answer.status_code for answer in early] == [503] * 5
    assert early[0].json()["type"] == "overloaded"
    assert early[0].headers["retry-after"] == "1"
    assert [answer.status_code for answer in answers].count(200) == MAX_WAITING_FEEDS
    assert api.ask("GET", FEED, params={"viewer": "ann"}).status_code == 200


def test_metrics_count_requests_feeds_reasons_and_events(api):
    api.feed("ann")
    api.feed("nobody")
    api.post({"viewer": "ann", "type": "like", "post": "p-1"}, {"viewer": "ann"})
    api.ask("GET", "/nowhere/at/all")
    text = api.ask("GET", "/metrics").text
    for sample in (
        'headwater_requests_total{method="GET",route="/v1/platform/feed",status="200"} 2.0',
        'headwater_requests_total{method="any",route="unmatched",status="404"} 1.0',
        'headwater_request_seconds_count{method="GET",route="/v1/platform/feed"} 2.0',
        'headwater_feeds_total{level="full"} 1.0',
        'headwater_feeds_total{level="trending"} 1.0',
        'headwater_feed_degrade_reasons_total{reason="unknown_viewer"} 1.0',
        'headwater_events_total{outcome="accepted"} 1.0',
        'headwater_events_total{outcome="rejected"} 1.0',
        'headwater_source_candidates_total{source="fresh"} 5.0',
        f"headwater_applied_seq {float(api.workspace.log.last_seq)}",
    ):
        assert sample in text


def test_probes_need_no_key_and_say_what_is_so(api):
    async def probe(client):
        client.headers.pop("authorization")
        return [await client.get(path) for path in ("/healthz", "/readyz", "/metrics")]

    alive, ready, metrics = api.run(probe)
    assert (alive.status_code, ready.status_code, metrics.status_code) == (200, 200, 200)
    assert alive.json() == {"status": "alive"}
    assert ready.json()["checks"] == {"keys": True, "event_log": True, "feeds": True}
    assert ready.json()["feeds"]["applied_seq"] == api.workspace.log.last_seq


def test_not_ready_is_503_with_the_reasons(api):
    api.feeds.ready = False
    answer = api.ask("GET", "/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["feeds"] is False
    assert answer.json()["checks"]["event_log"] is True

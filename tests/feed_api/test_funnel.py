"""The funnel over HTTP, and the metrics that come of it."""

from contracts.funnel import FEED, FunnelReport
from serving.opening import open_service

FUNNEL = "/v1/platform/funnel"


def test_the_funnel_is_for_admins_and_counts_feeds(api):
    api.serve_with(open_service(api.workspace, api.settings.unhurried()))
    api.feed("ann")
    api.feed("nobody")
    assert api.ask("GET", FUNNEL, key="feed:read").status_code == 403
    answer = api.ask("GET", FUNNEL)
    report = FunnelReport.model_validate_json(answer.content)
    assert answer.headers["cache-control"] == "no-store"
    assert (report.feeds, report.levels) == (2, {"full": 2})
    assert report.reasons["no_bundle"] == 2
    assert report.sources["fresh"].found == 5.0


def test_probes_do_not_tell_it(api):
    api.serve_with(open_service(api.workspace, api.settings.unhurried()))
    told = api.ask("GET", "/readyz").json()["feeds"]
    assert "funnel" not in told
    assert told["open_breakers"] == []


def test_feeds_without_a_funnel_say_so(api, monkeypatch):
    health = api.feeds.health()
    monkeypatch.setattr(api.feeds, "health", lambda: {**health, "funnel": None})
    answer = api.ask("GET", FUNNEL)
    assert (answer.status_code, answer.json()["type"]) == (503, "unavailable")
    assert api.ask("GET", "/metrics").status_code == 200


def test_metrics_of_the_funnel_of_records_and_of_breakers(api, monkeypatch):
    service = open_service(api.workspace, api.settings.unhurried())
    api.serve_with(service)
    api.feed("ann")
    service._records.flush()
    health = dict(service.health())
    monkeypatch.setattr(service, "health", lambda: {**health, "open_breakers": ["source.deep"]})
    first = api.ask("GET", "/metrics").text
    monkeypatch.setattr(service, "health", lambda: {**health, "log_seq": health["log_seq"] + 3})
    second = api.ask("GET", "/metrics").text
    funnel = FunnelReport.model_validate(health["funnel"])
    seconds = funnel.since_start.stage_seconds[FEED]
    for text, sample in (
        (first, 'headwater_breaker_open{component="source.deep"} 1.0'),
        (second, 'headwater_breaker_open{component="source.deep"} 0.0'),
        (first, "headwater_log_lag_events 0.0"),
        (second, "headwater_log_lag_events 3.0"),
        (second, "headwater_log_lag_seconds 0.0"),
        (second, "headwater_records_written_total 1.0"),
        (second, "headwater_records_lost_total 0.0"),
        (second, 'headwater_source_reached_total{source="fresh"} 5.0'),
        (second, "headwater_personalised_share 0.0"),
        (second, 'headwater_stage_seconds_bucket{le="+Inf",stage="feed"} 1.0'),
        (second, 'headwater_stage_seconds_count{stage="feed"} 1.0'),
        (second, f'headwater_stage_seconds_sum{{stage="feed"}} {seconds}'),
    ):
        assert sample in text

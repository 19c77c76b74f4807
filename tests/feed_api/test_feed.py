"""GET feed: pages, reasons, cursors, and what happens to feeds that are gone."""

from feed_api.platform.schemas import FeedOut


def test_a_feed_comes_with_reasons_and_says_how_good_it_is(api):
    follow = api.ask("PUT", "/v1/platform/follows/ann/bob")
    assert follow.status_code == 201
    feed = api.feed("ann", limit=3)
    FeedOut.model_validate(feed)
    assert [item["post_id"] for item in feed["items"]] == ["p-5", "p-4", "p-3"]
    assert [item["position"] for item in feed["items"]] == [0, 1, 2]
    reason = {"code": "following", "text": "Because you follow bob", "ref": "bob"}
    assert feed["items"][0]["reason"] == reason
    assert (feed["level"], feed["degrade_reasons"], feed["gaps"]) == ("full", [], 0)


def test_the_second_page_goes_on_where_the_first_ended(api):
    first = api.ask("GET", "/v1/platform/feed", params={"viewer": "ann", "limit": 2})
    link = first.headers["link"]
    assert link.startswith("</v1/platform/feed?viewer=ann&limit=2&cursor=")
    assert link.endswith('>; rel="next"')
    second = api.ask("GET", link.partition("<")[2].partition(">")[0]).json()
    assert [item["post_id"] for item in second["items"]] == ["p-3", "p-2"]
    assert [item["position"] for item in second["items"]] == [2, 3]
    assert second["feed_id"] == first.json()["feed_id"]
    assert second["next"] != first.json()["next"]
    last = api.ask("GET", "/v1/platform/feed", params={"viewer": "ann", "cursor": second["next"]})
    assert [item["post_id"] for item in last.json()["items"]] == ["p-1"]
    assert last.json()["next"] is None
    assert "link" not in last.headers


def test_a_stranger_gets_a_feed_and_stays_a_stranger(api):
    feed = api.feed("nobody", limit=2)
    assert [item["post_id"] for item in feed["items"]] == ["p-5", "p-4"]
    assert feed["degrade_reasons"] == ["unknown_viewer"]
    assert api.person("nobody") == -1
    api.ask("PUT", "/v1/platform/people/nobody", json={})
    rest = api.feed("nobody", cursor=feed["next"])
    assert [item["post_id"] for item in rest["items"]] == ["p-3", "p-2", "p-1"]


def test_a_deleted_post_leaves_a_gap_on_later_pages(api):
    first = api.feed("ann", limit=2)
    assert api.ask("DELETE", "/v1/platform/posts/p-2").status_code == 204
    second = api.feed("ann", cursor=first["next"])
    assert [(i["position"], i["post_id"]) for i in second["items"]] == [(2, "p-3"), (4, "p-1")]
    assert second["gaps"] == 1
    assert "p-2" not in [item["post_id"] for item in api.feed("ann")["items"]]


def test_a_cursor_of_a_feed_that_is_gone_says_so(make_api):
    api = make_api(keep=1)
    old = api.feed("ann", limit=1)
    api.feed("ann", limit=1)
    answer = api.ask("GET", "/v1/platform/feed", params={"viewer": "ann", "cursor": old["next"]})
    assert (answer.status_code, answer.json()["type"]) == (410, "cursor-expired")


def test_a_cursor_holds_for_its_viewer_and_its_server_alone(make_api):
    here, there = make_api(), make_api()
    cursor = here.feed("ann", limit=1)["next"]
    for api, viewer in ((here, "bob"), (there, "ann")):
        answer = api.ask("GET", "/v1/platform/feed", params={"viewer": viewer, "cursor": cursor})
        assert (answer.status_code, answer.json()["type"]) == (400, "cursor-invalid")
    assert (here.settings.home / "cursor.key").stat().st_mode & 0o777 == 0o600


def test_an_empty_world_gives_an_empty_feed(make_api):
    feed = make_api(posts=0).feed("ann")
    assert (feed["items"], feed["next"]) == ([], None)


def test_feeds_are_not_for_caches(api):
    answer = api.ask("GET", "/v1/platform/feed", params={"viewer": "ann"})
    assert answer.headers["cache-control"] == "private, no-store"

"""`headwater why`: a headline, then why, why here, why not, what would change it."""

import json

import numpy as np
import pytest

from contracts.clock import now_us
from contracts.errors import InvalidInput, NotFound
from contracts.ids import FeedId, Namespace, UserId, feed_id_text
from contracts.query import FeedQuery
from contracts.settings import load_settings
from features.workspace import Workspace
from feed_api.platform.schemas import WhyOut
from pipelines.commands.why import why
from serving.opening import open_service

FEED = 7


@pytest.fixture
def home(small_home_copy):
    """A home with one recorded feed; ids of its first post and of one that it does not hold."""
    with Workspace.open(small_home_copy) as workspace:
        service = open_service(workspace, load_settings().unhurried(), start=False)
        viewer = int(workspace.log.scan(columns=["viewer_id"]).column("viewer_id")[0].as_py())
        page = service.open(FeedQuery(FeedId(FEED), UserId(viewer), now_us(), 20))
        record = service._record(FEED)
        held = {*record["pool_ids"].tolist(), *record["reserve_ids"].tolist()}
        outside = next(p for p in service._cache.posts.post_id.tolist() if p not in held)
        service.close()
        ids = np.array([page.items[0].post_id, outside], dtype=np.int64)
        shown, absent = workspace.ids.external(Namespace.POST, ids)
    return small_home_copy, shown, absent


def test_a_post_of_the_feed_is_told_in_sections(home, capsys):
    folder, shown, _ = home
    why(feed_id_text(FEED), shown, home=folder)
    text = capsys.readouterr().out
    assert f"({shown})" in text.splitlines()[0]
    assert "At place 1 of this feed." in text
    sections = ("Why\n", "Why here\n", "What would change it\n", "What is recorded\n", "Ledger")
    places = [text.index(section) for section in sections]
    assert places == sorted(places)
    assert "Why not" not in text


def test_json_is_what_the_platform_gives(home, capsys):
    folder, _, absent = home
    why(feed_id_text(FEED), absent, home=folder, as_json=True)
    captured = capsys.readouterr()
    answer = WhyOut.model_validate(json.loads(captured.out))
    assert (answer.post_id, answer.feed_id, answer.position) == (absent, feed_id_text(FEED), None)
    assert answer.text.startswith("Not in this feed: ")
    assert "Why not" in captured.err
    assert "Where each source ranks it now" in captured.err


def test_what_is_wrong_is_said(home):
    folder, shown, _ = home
    with pytest.raises(InvalidInput, match="16 lower-case"):
        why("no feed", shown, home=folder)
    with pytest.raises(NotFound, match="no post is known as 'nothing'"):
        why(feed_id_text(FEED), "nothing", home=folder)
    with pytest.raises(NotFound, match="no record of this feed"):
        why(feed_id_text(FEED + 1), shown, home=folder)

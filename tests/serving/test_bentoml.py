"""The ranker as a BentoML service: the same feeds as in process, and a fallback when it is gone."""

from pathlib import Path

import numpy as np
import pytest

from contracts.clock import now_us
from contracts.degrade import DegradeLevel, DegradeReason
from contracts.ids import FeedId, UserId
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from pipelines.ranker_process import ranker_running
from pipelines.server_process import free_port
from serving.opening import open_service

REQUESTS = 200


@pytest.mark.e2e
def test_the_same_requests_give_equal_feeds_in_process_and_through_the_service(
    small_home_copy: Path,
) -> None:
    home = small_home_copy
    remote = Settings(
        home=home, ranker="bentoml", ranker_url=f"http://127.0.0.1:{free_port(0)}",
        ranker_timeout_ms=10_000,
    ).unhurried()  # fmt: skip
    local = remote.model_copy(update={"ranker": "in_process"})
    at = now_us()
    with Workspace.open(home) as workspace, ranker_running(remote):
        here, there = open_service(workspace, local), open_service(workspace, remote)
        viewers = workspace.catalog.people().column("person_id").to_numpy()
        viewers = np.resize(viewers, REQUESTS)
        try:
            for number, viewer in enumerate(viewers.tolist()):
                query = FeedQuery(FeedId(number + 1), UserId(viewer), at + number, 20)
                assert here.open(query) == there.open(query)
            assert there.health()["ranker_healthy"]
        finally:
            here.close()
            there.close()


def test_an_unreachable_service_is_named_and_the_fixed_blend_answers(
    small_home_copy: Path,
) -> None:
    gone = Settings(
        home=small_home_copy, ranker="bentoml", ranker_url=f"http://127.0.0.1:{free_port(0)}",
    ).unhurried()  # fmt: skip
    with Workspace.open(small_home_copy) as workspace:
        service = open_service(workspace, gone, start=False)
        viewer = int(workspace.catalog.people().column("person_id")[0].as_py())
        page = service.open(FeedQuery(FeedId(1), UserId(viewer), now_us(), 20))
        service.close()
    assert page.level is DegradeLevel.FIXED_BLEND
    assert page.degrade_reasons == (DegradeReason.RANKER_UNREACHABLE,)

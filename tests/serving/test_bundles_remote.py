"""The ranker service scores with the bundle that a request names, so that bundles can change."""

from dataclasses import replace

import numpy as np
import pytest

from contracts.clock import now_us
from contracts.errors import NotFound
from contracts.ids import Namespace
from contracts.policy import FAMILIES
from features.workspace import Workspace
from models.bundle import Bundle
from serving.rankers.base import RankRequest
from serving.rankers.host import MOST_LOADED, open_host
from serving.rankers.wire import read_response, write_request


def test_each_request_is_scored_with_its_bundle_and_few_are_kept(small_home_copy):
    home = small_home_copy
    champion = (home / "bundles" / "CHAMPION").read_text().strip()
    bundle = Bundle.load(home / "bundles" / champion)
    names = [champion]
    for seen in range(MOST_LOADED):
        prior = np.full_like(bundle.ranker.prior, 0.1 + seen / 10)
        nothing = np.zeros_like(bundle.ranker.trained)  # every head answers its prior
        ranker = replace(bundle.ranker, prior=prior, trained=nothing)
        names.append(replace(bundle, ranker=ranker).save(home / "bundles").bundle_id)
    with Workspace.open(home, read_only=True) as workspace:
        viewer = int(workspace.ids.all(Namespace.PERSON)[0][0])
        posts = bundle.post_ids[:30]
        family = np.zeros((30, len(FAMILIES)), dtype=np.float16)
        raw = write_request(RankRequest(viewer, now_us(), 0, posts, family))
    host = open_host(home)
    for _ in range(2):
        answers = [read_response(host.score(name, raw), 30).probabilities for name in names]
        assert len({round(float(answer[0, 0]), 6) for answer in answers}) == len(names)
        assert answers[1][0, 0] == pytest.approx(0.1)
        assert len(host._rankers) == MOST_LOADED
    for name in ("0" * 16, "", "../bundles/" + champion):
        with pytest.raises(NotFound, match="there is no bundle"):
            host.score(name, raw)

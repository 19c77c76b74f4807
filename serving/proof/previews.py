"""Previews: a viewer's last feed, ordered as if they had asked for more or fewer of something."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from contracts.events import AUTHOR_CONTROLS, TOPIC_CONTROLS, EventType
from contracts.feed import Preview
from contracts.policy import Exploration, Policy
from features.caches import FeatureCache
from serving.proof.replay import counterfactual
from serving.stages.decision import Decision


def wished_key(cache: FeatureCache, wish: EventType, slot: int) -> int:
    """Give the id of the author, or first topic, of a post slot that a wish is about; -1: none."""
    if wish in AUTHOR_CONTROLS:
        author = int(cache.posts.author_slot[slot])
        return int(cache.people.person_id[author]) if author >= 0 else -1
    topic = int(cache.posts.topics[slot, 0])
    return int(cache.posts.topics_index.ids[topic]) if topic >= 0 else -1


def preview_of(record: Mapping[str, Any], policy: Policy, wish: EventType, key: int) -> Preview:
    """Order a recorded feed anew with one wish; RESET_CONTROLS drops all that were in force.

    Nothing is drawn, on either side: what is seen is the wish alone.
    """
    decision = Decision.of(record)
    steady = policy.model_copy(update={"exploration": Exploration(temperature=0.0)})
    control = decision.adjustments.control.copy()
    if wish is EventType.RESET_CONTROLS:
        control[:] = 0
    else:
        column = record["authors"] if wish in AUTHOR_CONTROLS else record["topics"]
        sign = {**AUTHOR_CONTROLS, **TOPIC_CONTROLS}[wish]
        control[(np.asarray(column) == key) & (key >= 0)] = sign
    changed = decision.adjustments._replace(control=control)
    before = counterfactual(record, steady).otherwise
    after = counterfactual(record, steady, adjustments=changed).otherwise
    return Preview(int(record["feed_id"]), tuple(before.tolist()), tuple(after.tolist()))

"""What each proof feature costs: CPU time a feed in one process, features taken away one by one.

Run by `benchmarks/latency.py` as a process of its own; prints one JSON list of rows. Variants take
turns over the same viewers, so that a noisy moment falls on all of them.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any, Final

import numpy as np

from contracts.clock import now_us
from contracts.ids import FeedId, Namespace, UserId
from contracts.policy import ColdStart, Exploration, Fatigue, Policy
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from serving.opening import open_service
from serving.service import FeedService

_FEEDS: Final = 150
_ROUNDS: Final = 5


def main() -> None:
    """Measure every variant on the home named by the first argument."""
    home = Path(sys.argv[1])
    with Workspace.open(home, read_only=True) as workspace:
        ids, _ = workspace.ids.all(Namespace.PERSON)
        people = np.random.default_rng(0).permutation(ids)[:_FEEDS].tolist()
        services = {}
        for name, changes in _variants().items():
            policy = Policy(name="cost").model_copy(update=dict(changes))
            settings = Settings(home=home).unhurried()
            services[name] = open_service(workspace, settings, policy=policy, start=False)
        spent: dict[str, list[float]] = {name: [] for name in services}
        for number in range(_ROUNDS + 1):
            for name, service in services.items():
                cost = _cpu_ms(service, people, 10**9 + number * _FEEDS)
                if number:  # the first round warms up
                    spent[name].append(cost)
        whole = median(spent["everything"])
        rows = [
            {
                "target": f"in process, ranking alone: {name}",
                "cpu_ms_per_feed": round(median(costs), 2),
                "cost_ms": round(whole - median(costs), 2) if name != "everything" else None,
            }
            for name, costs in spent.items()
        ]
        for service in services.values():
            service.close()
    print(json.dumps(rows))


def _variants() -> Mapping[str, Mapping[str, Any]]:
    plain = Policy(name="cost")
    selection = plain.selection
    return {
        "everything": {},
        "no exploration": {"exploration": Exploration(temperature=0.0)},
        "no cold-start slots": {"cold_start": ColdStart(slots=())},
        "no MMR": {"selection": selection.model_copy(update={"relevance": 1.0})},
        "no fatigue": {"fatigue": Fatigue(author_strength=0.0, topic_strength=0.0)},
    }


def _cpu_ms(service: FeedService, people: list[int], first: int) -> float:
    """Rank a feed a person: CPU milliseconds of this thread, the record's own thread left out."""
    at = now_us()
    started = thread_time()
    for place, person in enumerate(people):
        service.open(FeedQuery(FeedId(first + place), UserId(person), at, 20))
    return (thread_time() - started) * 1000 / len(people)


if __name__ == "__main__":
    main()

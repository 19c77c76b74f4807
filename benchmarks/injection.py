"""Faults put into the stages of a feed: each component in turn is made to raise or to be slow.

A faulty component is the real one, wrapped: it declares what the real one declares, and its verb
raises, or sleeps and then does its work.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from serving.components import Component
from serving.pipeline import FeedPipeline, Stages
from serving.service import FeedService

_VERBS = {"context", "fold_in", "find", "columns", "keep", "score", "select"}


class Injected(RuntimeError):
    """The fault that was put in."""


@dataclass(frozen=True)
class Faulty:
    """A component whose verb raises, or sleeps first where `slow_seconds` is given."""

    real: Component
    slow_seconds: float | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real one has
        found = getattr(self.real, name)
        return self._breaks(found) if name in _VERBS else found

    def _breaks(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def broken(*arguments: Any) -> Any:  # noqa: ANN401 - the verb's own signature
            if self.slow_seconds is None:
                raise Injected(f"{self.real.name} is out of order")
            time.sleep(self.slow_seconds)
            return verb(*arguments)

        return broken


@dataclass(frozen=True, slots=True)
class Injection:
    """Stages with one faulty component; a scorer's predecessors raise, so that it is reached."""

    component: str
    stages: Stages


def injections(stages: Stages, slow_seconds: float | None = None) -> Iterator[Injection]:
    """Break each component of the stages in turn."""
    yield Injection("viewer", replace(stages, viewer=Faulty(stages.viewer, slow_seconds)))
    for group in ("families", "sources", "hydrators", "filters", "scorers"):
        parts = list(getattr(stages, group))
        for place, part in enumerate(parts):
            changed = list(parts)
            if group == "scorers":
                changed[:place] = [Faulty(before) for before in parts[:place]]
            changed[place] = Faulty(part, slow_seconds)
            yield Injection(part.name, replace(stages, **{group: changed}))
    selector = Faulty(stages.selector, slow_seconds)
    yield Injection(stages.selector.name, replace(stages, selector=selector))


def stages_of(service: FeedService) -> Stages:
    """Read the stages that a service ranks with."""
    return service._lineup.champion.pipeline._stages


def use_pipeline(service: FeedService, pipeline: FeedPipeline) -> None:
    """Let a service rank with another pipeline from now on."""
    champion = replace(service._lineup.champion, pipeline=pipeline)
    service._lineup = replace(service._lineup, champion=champion)

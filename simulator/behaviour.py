"""What people do with what they see: the true probabilities, and one draw from them.

A position-based model (Craswell et al., WSDM 2008): a post is viewed with a probability that
falls with its position; given a view, the actions are independent of position and each other.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from contracts.clock import HOUR_US
from contracts.events import EventType
from contracts.seeds import unit_interval
from features.columns import Columns
from simulator.population import FloatArray, IntArray, People, Posts

DRAWN: Final = (
    EventType.CLICK,
    EventType.LIKE,
    EventType.COMMENT,
    EventType.REPOST,
    EventType.SHARE,
    EventType.SAVE,
    EventType.FOLLOW_AUTHOR,
    EventType.HIDE,
    EventType.REPORT,
)
"""Actions that are drawn given a view; the order is the column order of probabilities."""

_INTERCEPT: Final = np.array([-1.8, -2.0, -4.0, -4.1, -4.5, -4.1, -4.8, -4.9, -7.2])
_SLOPE: Final = np.array([0.85, 1.05, 0.9, 1.0, 0.9, 1.0, 0.9, -0.9, -0.7])
_ASKS: Final = np.array([0.0, 0.0, 1.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
_LINKS: Final = np.array([0.9, 0.0, 0.0, 0.0, 0.4, 0.5, 0.0, 0.0, 0.2])


@dataclass(frozen=True, slots=True)
class Shown(Columns):
    """What was shown to whom and how; one row a showing, all arrays [n]."""

    person: IntArray
    post: IntArray
    at_us: IntArray
    position: IntArray  # from 0
    fatigue: IntArray  # posts on the same topic earlier in the same session
    followed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth(Columns):
    """True probabilities of showings, as they were before anything was drawn."""

    view: FloatArray  # [n]
    given_view: FloatArray  # [n, len(DRAWN)]
    dwell_ms: FloatArray  # [n], mean given a view

    def of(self, action: EventType) -> FloatArray:
        """Give the probability of an action, viewing included; shape [n]."""
        return self.view * self.given_view[:, DRAWN.index(action)]


@dataclass(frozen=True, slots=True)
class Outcome(Columns):
    """What was drawn; dwell is 0 where the post was not viewed."""

    viewed: NDArray[np.bool_]  # [n]
    acted: NDArray[np.bool_]  # [n, len(DRAWN)]
    dwell_ms: FloatArray  # [n]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The laws of the world: people and posts to probabilities."""

    seed: int
    people: People
    posts: Posts
    start_us: int
    end_us: int

    def appeal(self, shown: Shown) -> FloatArray:
        """Compute how much a post pleases a person, position apart; [n], about -0.5 +- 1.5."""
        person, post, posts = shown.person, shown.post, self.posts
        match = self.taste_match(person, post, shown.at_us)
        author = posts.author[post]
        pair = person * len(self.people) + author
        bond = ndtri(np.clip(unit_interval(self.seed, pair, "bond"), 1e-6, 1 - 1e-6))
        age_hours = np.maximum(shown.at_us - posts.created_us[post], 0) / HOUR_US
        foreign = posts.language[post] != self.people.language[person]
        appeal: FloatArray = (
            0.9 * np.log((match + 0.01) / 0.06)
            + 0.7 * posts.quality[post]
            + 0.6 * shown.followed
            + 0.4 * bond
            - 0.3 * np.log1p(age_hours / 24.0)
            - 0.15 * np.minimum(shown.fatigue, 6)
            - 1.5 * foreign
        )
        return appeal

    def taste_match(self, person: IntArray, post: IntArray, at_us: IntArray) -> FloatArray:
        """Compute the taste for a post's topics at a moment; shape [n] in [0, 1]."""
        span = self.end_us - self.start_us
        drift = np.clip((at_us - self.start_us) / span, 0.0, 1.0)
        first = self.posts.primary[post]
        second = np.where(self.posts.secondary[post] < 0, first, self.posts.secondary[post])
        early, late = self.people.taste_start, self.people.taste_end
        taste = [
            (1.0 - drift) * early[person, topic] + drift * late[person, topic]
            for topic in (first, second)
        ]
        return 0.7 * taste[0] + 0.3 * taste[1]

    def truth(self, shown: Shown) -> Truth:
        """Compute the true probabilities of showings."""
        appeal = self.appeal(shown)
        kind = self.posts.kind[shown.post][:, None]
        logits = _INTERCEPT + _SLOPE * appeal[:, None] + _ASKS * (kind == 1) + _LINKS * (kind == 2)
        given_view = expit(logits)
        given_view[:, DRAWN.index(EventType.FOLLOW_AUTHOR)] *= ~shown.followed
        return Truth(
            view=expit(0.5 + 0.5 * appeal - 0.45 * np.log1p(shown.position)),
            given_view=given_view,
            dwell_ms=np.exp(8.2 + 0.35 * np.clip(appeal, -4.0, 4.0)),
        )

    def draw(self, truth: Truth, rng: np.random.Generator) -> Outcome:
        """Draw once what happens; dwell is lognormal around its mean, with sigma 0.6."""
        viewed = rng.random(len(truth.view)) < truth.view
        acted = (rng.random(truth.given_view.shape) < truth.given_view) & viewed[:, None]
        dwell = truth.dwell_ms * rng.lognormal(-0.18, 0.6, len(viewed))
        return Outcome(viewed, acted, np.where(viewed, np.maximum(dwell, 2000.0), 0.0))

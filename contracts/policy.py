"""The policy: one frozen, hashed object that holds every weight, cap, share and multiplier.

No weight stands in code. An experiment arm is a typed difference to a policy (`Policy.diff`).
Orders of magnitude follow the public weights of X's home ranker (August 2026).
"""

from collections.abc import Mapping
from enum import StrEnum
from hashlib import blake2b
from json import dumps
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.degrade import SourceName


class Action(StrEnum):
    """What the ensemble ranker predicts; the order is the column order of its output."""

    CLICK = "click"
    LIKE = "like"
    COMMENT = "comment"
    REPOST = "repost"
    SHARE = "share"
    SAVE = "save"
    FOLLOW_AUTHOR = "follow_author"
    DWELL = "dwell"  # expected seconds, not a probability
    HIDE = "hide"
    REPORT = "report"


ACTIONS: Final = tuple(Action)
FAMILIES: Final = ("collaborative", "content", "deep", "neighbours")

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Multiplier = Annotated[float, Field(ge=0.01, le=10.0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Mix(_Part):
    """The share of posts by followed people in a slate, applied at selection."""

    followed_target: Share = 0.5
    followed_min: Share = 0.2
    followed_max: Share = 0.8
    pull: Share = 0.25
    """Between the bounds a followed post counts 1 + pull * (target - share so far) times."""

    @model_validator(mode="after")
    def _ordered(self) -> "Mix":
        if not self.followed_min <= self.followed_target <= self.followed_max:
            msg = (
                f"mix needs followed_min <= followed_target <= followed_max, got "
                f"{self.followed_min}, {self.followed_target}, {self.followed_max}"
            )
            raise ValueError(msg)
        return self


class Selection(_Part):
    """How an ordered slate is taken from scored candidates."""

    author_decay: Share = 0.75
    """The k-th further post of one author is multiplied by (1-floor) * decay^k + floor."""
    author_floor: Share = 0.25
    topic_decay: Share = 0.9
    topic_floor: Share = 0.6
    max_per_author: int = Field(default=5, ge=1)
    relevance: Share = 0.9
    """MMR (Carbonell and Goldstein, SIGIR 1998): a row loses (1 - relevance) times its greatest
    likeness to a row chosen before."""
    slate: int = Field(default=50, ge=1, le=200)
    """Slots that are chosen one by one; the rest follows by value."""
    reserve: int = Field(default=100, ge=0, le=5000)
    pool: int = Field(default=100, ge=10, le=400)
    """Rows that selection looks at: all that it consumes of them is in the decision record."""


class Exploration(_Part):
    """Plackett-Luce draws on the first page, slot by slot, within a budget of regret."""

    temperature: float = Field(default=0.2, ge=0.0, le=10.0)
    """A row is drawn with weight value^(1/temperature); 0 draws nothing."""
    choices: int = Field(default=6, ge=1, le=50)
    """Best rows of a slot that may be drawn."""
    regret: Share = 0.01
    """Share of the best row's value that a slot may lose in expectation."""
    budget: Share = 0.02
    """Share of a greedy page's value that a whole page may lose in expectation."""


class ColdStart(_Part):
    """Slots of the first page that new posts are tried in, by Thompson sampling."""

    slots: tuple[Annotated[int, Field(ge=0)], ...] = (6, 14)
    impressions: int = Field(default=20, ge=0)
    """A post with fewer impressions is new."""
    candidates: int = Field(default=10, ge=1, le=50)
    """Best new posts that may be tried."""
    prior_strength: float = Field(default=10.0, gt=0)
    """Impressions that the ranker's own prediction counts for."""
    regret: Share = 0.05
    """Share of the best row's value that such a slot may lose in expectation."""
    lift: Share = 0.0
    """Added to the value of every new post."""


class Fatigue(_Part):
    """What impressions of an author or topic, in this feed and before it, cost the next one.

    The multiplier is floor + (1 - floor) / (1 + strength * decayed impressions).
    """

    half_life_hours: float = Field(default=6.0, gt=0)
    author_strength: float = Field(default=0.1, ge=0)
    author_floor: Share = 0.5
    topic_strength: float = Field(default=0.01, ge=0)
    topic_floor: Share = 0.7


class Controls(_Part):
    """What "show more" and "show fewer" of an author or topic multiply a value by."""

    more: Multiplier = 1.5
    fewer: Multiplier = 0.2


class Filters(_Part):
    """Bounds of the filters."""

    max_age_hours: float | None = Field(default=None, gt=0)
    hide_seen: bool = True
    served_minutes: float = Field(default=30.0, ge=0.0)
    """Posts on pages served this recently do not come back; 0 turns the rule off."""
    match_language: bool = False
    """Remove posts whose language is known and is not the viewer's known language."""
    inventory_holdout: Share = 0.0


class Policy(_Part):
    """Everything that turns candidates and probabilities into one ordered feed."""

    version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=64)
    scorer: Literal["ensemble", "fixed_blend", "popular"] = "ensemble"
    weights: Mapping[Action, float] = Field(
        default_factory=lambda: {
            Action.CLICK: 0.4,
            Action.LIKE: 0.5,
            Action.COMMENT: 5.0,
            Action.REPOST: 1.0,
            Action.SHARE: 2.0,
            Action.SAVE: 1.0,
            Action.FOLLOW_AUTHOR: 4.0,
            Action.DWELL: 0.004,
            Action.HIDE: -43.0,
            Action.REPORT: -234.0,
        }
    )
    blend: Mapping[str, float] = Field(
        default_factory=lambda: {"collaborative": 0.4, "content": 0.3, "deep": 0.3}
    )
    out_of_network: Multiplier = 0.75
    quotas: Mapping[SourceName, Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: {
            SourceName.IN_NETWORK: 250,
            SourceName.COLLABORATIVE: 300,
            SourceName.DEEP: 300,
            SourceName.CONTENT: 200,
            SourceName.ITEM_TO_ITEM: 120,
            SourceName.TRENDING: 100,
            SourceName.FRESH: 100,
            SourceName.FOLLOWS_OF_FOLLOWS: 100,
        }
    )
    max_candidates: int = Field(default=1400, ge=10, le=5000)
    mix: Mix = Mix()
    selection: Selection = Selection()
    exploration: Exploration = Exploration()
    cold_start: ColdStart = ColdStart()
    fatigue: Fatigue = Fatigue()
    controls: Controls = Controls()
    filters: Filters = Filters()

    @model_validator(mode="after")
    def _within_budget(self) -> "Policy":
        explore, cold = self.exploration, self.cold_start
        # A page of any length: its mean is greatest behind a new post, or nears the other slots'.
        pages = [slot + 1 for slot in cold.slots]
        tried = [sum(slot < page for slot in cold.slots) for page in pages]
        means = [
            (explore.regret * (page - n) + cold.regret * n) / page
            for page, n in zip(pages, tried, strict=True)
        ]
        worst = max([explore.regret, *means])
        if explore.temperature > 0.0 and worst > explore.budget + 1e-12:
            msg = f"a page may lose {worst:.3f} of its value, over exploration.budget"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _weighed(self) -> "Policy":
        if self.scorer == "ensemble" and not any(self.weights.values()):
            msg = "the scorer `ensemble` needs a weight that is not 0"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _families(self) -> "Policy":
        unknown = set(self.blend) - set(FAMILIES)
        if unknown:
            msg = f"blend knows the families {', '.join(FAMILIES)}, got {sorted(unknown)}"
            raise ValueError(msg)
        return self

    def canonical(self) -> bytes:
        """Write the policy in its one canonical JSON form: sorted keys, no spaces."""
        return dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of BLAKE2b over the canonical form."""
        return blake2b(self.canonical(), digest_size=8).hexdigest()

    def leaves(self) -> dict[str, Any]:
        """Give every setting by its path, e.g. `weights.like`."""
        return _leaves(self.model_dump(mode="json"))

    def diff(self, other: "Policy") -> list["Change"]:
        """List what changes from this policy to another, one entry a leaf, sorted by path."""
        mine, theirs = self.leaves(), other.leaves()
        return [
            Change(path, mine.get(path), theirs.get(path))
            for path in sorted(mine.keys() | theirs.keys())
            if mine.get(path) != theirs.get(path)
        ]


class Change(NamedTuple):
    """One difference between two policies; None where a side lacks the leaf."""

    path: str
    before: Any
    after: Any


def fixed_blend() -> Policy:
    """Make the case study's hand blend: 0.4 collaborative, 0.3 content, 0.3 deep; half and half."""
    return Policy(
        name="fixed-blend",
        scorer="fixed_blend",
        mix=Mix(followed_target=0.5, followed_min=0.5, followed_max=0.5, pull=0.0),
    )


def popular() -> Policy:
    """Make the last resort: what is trending, in order of velocity."""
    return Policy(
        name="popular",
        scorer="popular",
        mix=Mix(followed_min=0.0, followed_max=1.0, pull=0.0),
        exploration=Exploration(temperature=0.0),
        cold_start=ColdStart(slots=()),
    )


def _leaves(value: object, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            p: leaf
            for key, inner in value.items()
            for p, leaf in _leaves(inner, f"{path}.{key}" if path else str(key)).items()
        }
    return {path: value}

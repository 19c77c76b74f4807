"""An explanation in sentences that a person understands."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from contracts.degrade import DegradeLevel, RemovalReason
from contracts.feed import Explanation, Flip, Placement
from contracts.policy import Action
from feed_api.platform.words import listed, removal_text, source_text

Labels = Mapping[int, str]
"""Post id to what a reader calls it."""

_SHOWN: Final = 0.05
"""A factor that changes a value by less than this is not worth a sentence."""
_MOST_FACTORS: Final = 3
_HARDLY: Final = 1e-6
"""Values below this belong to posts that are expected to do more harm than good."""

_ACTIONS: Final[Mapping[str, str]] = {
    Action.CLICK: "that it is opened",
    Action.LIKE: "of a like",
    Action.COMMENT: "of a comment",
    Action.REPOST: "of a repost",
    Action.SHARE: "that it is shared",
    Action.SAVE: "that it is saved",
    Action.FOLLOW_AUTHOR: "that its author is followed",
    Action.DWELL: "of time spent on it",
    Action.HIDE: "that it is hidden",
    Action.REPORT: "that it is reported",
}
_COSTS: Final[Mapping[str, tuple[str, str]]] = {
    "mult.out_of_network": (
        "coming from outside the viewer's follows",
        "if posts from outside the viewer's follows cost nothing",
    ),
    "mult.author_fatigue": (
        "its author having been shown lately",
        "if it did not matter that its author was shown lately",
    ),
    "mult.topic_fatigue": (
        "its topic having been shown lately",
        "if it did not matter that its topic was shown lately",
    ),
    "mult.viewer_control": ("what the viewer asked for", ""),
    "author_decay": (
        "its author standing higher up already",
        "if an author's further posts cost nothing",
    ),
    "topic_spread": (
        "its topic standing higher up already",
        "if a topic's further posts cost nothing",
    ),
    "likeness": ("its likeness to posts higher up", "if likeness to posts higher up cost nothing"),
    "mix": ("the balance of followed and other authors", ""),
}
"""Part of a value -> what lowers or raises it, and the words for switching it off."""
_CHANGES: Final[Mapping[str, str]] = {
    "follow_author": "if the viewer followed its author",
    "unfollow_author": "if the viewer did not follow its author",
    "lift_wishes": "if the viewer took back what they asked to see less of",
    "out_of_network": _COSTS["mult.out_of_network"][1],
    "fatigue.author_strength": _COSTS["mult.author_fatigue"][1],
    "fatigue.topic_strength": _COSTS["mult.topic_fatigue"][1],
    "selection.author_decay": _COSTS["author_decay"][1],
    "selection.topic_decay": _COSTS["topic_spread"][1],
    "selection.relevance": _COSTS["likeness"][1],
    f"drop.{RemovalReason.SEEN.word}": "if posts that were seen came back",
    f"drop.{RemovalReason.SERVED_THIS_SESSION.word}": "if posts that were just served came back",
    f"drop.{RemovalReason.TOO_OLD.word}": "if there were no limit of age",
    f"drop.{RemovalReason.LANGUAGE.word}": "if languages did not matter",
    f"drop.{RemovalReason.INVENTORY_HOLDOUT.word}": "if nothing were held out for measurement",
    f"drop.{RemovalReason.BLOCKED.word}": "if the block were lifted",
    f"drop.{RemovalReason.MUTED_AUTHOR.word}": "if the viewer did not mute its author",
}
_LEVELS: Final[Mapping[str, str]] = {
    DegradeLevel.CACHED: "the viewer's last feed was shown again",
    DegradeLevel.FOLLOWING: "the newest posts of followed people were shown",
    DegradeLevel.TRENDING: "what was trending was shown",
}
"""What a feed was made of while the ranking was out."""
_ABSENT: Final[Mapping[str, str]] = {
    "unknown_post": "no such post is known here",
    "posted_after": "it was posted after the feed was made",
    "outranked": "it was found, but others are ahead of it",
    "not_a_candidate": "no source brought it up for this viewer",
}
"""Note or outcome -> why a post has no place."""


@dataclass(frozen=True, slots=True)
class Told:
    """An explanation, a list of sentences a question; empty where there is nothing to say."""

    headline: str
    why: tuple[str, ...] = ()
    """What it was found by, and what makes up its value."""
    here: tuple[str, ...] = ()
    """What moved it to its place."""
    why_not: tuple[str, ...] = ()
    """What keeps it from the first page."""
    change: tuple[str, ...] = ()
    """The smallest change that would flip it."""
    basis: tuple[str, ...] = ()
    """What stands in the record and what was computed now."""

    @property
    def text(self) -> str:
        """Give it all as one paragraph."""
        parts = (self.why, self.here, self.why_not, self.change, self.basis)
        return " ".join([self.headline, *(sentence for part in parts for sentence in part)])


def tell(explanation: Explanation, labels: Labels) -> Told:
    """Say where a post stands and why; `labels` names every post that the explanation names."""
    told = Told(_headline(explanation))
    if explanation.note in {*_LEVELS, "unknown_post", "posted_after"}:
        return told
    on_page = _on_page(explanation)
    return Told(
        told.headline,
        _why(explanation),
        _here(explanation, labels) if explanation.position is not None else (),
        () if on_page else _why_not(explanation, labels),
        (_change(explanation),) if explanation.page else (),
        _basis(explanation),
    )


def _on_page(explanation: Explanation) -> bool:
    return explanation.position is not None and explanation.position < (explanation.page or inf)


def _headline(explanation: Explanation) -> str:
    place, note = (explanation.position or 0) + 1, explanation.note or ""
    if explanation.position is None:
        said, reason = "Not in this feed", _ABSENT.get(note) or _ABSENT.get(explanation.outcome)
        if explanation.outcome == "removed":
            reason = removal_text(explanation.removed_by or "unknown")
        sure = explanation.from_record or explanation.outcome == "not_a_candidate"
        said = f"{said}: {'' if sure else 'as things stand now, '}{reason}"
    elif explanation.outcome == "reserve":
        said = f"At place {place}, behind the part of this feed that was chosen place by place"
    else:
        behind = "" if _on_page(explanation) else f", behind its first page of {explanation.page}"
        said = f"At place {place} of this feed{behind}"
    if note in _LEVELS:
        said = f"{said}; the ranking was out when it was made, and {_LEVELS[note]}"
    return f"{said}."


def _why(explanation: Explanation) -> tuple[str, ...]:
    """Say what found the post and the largest parts of its value."""
    said = []
    if explanation.sources:
        named = listed([source_text(source) for source in explanation.sources])
        said.append(f"It was found through {named}.")
    terms = {
        name.removeprefix("term."): value
        for name, value in explanation.ledger.items()
        if name.startswith("term.")
    }
    best = max(terms, key=lambda name: terms[name], default=None)
    worst = min(terms, key=lambda name: terms[name], default=None)
    if best is not None and terms[best] > 0.0:
        said.append(f"Most of its value is {_part(best, terms[best], explanation)}.")
    if worst is not None and terms[worst] < 0.0:
        said.append(f"What lowers it most is {_part(worst, terms[worst], explanation)}.")
    return tuple(said)


def _part(name: str, value: float, explanation: Explanation) -> str:
    """Name a term: what is expected, how likely that is, and what it adds."""
    if name not in _ACTIONS:
        what = "its place in what is trending" if name == "trend_rank" else source_text(name)
        return f"{what} ({value:+.3g})"
    chance = explanation.probabilities.get(name)
    likely = "" if chance is None else f"{_percent(chance)}, "
    if name == Action.DWELL:
        likely = "" if chance is None else f"{chance:.3g} s, "
    return f"the chance {_ACTIONS[name]} ({likely}{value:+.3g})"


def _here(explanation: Explanation, labels: Labels) -> tuple[str, ...]:
    """Say what moved the post to its place, and who stands one place ahead."""
    placed = explanation.placement if explanation.outcome == "served" else None
    said = list(_changed({**_multipliers(explanation), **_selection(placed)}))
    ahead = explanation.behind.get("post_id")
    if ahead is not None:
        margin = explanation.behind.get("value_in_place")
        margin = explanation.behind["value_before_selection"] if margin is None else margin
        said.append(_ahead(labels[int(ahead)], float(margin)))
    if placed is not None:
        said.extend(_lot(placed, labels))
    return tuple(said)


def _multipliers(explanation: Explanation) -> dict[str, float]:
    return {name: value for name, value in explanation.ledger.items() if name in _COSTS}


def _selection(placed: Placement | None) -> dict[str, float]:
    if placed is None:
        return {}
    names = ("author_decay", "topic_spread", "likeness", "mix")
    return {name: getattr(placed, name) for name in names}


def _changed(factors: Mapping[str, float], how: str = "Its value is changed") -> tuple[str, ...]:
    """Say which factors matter, the strongest first."""
    strong = [name for name, value in factors.items() if abs(value - 1.0) >= _SHOWN]
    strong.sort(key=lambda name: -abs(factors[name] - 1.0))
    named = [
        f"{_COSTS[name][0]} ({100.0 * (factors[name] - 1.0):+.0f} %)"
        for name in strong[:_MOST_FACTORS]
    ]
    return (f"{how} by {listed(named)}.",) if named else ()


def _ahead(label: str, margin: float) -> str:
    if margin < 0:
        return f"{label} stands one place ahead though it counts {_number(-margin)} less."
    return f"{label} stands one place ahead; it counts {_number(margin)} more."


def _lot(placed: Placement, labels: Labels) -> tuple[str, ...]:
    """Say what exploration or the mix did at the post's own place."""
    said = []
    if placed.drawn:
        said.append(
            "Its place was drawn by lot among the best posts, where it had a chance of "
            f"{_percent(placed.propensity)}"
        )
    rival = placed.instead
    if rival is not None:
        better = f"{labels[rival.post_id]} counted {_number(rival.by)} more"
        said.append(
            f"without the lot {better}" if placed.drawn
            else f"The balance of followed and other authors asked for it, though {better}"
        )  # fmt: skip
    return (f"{'; '.join(said)}.",) if said else ()


def _why_not(explanation: Explanation, labels: Labels) -> tuple[str, ...]:
    """Say what keeps a post from the first page: retrieval, rules, value."""
    said = []
    if explanation.position is None:
        if explanation.outcome != "removed" and not explanation.sources:
            said.append(_found(explanation))
        others = [rule for rule in explanation.rules_now if rule != explanation.removed_by]
        if others:
            said.append(f"Now {listed([removal_text(rule) for rule in others])}, too.")
        if explanation.value_now is not None:
            said.append(_stand(explanation))
            said.extend(_changed(_multipliers(explanation)))
    rival, placed = explanation.lost_to, explanation.placement
    if rival is None:
        return tuple(said)
    if explanation.outcome != "served":
        said.extend(_changed(_selection(placed), "On the first page it would be changed"))
    barred = placed.barred if placed is not None and explanation.outcome != "served" else None
    where = f"the last place of the first page went to {labels[rival.post_id]}"
    if barred == "author_cap":
        said.append(f"Its author stands on the first page as often as is allowed; {where}.")
    elif rival.by < 0:
        cause = "the balance of followed and other authors" if barred == "mix" else "the lot"
        said.append(f"By {cause} {where}, though this post counts {_number(-rival.by)} more.")
    else:
        said.append(f"{where[0].upper()}{where[1:]}, which counts {_number(rival.by)} more there.")
    return tuple(said)


def _found(explanation: Explanation) -> str:
    """Say which source finds the post now, or comes nearest to it."""
    ranks = [(s.rank / s.quota, s) for s in explanation.sources_now if s.rank and s.quota]
    if not ranks:
        return "It stands on the list of no source, however long."
    nearest = min(ranks, key=lambda pair: pair[0])[1]
    through = f"{source_text(nearest.source)}, at rank {nearest.rank}"
    if _found_now(explanation):
        return f"Now it would be found through {through} of the {nearest.quota} that are taken."
    return f"It comes nearest through {through}, where {nearest.quota} are taken."


def _found_now(explanation: Explanation) -> bool:
    return any(s.rank is not None and s.rank <= s.quota for s in explanation.sources_now)


def _stand(explanation: Explanation) -> str:
    value = f"It would be worth {_number(explanation.value_now or 0.0)}"
    if explanation.value_now is not None and explanation.value_now < _HARDLY:
        value = "It is expected to do more harm than good: it would come after all others"
    if explanation.would_stand is None:
        return f"{value} and stand behind all places that the record keeps."
    return f"{value} and stand at place {explanation.would_stand + 1}."


def _change(explanation: Explanation) -> str:
    """Say which single change would flip it."""
    on_page, flip, would = _on_page(explanation), explanation.flip, explanation.would_stand
    missed = explanation.outcome == "not_a_candidate" and not explanation.rules_now
    if missed and would is not None and would < explanation.page and _found_now(explanation):
        return "As things stand now it would be on the first page."
    if flip is None:
        verb = "take it off" if on_page else "bring it onto"
        tried = f" of the {explanation.flips_tried} tried" if explanation.flips_tried > 1 else ""
        return f"No single change{tried} would {verb} the first page."
    place = f"be on the first page, at place {(flip.position or 0) + 1},"
    would_do = f"it would {'leave the first page' if on_page else place} {_if(flip)}"
    if flip.size == 0.0:  # an act of the viewer; a change of policy would move other posts as well
        return f"{would_do[0].upper()}{would_do[1:]}."
    return f"Against the posts that this feed chose among, {would_do}."


def _if(flip: Flip) -> str:
    if flip.change in _CHANGES:
        return _CHANGES[flip.change]
    kind, _, rest = flip.change.partition(".")
    if flip.before is None or flip.after is None:
        return f"if the rule {rest} were dropped"
    change = f"{flip.after:.6g} instead of {flip.before:.6g}"
    if kind == "quotas":
        return f"if {source_text(rest)} gave {change} posts"
    if rest == "max_per_author":
        return f"if an author might have {change} posts"
    what = f"the chance {_ACTIONS[rest]}" if rest in _ACTIONS else source_text(rest)
    return f"if {what} weighed {change}"


def _basis(explanation: Explanation) -> tuple[str, ...]:
    """Say what stands in the record and what was computed now."""
    if explanation.note == "not_computed":
        return ("More cannot be computed just now: a part of the ranking does not answer.",)
    since = explanation.actions_since
    if since is None:
        return ("All of this stands in the feed's record.",)
    events = {0: "nothing new is known of this viewer since", 1: "1 event of this viewer has come"}
    said = events.get(since, f"{since} events of this viewer have come since")
    other = "" if explanation.bundle_now is None else ", by other models than the feed's"
    return (f"What the record does not hold was computed now{other}; {said}.",)


def _number(value: float) -> str:
    return f"{value:.3g}" if value >= _HARDLY else "hardly any"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g} %" if share >= 0.001 else "under 0.1 %"

"""Short post texts from templates and the topics' words."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.vocabulary import Words, topic_names, topics

_OPENERS: Final = (
    "Finally happy with the {a}.",
    "A week of {do} and the {a} still surprises me.",
    "Nobody warned me about the {a}.",
    "Small win today: {do} went well.",
    "My {a} and I need to talk.",
    "Three things I learned from {do}: patience, the {a}, and more patience.",
    "Hot take: the {a} matters more than the {b}.",
    "Spent the whole evening {do}.",
    "The {a} was worth the wait.",
    "Today's plan: {a}, then {b}.",
    "I keep coming back to the {a}.",
    "Old {a}, new {b}, same joy.",
    "If you are {do}, start with the {a}.",
    "Unpopular opinion: skip the {a}, get a better {b}.",
    "First time {do}. Did not break anything.",
    "There is the {a}, and then there is everything else.",
    "Not one {a} today but two.",
    "The {a} and the {b} finally get along.",
    "Woke up early for the {a}.",
    "My friends call it the {a} phase.",
    "Everything I know about the {a} I learned from {do}.",
    "Ten minutes of {do}, one hour of looking at the {a}.",
    "Somebody gave me a {a}. No idea what to do with it yet.",
    "Rain all day, so: {do}.",
)
_FOLLOWERS: Final = (
    "The {b} made all the difference.",
    "Next up: {do}.",
    "Notes on the {b} to follow.",
    "Took me years to see why the {b} matters.",
    "More {topic} this weekend.",
    "I blame the {b}.",
    "Photos of the {b} later.",
    "It is all about the {b}, as ever.",
    "Would do it again for the {b}.",
    "The {b} is still a mystery to me.",
    "Tomorrow I try it with a {b}.",
    "Better than last year's {b}.",
    "Ask me about the {b}.",
    "Nothing beats {do}.",
    "Back to {do} now.",
    "Everyone at home is tired of the {b}.",
)
_QUESTIONS: Final = (
    "How do you all handle the {a}?",
    "Is {do} worth it?",
    "{a} or {b}?",
    "What is your favourite {topic} story?",
    "Does anyone else worry about the {b}?",
)
_LINKS: Final = (
    "A long read on the {a}: https://example.org/{topic}/{n}",
    "My notes on {do} are up: https://example.org/{topic}/{n}",
    "Worth a look if you like {topic}: https://example.org/{topic}/{n}",
)
_ABROAD: Final = {
    "es": ("Hoy toca {topic}: {a} y {b}.", "Por fin, mi {a}.", "Sin {b} no hay {topic}."),
    "de": ("Heute wieder {topic}: {a} und {b}.", "Endlich mein {a}.", "Ohne {b} kein {topic}."),
    "fr": ("Encore {topic} : {a} et {b}.", "Enfin mon {a}.", "Pas de {topic} sans {b}."),
}
LANGUAGES: Final = ("en", *_ABROAD)


def write_texts(
    primary: NDArray[np.int64],
    secondary: NDArray[np.int64],
    kinds: NDArray[np.int8],
    languages: Sequence[str],
    generator: np.random.Generator,
) -> list[str]:
    """Write one text a post; `secondary` is -1 for posts of one topic, kinds: 0, 1 ask, 2 link."""
    dice = generator.integers(0, 1 << 30, size=(len(primary), 6)).tolist()
    return [
        _text(int(p), int(s), int(kind), language, draw)
        for p, s, kind, language, draw in zip(
            primary, secondary, kinds, languages, dice, strict=True
        )
    ]


def _text(primary: int, secondary: int, kind: int, language: str, draw: list[int]) -> str:
    main = topics()[topic_names()[primary]]
    other = topics()[topic_names()[secondary]] if secondary >= 0 else main
    if language in _ABROAD:
        templates = [_pick(_ABROAD[language], draw[0])]
    else:
        templates = [_pick(_OPENERS, draw[0])]
        if draw[1] % 8:
            templates.append(_pick(_FOLLOWERS, draw[1] // 8))
    if kind == 1:
        templates.append(_pick(_QUESTIONS, draw[2]))
    elif kind == 2:
        templates.append(_pick(_LINKS, draw[2]))
    sentence = " ".join(templates).format(**_fillers(main, other, primary, draw))
    return sentence[0].upper() + sentence[1:]


def _fillers(main: Words, other: Words, primary: int, draw: list[int]) -> dict[str, str | int]:
    first, second = _pick(main.things, draw[3]), _pick(other.things, draw[4])
    if first == second:
        second = _pick(other.things, draw[4] + 1)
    return {
        "a": first,
        "b": second,
        "do": _pick(main.doings, draw[5]),
        "topic": topic_names()[primary],
        "n": draw[5] % 10_000,
    }


def _pick(options: tuple[str, ...], draw: int) -> str:
    return options[draw % len(options)]

"""Topics of the world and the words that posts about them use."""

from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Words(NamedTuple):
    """The words of one topic: things that posts speak of, and what people do with them."""

    things: tuple[str, ...]
    doings: tuple[str, ...]


@cache
def topics() -> dict[str, Words]:
    """Read the topics and their words, once; the order is a topic's number.

    A topic a line of the file: its name, things, doings, with `|` and commas between.
    """
    words = {}
    text = files(__package__).joinpath("vocabulary.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        name, things, doings = (part.strip() for part in line.split("|"))
        split = (tuple(w.strip() for w in part.split(",")) for part in (things, doings))
        words[name] = Words(*split)
    return words


@cache
def topic_names() -> tuple[str, ...]:
    """Name the topics by number."""
    return tuple(topics())

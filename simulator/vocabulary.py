"""Topics of the world and the words that posts about them use."""

from importlib.resources import files
from typing import Final, NamedTuple


class Words(NamedTuple):
    """The words of one topic: things that posts speak of, and what people do with them."""

    things: tuple[str, ...]
    doings: tuple[str, ...]


def _read_topics() -> dict[str, Words]:
    """Read a topic a line: its name, things, doings, with `|` and commas between."""
    words = {}
    text = files(__package__).joinpath("vocabulary.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        name, things, doings = (part.strip() for part in line.split("|"))
        split = (tuple(w.strip() for w in part.split(",")) for part in (things, doings))
        words[name] = Words(*split)
    return words


TOPICS: Final = _read_topics()
"""Topic name -> its words; the order is the topic's number."""

TOPIC_NAMES: Final = tuple(TOPICS)

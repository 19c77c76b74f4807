"""The mapping file: which columns, words and constants to use where the guesses are wrong."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contracts.errors import InvalidInput, NotFound
from contracts.events import EVENT_TYPE_BY_WORD
from pipelines.ingestion.columns import FIELDS
from pipelines.ingestion.rows import Kind

UNITS: Final = ("s", "ms", "us")


@dataclass(slots=True)
class KindMapping:
    """What a person has said about one kind of file."""

    file: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Field -> column."""
    constants: dict[str, str] = field(default_factory=dict)
    """Field -> the value that every row has."""
    words: dict[str, str] = field(default_factory=dict)
    """Events only: a word of the file -> an event type."""
    time_unit: str | None = None


Mapping = dict[Kind, KindMapping]


def empty_mapping() -> Mapping:
    """Make a mapping that says nothing."""
    return {kind: KindMapping() for kind in Kind}


def load_mapping(path: Path | None, columns: Iterable[str] = ()) -> Mapping:
    """Read a mapping file and add `kind.field=column` pairs of the command line, which win."""
    mapping = empty_mapping() if path is None else _read(path)
    for pair in columns:
        kind, _, rest = pair.partition(".")
        name, equals, column = rest.partition("=")
        if kind not in set(Kind) or not equals or not column:
            msg = f"--column wants KIND.FIELD=COLUMN, got {pair!r}"
            raise InvalidInput(msg, hint="for example --column events.viewer_id=uid")
        mapping[Kind(kind)].columns[name] = column
    return mapping


def _read(path: Path) -> Mapping:
    if not path.is_file():
        raise NotFound(f"the mapping file {path} does not exist")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path.name} is not TOML: {error}"
        raise InvalidInput(msg, hint="docs/data-format.md shows a mapping file") from error
    mapping = empty_mapping()
    for section, entries in content.items():
        if section not in set(Kind) or not isinstance(entries, dict):
            msg = f"{path.name} has [{section}], which is no kind of file"
            raise InvalidInput(msg, hint=f"the kinds are {', '.join(Kind)}")
        kind = Kind(section)
        for key, value in entries.items():
            _take(mapping[kind], kind, key, value, path)
    return mapping


def _take(into: KindMapping, kind: Kind, key: str, value: object, path: Path) -> None:
    names = [f.name for f in FIELDS[kind]]
    where = f"{path.name}, [{kind.value}]"
    if key in names and isinstance(value, str):
        into.columns[key] = value
    elif key == "file" and isinstance(value, str):
        into.file = path.parent / value
    elif key == "time_unit" and value in UNITS:
        into.time_unit = str(value)
    elif key == "constants" and isinstance(value, dict) and set(value) <= set(names):
        into.constants = {name: str(constant) for name, constant in value.items()}
    elif key == "types" and kind is Kind.EVENTS and isinstance(value, dict):
        wrong = sorted({str(word) for word in value.values()} - set(EVENT_TYPE_BY_WORD))
        if wrong:
            msg = f"{where}: {', '.join(wrong)} is no event type"
            raise InvalidInput(msg, hint=f"the types are {', '.join(EVENT_TYPE_BY_WORD)}")
        into.words = {str(word).lower(): str(ours) for word, ours in value.items()}
    else:
        msg = f"{where}: {key} = {value!r} is not understood"
        allowed = [*names, "file", "time_unit (s, ms, us)", "constants", "types (events)"]
        raise InvalidInput(msg, hint=f"allowed are {', '.join(allowed)}")

"""Which column of a file is which field: guesses by name, proposed and shown, and overrides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.errors import InvalidInput
from pipelines.ingestion.rows import Kind


@dataclass(frozen=True, slots=True)
class Field:
    """A field of one kind of file and the column names that are taken for it, best first."""

    name: str
    synonyms: tuple[str, ...] = ()
    required: bool = False


_PERSON: Final = ("user_id", "person_id", "userid", "uid", "user", "account_id", "customer_id")
_POST: Final = ("item_id", "itemid", "post", "content_id", "article_id", "product_id", "movie_id")
_TIME: Final = ("timestamp", "time", "ts", "occurred_at", "datetime", "date", "created_at", "unix")
_LANGUAGE: Final = Field("language", ("lang", "locale"))

FIELDS: Final[Mapping[Kind, tuple[Field, ...]]] = {
    Kind.PEOPLE: (
        Field("person_id", (*_PERSON, "viewer_id", "id"), required=True),
        Field("created", ("created_at", "joined", "signup_date", "registered")),
        _LANGUAGE,
    ),
    Kind.POSTS: (
        Field("post_id", (*_POST, "id"), required=True),
        Field("text", ("body", "content", "title", "message", "description"), required=True),
        Field("created", ("created_at", "published", "published_at", *_TIME), required=True),
        Field("author_id", ("author", "creator_id", "owner_id", *_PERSON)),
        Field("topics", ("topic", "tags", "categories", "category", "genres")),
        _LANGUAGE,
        Field("known", ("known_time", "ingested_at")),
    ),
    Kind.FOLLOWS: (
        Field("follower_id", ("follower", "source", "from_id", "user_id", "src"), required=True),
        Field("followee_id", ("followee", "target", "to_id", "friend_id", "dst"), required=True),
        Field("since", ("followed_at", *_TIME)),
    ),
    Kind.EVENTS: (
        Field("viewer_id", (*_PERSON, "viewer", "visitor_id"), required=True),
        Field("type", ("event", "event_type", "action", "behavior", "interaction"), required=True),
        Field("event_time", _TIME, required=True),
        Field("post_id", _POST),
        Field("target_id", ("target", "target_user_id", "target_person_id")),
        Field("known_time", ("received_at", "ingested_at", "logged_at")),
        Field("event_id", ("id", "uuid", "event_uuid")),
        Field("value", ("rating", "dwell_ms", "amount", "weight")),
        Field("feed_id", ("request_id", "feed")),
        Field("position", ("slot", "rank")),
    ),
}

ColumnTable = dict[str, tuple[str, str]]
"""Field -> (column, how it was found)."""


def match_columns(kind: Kind, columns: Sequence[str], chosen: Mapping[str, str]) -> ColumnTable:
    """Guess the column of each field; what the caller has chosen wins.

    InvalidInput where a chosen field or column does not exist.
    """
    fields = FIELDS[kind]
    _check_chosen(kind, columns, chosen)
    found: ColumnTable = {name: (column, "chosen") for name, column in chosen.items()}
    plain = {_normal(column): column for column in reversed(columns)}
    taken = set(chosen.values())
    for how in ("same name", "guess"):
        for field in fields:
            for name in field.synonyms if how == "guess" else (field.name,):
                column = plain.get(name)
                if field.name not in found and column is not None and column not in taken:
                    found[field.name] = (column, how)
                    taken.add(column)
    return {field.name: found[field.name] for field in fields if field.name in found}


def check_required(
    file: str, kind: Kind, columns: Sequence[str], present: Mapping[str, object]
) -> None:
    """Hold that each required field has a column or a constant; InvalidInput names the rest."""
    missing = [f.name for f in FIELDS[kind] if f.required and f.name not in present]
    if missing:
        msg = f"{file} has no column for {', '.join(missing)}; it has {', '.join(columns)}"
        hint = (
            f"name it with --column {kind.value}.{missing[0]}=COLUMN, or write "
            f'{missing[0]} = "COLUMN" under [{kind.value}] in a mapping file'
        )
        raise InvalidInput(msg, hint=hint)


def _check_chosen(kind: Kind, columns: Sequence[str], chosen: Mapping[str, str]) -> None:
    known = [field.name for field in FIELDS[kind]]
    for name, column in chosen.items():
        if name not in known:
            msg = f"{kind.value} have no field {name}"
            raise InvalidInput(msg, hint=f"the fields are {', '.join(known)}")
        if column not in columns:
            msg = f"there is no column {column!r} for {kind.value}.{name}"
            raise InvalidInput(msg, hint=f"the columns are {', '.join(columns)}")


def _normal(column: str) -> str:
    """Lower case, words joined by underscores; RecBole's `name:type` loses its type."""
    name = column.split(":", maxsplit=1)[0].strip().lower()
    return "_".join(name.replace("-", " ").replace("_", " ").split())

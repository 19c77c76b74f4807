"""Policies by name, by file or by bundle."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from contracts.errors import InvalidInput, NotFound
from contracts.policy import Policy, fixed_blend, popular

BUILT_IN: Final[Mapping[str, Callable[[], Policy]]] = {
    "ensemble": lambda: Policy(name="ensemble"),
    "fixed-blend": fixed_blend,
    "popular": popular,
}


def find_policy(ref: str, home: Path) -> Policy:
    """Find a policy: a built-in name, a JSON file, or the id of a bundle in a home folder.

    NotFound where it is none of them, InvalidInput where the file is not a policy.
    """
    if ref in BUILT_IN:
        return BUILT_IN[ref]()
    manifest = home / "bundles" / ref / "manifest.json"
    if manifest.is_file():
        return parse_policy(json.dumps(json.loads(manifest.read_bytes())["policy"]), str(manifest))
    path = Path(ref)
    if path.is_file():
        try:
            return parse_policy(path.read_text(encoding="utf-8"), ref)
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{ref} is not UTF-8 text", hint="save it as UTF-8") from error
    msg = f"{ref!r} is no policy: neither a built-in name, nor a file, nor a bundle in {home}"
    raise NotFound(msg, hint=f"built-in names are {', '.join(BUILT_IN)}")


def parse_policy(text: str, where: str) -> Policy:
    """Read a policy from JSON; InvalidInput names each field that does not fit."""
    try:
        return Policy.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc']) or 'file'}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)
        )
        msg = f"{where} is not a policy: {problems}"
        hint = "`headwater policy show ensemble --json` prints one, under `policy`"
        raise InvalidInput(msg, hint=hint) from error

"""An example of every operation, for the OpenAPI file; tests hold them to the schemas."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import orjson


class Examples(NamedTuple):
    """What is written in `examples.json`."""

    requests: Mapping[str, Mapping[str, Any]]
    """Operation id -> a body that it takes."""
    answers: Mapping[str, Mapping[str, Any]]
    """Operation id -> a body that it gives; the others answer without one."""
    parameters: Mapping[str, str | int]
    """Parameter -> a value that it takes."""


@cache
def examples() -> Examples:
    """Read the examples, once."""
    return Examples(**orjson.loads(files(__package__).joinpath("examples.json").read_bytes()))

"""An example of every operation, for the OpenAPI file; tests hold them to the schemas."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import orjson

_EXAMPLES: Final = orjson.loads(files(__package__).joinpath("examples.json").read_bytes())

REQUESTS: Final[Mapping[str, Mapping[str, Any]]] = _EXAMPLES["requests"]
"""Operation id -> a body that it takes."""

ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = _EXAMPLES["answers"]
"""Operation id -> a body that it gives; the others answer without one."""

PARAMETERS: Final[Mapping[str, str | int]] = _EXAMPLES["parameters"]
"""Parameter -> a value that it takes."""

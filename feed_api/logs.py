"""Structured logs: one JSON object a line, an event name and fields; keys never appear in them."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Final

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

_KEY_PATTERN: Final = re.compile(r"hw_[0-9A-Za-z_-]{8,}")


def json_logger(level: str, file: BinaryIO | None = None) -> FilteringBoundLogger:
    """Make a logger that writes JSON lines to a file, standard error where none is given."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.BytesLogger(file if file is not None else sys.stderr.buffer),
        **_options(level),
        cache_logger_on_first_use=True,
    )
    return logger


def configure_logs(level: str) -> None:
    """Let every room's `structlog.get_logger` and uvicorn's logs write the same JSON lines."""
    structlog.configure(
        **_options(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
    )
    server_log = logging.getLogger("uvicorn")
    server_log.handlers = [JsonHandler(json_logger(level))]
    server_log.setLevel(level.upper())


def _options(level: str) -> dict[str, Any]:
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_keys,
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]
    wrapper = structlog.make_filtering_bound_logger(level)
    return {"processors": processors, "wrapper_class": wrapper}


def hide_keys(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Blank whatever looks like an API key, in case one reached a message or a traceback."""
    for name, value in fields.items():
        if isinstance(value, str) and "hw_" in value:
            fields[name] = _KEY_PATTERN.sub("hw_***", value)
    return fields


class JsonHandler(logging.Handler):
    """Sends the standard library's log records (uvicorn's) through a structured logger."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record under the event name `server`."""
        self._logger.log(
            record.levelno,
            "server",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )


def _to_json(fields: object, **_options: object) -> bytes:
    return orjson.dumps(fields, default=str)

"""The error tree.

HeadwaterError            says what was wrong, where, and what to do; carries an HTTP status
  InvalidInput       400  a value from outside is not acceptable
    SchemaMismatch   400  columns or types are not what the contract says
    CursorInvalid    400  a cursor was forged or garbled
  Unauthorized       401  no key, or one that is not known
  Forbidden          403  the key lacks the scope
  NotFound           404  absent or hidden: the same answer
  Conflict           409  the state does not allow it now
  CursorExpired      410  the snapshot behind a cursor is gone
  Unprocessable      422  understood, but the content contradicts itself
  TooManyRequests    429  slow down
  PipelineError      500  a component's declared reads and writes do not fit
  BundleMismatch     500  a bundle does not fit the features of this code
  LeakageError       500  training rows would see the future
  Unavailable        503  a part is out and nothing stands in for it
"""

from typing import ClassVar


class HeadwaterError(Exception):
    """Base of every error that a person may see."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something failed inside"

    def __init__(self, detail: str, *, hint: str | None = None) -> None:
        super().__init__(detail if hint is None else f"{detail} ({hint})")
        self.detail = detail
        self.hint = hint


class InvalidInput(HeadwaterError):
    status, type, title = 400, "invalid-input", "The input is not acceptable"


class SchemaMismatch(InvalidInput):
    type, title = "schema-mismatch", "Columns or types do not fit"


class CursorInvalid(InvalidInput):
    type, title = "cursor-invalid", "The cursor is not one of ours"


class Unauthorized(HeadwaterError):
    status, type, title = 401, "unauthorized", "A valid API key is needed"


class Forbidden(HeadwaterError):
    status, type, title = 403, "forbidden", "The API key lacks the scope"


class NotFound(HeadwaterError):
    status, type, title = 404, "not-found", "There is nothing here for you"


class Conflict(HeadwaterError):
    status, type, title = 409, "conflict", "The state does not allow it now"


class CursorExpired(HeadwaterError):
    status, type, title = 410, "cursor-expired", "The snapshot behind the cursor is gone"


class Unprocessable(HeadwaterError):
    status, type, title = 422, "unprocessable", "The content contradicts itself"


class TooManyRequests(HeadwaterError):
    status, type, title = 429, "too-many-requests", "Slow down"


class PipelineError(HeadwaterError):
    type, title = "pipeline", "The ranking pipeline does not fit together"


class BundleMismatch(HeadwaterError):
    type, title = "bundle-mismatch", "The model bundle does not fit this code"


class LeakageError(HeadwaterError):
    type, title = "leakage", "Training rows would see the future"


class Unavailable(HeadwaterError):
    status, type, title = 503, "unavailable", "A part that is needed is out"

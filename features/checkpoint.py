"""The whole materialised state on disk, so that a server starts without a replay."""

from typing import NamedTuple

from features.state import FeatureState
from features.workspace import Workspace


class Checkpoint(NamedTuple):
    """State after all log rows up to `seq`."""

    state: FeatureState
    seq: int


def read_checkpoint(workspace: Workspace, *, up_to_seq: int | None = None) -> Checkpoint | None:
    """Read the newest checkpoint at or before a place in the log; None where there is none."""
    return None

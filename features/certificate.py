"""The feature certificate: values as served beside values as training recomputes them.

A certificate is green or red. It belongs to the features' hash, to the code that computes them
and to the part of the log that it saw; `docs/certificate.md` says what it promises.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.clock import to_datetime
from features.columns import Columns
from features.frames import FeatureFrames
from features.slots import Float32s, Ints
from features.storage import write_durably
from features.views import FEATURE_HASH, FEATURE_TABLE, FEATURES

CERTIFICATE_FILE: Final = "certificate.json"
_FAR: Final = 1 << 20
"""Distance of a null from a number, in float16 steps."""

Halves = NDArray[np.float16]
OfflineFeatures = Callable[[FeatureFrames, Ints, Ints, Ints, Float32s], NDArray[Any]]
"""Like `training_features`: frames, viewers [Q], moments [Q], posts [Q, C], scores [Q, C, 4]."""


def tolerance_steps() -> Ints:
    """Give how many float16 steps each feature may differ by, [F]: 0 is exact.

    What decays is a sum of fractions: its last bit depends on how the events were batched, and
    rounding can carry that over one float16 step. Everything else has to be equal.
    """
    decays = ("half-life", "decayed", "7 d")
    return np.array([any(word in f.formula for word in decays) for f in FEATURE_TABLE], np.int64)


class Asked(NamedTuple):
    """Who asks about which posts at one moment."""

    now_us: int
    viewers: Ints
    """[Q]."""
    posts: Ints
    """[Q, C], all of them made by then; -1 pads."""
    scores: Float32s
    """[Q, C, 4]: the families' scores, the same on both sides."""

    @property
    def moments_us(self) -> Ints:
        """The moment once a query, [Q]."""
        return np.full(self.viewers.shape, self.now_us, np.int64)

    def offline(self, compute: OfflineFeatures, frames: FeatureFrames) -> Halves:
        """Compute the features of past queries as float16: [Q, C, F]."""
        found = compute(frames, self.viewers, self.moments_us, self.posts, self.scores)
        return found.astype(np.float16)


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One feature, served and recomputed; differences are of float16 values."""

    feature: str
    values: int
    present: int
    """Values that are a number other than 0 on either side: the others prove little."""
    different: int
    """Values that are not the same float16."""
    beyond: int
    """Of these, values further apart than the tolerance."""
    max_abs: float
    mean_abs: float
    """Mean absolute difference over all values; a null beside a number counts as no number."""
    tolerance: str


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, kept or not, in words."""

    name: str
    compared: int
    wrong: int
    why: str = ""
    """What is wrong: feature, size, example; empty where nothing is."""

    @property
    def holds(self) -> bool:
        """Say whether something was compared and nothing was wrong."""
        return self.compared > 0 and self.wrong == 0


@dataclass(frozen=True, slots=True)
class Pairs(Columns):
    """Features of the same queries from two sides, row by row: N pairs of viewer and post."""

    viewers: Ints
    posts: Ints
    now_us: Ints
    served: Halves
    """[N, F]."""
    offline: Halves
    """[N, F]."""

    @classmethod
    def of(cls, asked: Asked, served: Halves, offline: Halves) -> "Pairs":
        """Lay queries [Q, C] out as rows; padding drops out."""
        there = asked.posts >= 0
        shape = asked.posts.shape
        return cls(
            np.broadcast_to(asked.viewers[:, None], shape)[there],
            asked.posts[there],
            np.full(int(there.sum()), asked.now_us),
            served[there],
            offline[there],
        )

    def rows(self) -> list[FeatureRow]:
        """Compare value by value, a row a feature."""
        steps, allowed = self._steps(), tolerance_steps()
        size = np.abs(self.served.astype(np.float64) - self.offline)
        size[~np.isfinite(size)] = 0.0
        total = len(self.viewers)
        there = ((np.nan_to_num(self.served) != 0) | (np.nan_to_num(self.offline) != 0)).sum(axis=0)
        return [
            FeatureRow(
                feature=name,
                values=total,
                present=int(there[k]),
                different=int((steps[:, k] > 0).sum()),
                beyond=int((steps[:, k] > allowed[k]).sum()),
                max_abs=float(size[:, k].max(initial=0.0)),
                mean_abs=float(size[:, k].mean()) if total else 0.0,
                tolerance="one float16 step" if allowed[k] else "exact",
            )
            for k, name in enumerate(FEATURES)
        ]

    def check(
        self,
        name: str,
        features: Sequence[str] = FEATURES,
        sides: tuple[str, str] = ("served", "offline"),
    ) -> Check:
        """Sum up in one check, with the feature that differs most often as the example."""
        chosen = np.array([FEATURES.index(f) for f in features])
        steps = self._steps()[:, chosen]
        beyond = steps > tolerance_steps()[chosen]
        counts = beyond.sum(axis=0)
        if not counts.any():
            return Check(name, int(steps.size), 0)
        worst = int(counts.argmax())
        return Check(name, int(steps.size), int(counts.sum()), self._sentence(
            int(chosen[worst]), int(np.where(beyond[:, worst], steps[:, worst], -1).argmax()),
            (int(counts[worst]), int((counts > 0).sum())), sides,
        ))  # fmt: skip

    def _sentence(
        self, feature: int, row: int, counts: tuple[int, int], sides: tuple[str, str]
    ) -> str:
        size = np.abs(self.served[:, feature].astype(np.float64) - self.offline[:, feature])
        one_null = int(np.isnan(self.served[:, feature] + self.offline[:, feature]).sum())
        largest = np.nanmax(size) if one_null < len(size) else np.nan
        return (
            f"{FEATURES[feature]} differs in {counts[0]:,} of {len(self.viewers):,} values, "
            f"by up to {largest:.4g}; e.g. viewer {self.viewers[row]}, post {self.posts[row]} at "
            f"{to_datetime(int(self.now_us[row])).isoformat()}: "
            f"{sides[0]} {self.served[row, feature]:.5g}, "
            f"{sides[1]} {self.offline[row, feature]:.5g}"
            + (f" ({counts[1] - 1} more features differ)" if counts[1] > 1 else "")
        )

    def _steps(self) -> Ints:
        """Count float16 steps between the sides, [N, F]; null equals null only."""
        ordered = []
        for side in (self.served, self.offline):
            bits = np.ascontiguousarray(side).view(np.int16).astype(np.int64)
            ordered.append(np.where(bits < 0, -(bits & 0x7FFF), bits))
        steps: Ints = np.abs(ordered[0] - ordered[1])
        null = np.isnan(self.served), np.isnan(self.offline)
        steps[null[0] & null[1]] = 0
        steps[null[0] != null[1]] = _FAR
        return steps


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was compared, and what came out."""

    feature_hash: str
    code: str
    """Hash of the source that computes features."""
    log: tuple[int, int]
    """First and last place in the log that was seen."""
    made: str
    samples: int
    seconds: float
    counts: dict[str, int]
    features: list[FeatureRow]
    checks: list[Check]
    warnings: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """Why it is red, a sentence a broken promise, that with most wrong values first."""
        broken = [check for check in self.checks if not check.holds]
        broken.sort(key=lambda check: -check.wrong / max(check.compared, 1))
        return [f"{check.name}: {check.why or 'nothing was compared'}" for check in broken]

    @property
    def green(self) -> bool:
        """Say whether every promise was kept."""
        return bool(self.checks) and not self.reasons

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values, the verdict and its reasons first."""
        return {"green": self.green, "reasons": self.reasons, **asdict(self)}

    def write(self, home: Path) -> None:
        """Replace the home folder's certificate at once."""
        text = json.dumps(self.as_dict(), indent=1, allow_nan=False)
        write_durably(home / CERTIFICATE_FILE, text.encode())


class Held(NamedTuple):
    """What the gate reads of a stored certificate."""

    green: bool
    reasons: list[str]
    feature_hash: str
    code: str
    last_seq: int

    def missing_for(self, code: str, up_to_seq: int) -> str:
        """Say why it does not vouch for this code and a log up to a place; empty where it does."""
        if self.feature_hash != FEATURE_HASH:
            return f"it is of the features {self.feature_hash}, this code has {FEATURE_HASH}"
        if self.code != code:
            return "the code that computes features has changed since"
        if self.last_seq < up_to_seq:
            return f"it ends at event {self.last_seq:,}, the bundle learnt up to {up_to_seq:,}"
        return "" if self.green else "it is red"


def read_certificate(home: Path) -> Held | None:
    """Read the home folder's certificate; None where there is none that can be read."""
    try:
        found = json.loads((home / CERTIFICATE_FILE).read_text(encoding="utf-8"))
        return Held(
            found["green"], found["reasons"], found["feature_hash"], found["code"],
            found["log"][1],
        )  # fmt: skip
    except (FileNotFoundError, ValueError, KeyError):
        return None


def code_hash(files: Sequence[Path]) -> str:
    """Hash source files by name and content: 16 hexadecimal digits."""
    digest = blake2b(digest_size=8)
    for file in sorted(files, key=lambda path: path.name):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()

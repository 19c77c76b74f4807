"""What a training run may begin from: the champion's weights, over the rows of today's set."""

from dataclasses import dataclass, field
from typing import Final

from models.base import Family, FloatArray, RetrievalModel, TrainingFrame
from models.bundle import Bundle
from models.collaborative import FactorModel
from models.deep import DeepModel
from models.ranker import EnsembleRanker
from training.champion import over_set
from training.config import TrainingConfig
from training.dataset import Dataset

WARM_SHARE: Final = 0.3
"""Share of the passes of a cold fit that a warm one makes, and of its patience."""


@dataclass(frozen=True, slots=True)
class FirstFit:
    """The deep family as a run's first fit left it: blind to all that the run was judged on."""

    deep: DeepModel
    """Over the rows of the run's bundle."""
    seen_us: int
    """The newest action that it has learned from."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Weights over the set's rows; absent where their choices are others than this run's."""

    first: DeepModel | None = None
    first_seen_us: int = 0
    deep: DeepModel | None = None
    als: FloatArray | None = None
    """[n_items, factors]; NaN where it has none."""
    ranker: EnsembleRanker | None = None
    seen_us: int = 0
    used: list[str] = field(default_factory=list)
    """What began warm, in words."""

    @classmethod
    def of(
        cls, champion: Bundle, first: FirstFit | None, data: Dataset, config: TrainingConfig
    ) -> "WarmStart":
        """Lay a champion's weights over a set's rows; none for a set split by each's order.

        There a person's newest action is in the test whatever its time.
        """
        if data.protocol == "order":
            return cls()
        rows = champion.rows_of(data.post_ids)

        def deep(model: RetrievalModel | None) -> DeepModel | None:
            if not isinstance(model, DeepModel) or model.config != config.deep.shape:
                return None
            return over_set(model, rows, data.content)

        factors = champion.families[Family.COLLABORATIVE]
        als: FloatArray | None = None
        if isinstance(factors, FactorModel) and factors.factors.shape[1] == config.als.factors:
            als = over_set(factors, rows, data.content).factors
        return cls(
            deep(first.deep) if first else None,
            first.seen_us if first else 0,
            deep(champion.families[Family.DEEP]),
            als,
            champion.ranker if champion.ranker.config == config.ranker.shape else None,
            champion.manifest.data.last_us,
        )

    def before(self, frame: TrainingFrame) -> "WarmStart":
        """Give only what a fit on this frame may begin from: weights that saw nothing later.

        Those that know what the fit is to be judged on would leak it.
        """
        newest = int(frame.interactions.times_us.max(initial=0))
        if self.seen_us <= newest:
            return self
        blind = self.first if self.first_seen_us <= newest else None
        return WarmStart(deep=blind, used=self.used)

    def passes(self, what: str, there: object, cold: int) -> int:
        """Give the passes of a fit that makes `cold` ones where there is nothing to begin from."""
        if there is None:
            return cold
        fewer = max(1, round(WARM_SHARE * cold))
        self.used.append(f"{what}: at most {fewer} passes in the place of {cold}")
        return fewer

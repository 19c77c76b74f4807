"""What a training run may begin from: the champion's weights, over the rows of today's set."""

from dataclasses import dataclass, field
from typing import Final

from models.base import Family, FloatArray, TrainingFrame
from models.bundle import Bundle
from models.collaborative import FactorModel
from models.deep import DeepModel
from models.ranker import EnsembleRanker
from training.champion import over_set
from training.config import TrainingConfig
from training.dataset import Dataset

WARM_SHARE: Final = 0.3
"""Share of the passes of a cold fit that a warm one makes."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The champion's weights; absent where its choices are others than this run's."""

    seen_us: int = 0
    """The newest action that they have learned from."""
    als: FloatArray | None = None
    """[n_items, factors] in the set's rows; NaN where it has none."""
    deep: DeepModel | None = None
    """Over the set's rows."""
    ranker: EnsembleRanker | None = None
    used: list[str] = field(default_factory=list)
    """What began warm, in words."""

    @classmethod
    def of(cls, champion: Bundle, data: Dataset, config: TrainingConfig) -> "WarmStart":
        """Lay the champion's weights over a set's rows."""
        rows = champion.rows_of(data.post_ids)
        factors = champion.families[Family.COLLABORATIVE]
        deep = over_set(champion.families[Family.DEEP], rows, data.content)
        fits = isinstance(factors, FactorModel) and factors.name == "als"
        wide = factors.item_vectors().shape[1] == config.als.factors
        same = isinstance(deep, DeepModel) and deep.config == config.deep.shape
        alike = champion.ranker.config == config.ranker.shape
        return cls(
            champion.manifest.data.last_us,
            over_set(factors, rows, data.content).item_vectors() if fits and wide else None,
            deep if isinstance(deep, DeepModel) and same else None,
            champion.ranker if alike else None,
        )

    def before(self, frame: TrainingFrame) -> "WarmStart":
        """Give only what a fit on this frame may begin from: families that saw nothing later.

        Weights that know what the fit is to be judged on would leak it.
        """
        late = self.seen_us > int(frame.interactions.times_us.max(initial=0))
        return WarmStart(used=self.used) if late else self

    def passes(self, what: str, there: object, cold: int) -> int:
        """Give the passes of a fit that makes `cold` ones where there is nothing to begin from."""
        if there is None:
            return cold
        fewer = max(1, round(WARM_SHARE * cold))
        self.used.append(f"{what}: {fewer} passes in the place of {cold}")
        return fewer

    def cold_passes(self, there: object, made: int) -> int:
        """Give the passes that a cold fit would have made for these."""
        return made if there is None else round(made / WARM_SHARE)

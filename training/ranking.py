"""The whole training run, from arrays to a bundle, top to bottom: open this file first.

Two cuts in time. The families are fitted before the first; the ensemble ranker learns between the
cuts from their scores, which therefore never saw what it must predict; everything is tested after
the second cut, with the families fitted again on all before it.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from contracts.errors import InvalidInput
from contracts.policy import fixed_blend
from models.base import BoolArray, Family, IntArray, RetrievalModel, Scorer, TrainingContext
from models.blend import BlendedFamilies, RetrievalBlend
from models.bundle import Bundle
from models.normalise import QuantileTable
from models.ranker import EnsembleRanker
from training.assembly import Parts, assemble
from training.candidates import Candidates, choose_blend, fit_normalisers, union_candidates
from training.champion import has_seen_test, judge_bundle
from training.config import TrainingConfig
from training.dataset import Dataset, Queries, require_actions
from training.ensemble import (
    ask_features,
    candidate_rows,
    ensemble_lists,
    predict_values,
    prediction_metrics,
    shown_queries,
    shown_rows,
)
from training.evaluate import ModelRow, Verdict, gate, table, target_slices
from training.fitting import Choice, Decided, Models, apply_choice, choose_families, fit_models
from training.reading import FeatureSource, TrainingData, impressions_within
from training.recipes.base import item_counts
from training.recipes.deep import DeepRecipe, FitDeep
from training.recipes.ranker import RankerRows, fit_ranker
from training.scoring import Exam, Judged, judge, make_exam, ranked_lists
from training.split import Split, later_moments, make_split
from training.stages import AGAIN, FINALLY, StageClock, StageCost
from training.warm import FirstFit, WarmStart


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What one run gives."""

    bundle: Bundle
    """Not yet written."""
    tested: Bundle
    """The same as it was tested: before the last fit on everything, where there was one."""
    first: FirstFit
    rows: list[ModelRow]
    judged: dict[str, Judged]
    ranker_metrics: dict[str, float]
    choice: Choice
    verdict: Verdict
    costs: list[StageCost] = field(default_factory=list)
    warm: list[str] = field(default_factory=list)
    """What began from the champion's weights, in words."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The families with their scales and blend, as one fit left them."""

    models: Models
    families: dict[Family, RetrievalModel]
    normalisers: dict[Family, QuantileTable]
    blend: RetrievalBlend

    def blended(self) -> BlendedFamilies:
        """Give the retrieval blend as one model."""
        return BlendedFamilies(self.blend, self.families)


def train_ranking(
    data: TrainingData,
    config: TrainingConfig,
    clock: StageClock,
    champion: Bundle | None = None,
    warm: WarmStart | None = None,
    fit_deep: FitDeep = DeepRecipe.fit_reported,
) -> TrainingResult:
    """Run everything; LeakageError where a row would see the future, InvalidInput on too little.

    `champion`: the bundle that the new one must not be worse than on the same people; `warm`: its
    weights, for fits whose answers they have not seen; `fit_deep`: where that family is fitted.
    """
    dataset = data.dataset
    with clock.stage("split"):
        split = _split(dataset, config)
        validation = _exam(dataset, split.fit, split.validation)
        test = _exam(dataset, split.refit, split.test)
    start, frame = warm or WarmStart(), dataset.frame(split.fit)
    models = fit_models(frame, config, clock, warm=start, fit_deep=fit_deep)
    first = FirstFit(models.deep, int(frame.interactions.times_us.max(initial=0)))
    with clock.stage("choose families and blend"):
        choice = choose_families(models, validation, config)
        stack, union = stack_families(models, choice, validation, config)
    with clock.stage("ranker features"):
        rows = _ranker_rows(data, config, split, stack, (validation, union))
    with clock.stage("ranker"):
        # One thread: the network is small, and threads would only wait for one another.
        context = TrainingContext(config.seed, 1, config.ranker_seconds)
        known = start.before(dataset.frame(split.refit)).ranker
        ranker, reports = fit_ranker(rows, config.ranker, context, start=known)
        if known is not None:
            start.used.append(f"ranker: {sum(r.epochs for r in reports)} epochs in all")

    def fitted_again(train: BoolArray, suffix: str) -> Stack:
        decided = Decided(max(models.deep_epochs, 1), choice.neighbours, suffix)
        again = fit_models(
            dataset.frame(train), config, clock, decided=decided, warm=start, fit_deep=fit_deep
        )
        with clock.stage("choose families and blend"):
            return _restack(again, choice, validation, stack.blend)

    if config.refit:
        stack = fitted_again(split.refit, AGAIN)
    with clock.stage("test"):
        judged, ranker_metrics = _test(data, config, split, (stack, ranker), test)
        rows_out = table(dataset.name, split.sentence, list(judged.values()), test, config.seed)
    with clock.stage("gate"):
        verdict = _verdict(data, config, split, (judged, test), champion)

    def bundled(stack: Stack, config: TrainingConfig) -> Bundle:
        with clock.stage("bundle"):
            parts = Parts(stack.models, stack.families, stack.normalisers, stack.blend, ranker)
            return assemble(dataset, config, split, parts, choice, rows_out, ranker_metrics)

    tested = bundle = bundled(stack, config.model_copy(update={"final_fit": False}))
    if config.final_fit:
        bundle = bundled(fitted_again(np.ones_like(split.refit), FINALLY), config)
    figures = (rows_out, judged, ranker_metrics, choice, verdict, clock.costs)
    return TrainingResult(bundle, tested, first, *figures, start.used)


def _verdict(
    data: TrainingData,
    config: TrainingConfig,
    split: Split,
    tested: tuple[dict[str, Judged], Exam],
    champion: Bundle | None,
) -> Verdict:
    """Apply the gate, with the champion judged on the same people where there is one."""
    judged, test = tested
    theirs = None
    if champion is not None and has_seen_test(champion, data.dataset, split):
        verdict = gate(judged["ensemble"], judged["popularity"], None, config.seed)
        why = f"{verdict.why}; the champion has learned from this test, so it is not compared"
        return verdict._replace(why=why)
    if champion is not None:
        source = visible_features(data, split, split.test)
        theirs = judge_bundle(champion, data.dataset, test, source, config.union)["ensemble"]
    return gate(judged["ensemble"], judged["popularity"], theirs, config.seed)


def validation_exam(data: TrainingData, config: TrainingConfig) -> tuple[Exam, Split]:
    """Make the window that choices are made on; InvalidInput where there is too little."""
    split = _split(data.dataset, config)
    return _exam(data.dataset, split.fit, split.validation), split


def test_exam(data: TrainingData, config: TrainingConfig) -> tuple[Exam, FeatureSource, Split]:
    """Make the test of a set, for judging a stored bundle; InvalidInput where there is none."""
    split = make_split(data.dataset, config.split)
    exam = _exam(data.dataset, split.refit, split.test)
    return exam, visible_features(data, split, split.test), split


def _split(dataset: Dataset, config: TrainingConfig) -> Split:
    """Split what there is enough of to learn from."""
    require_actions(dataset.name, len(dataset.actions), dataset.n_users, dataset.n_items)
    return make_split(dataset, config.split)


def _exam(dataset: Dataset, train: BoolArray, queries: Queries) -> Exam:
    popularity = item_counts(dataset.actions[train], dataset.n_items)
    exam = make_exam(dataset, queries, popularity)
    if not len(exam):
        msg = f"{dataset.name}: after a cut nobody acts for the first time on a post that was there"
        raise InvalidInput(msg, hint="move the cuts, or bring a longer time span")
    return exam


def stack_families(
    models: Models, choice: Choice, validation: Exam, config: TrainingConfig
) -> tuple[Stack, Candidates]:
    """Fit scales and the blend on validation; give the validation candidates too."""
    models, families = apply_choice(models, choice)
    normalisers = fit_normalisers(families, validation.histories, validation.n_items)
    union = union_candidates(validation, families, normalisers, config.union)
    blend = choose_blend(validation, union, normalisers, config.seed)
    return Stack(models, families, normalisers, blend), union


def _restack(models: Models, choice: Choice, validation: Exam, blend: RetrievalBlend) -> Stack:
    """Keep what was chosen, and fit the scales to the new scores."""
    models, families = apply_choice(models, choice)
    normalisers = fit_normalisers(families, validation.histories, validation.n_items)
    return Stack(models, families, normalisers, replace(blend, normalisers=normalisers))


def _ranker_rows(
    data: TrainingData,
    config: TrainingConfig,
    split: Split,
    stack: Stack,
    asked: tuple[Exam, Candidates],
) -> RankerRows:
    """Label impressions between the cuts; without them, candidates at moments of the window."""
    validation, union = asked
    source = visible_features(data, split, split.validation)
    if data.impressions is not None and split.cuts_us is not None:
        inside = impressions_within(data, *split.cuts_us)
        if len(inside):
            shown = shown_queries(data.dataset, inside, config.most_impressions)
            return shown_rows(data.dataset, source, shown, stack.families, stack.normalisers)
    blocks = [_asked(data, source, validation.queries, union, config.ranker_people)]
    for later in later_moments(data.dataset, validation.queries, config.ranker_moments):
        room = config.ranker_people - sum(len(np.unique(b.groups)) for b in blocks)
        if room <= 0 or not len(later):
            break
        exam = make_exam(data.dataset, later[_some(later, room)], validation.popularity)
        union = union_candidates(exam, stack.families, stack.normalisers, config.union)
        blocks.append(_asked(data, source, exam.queries, union, room))
    return RankerRows.merged(blocks)


def _asked(
    data: TrainingData, source: FeatureSource, queries: Queries, union: Candidates, most: int
) -> RankerRows:
    """Label the candidates of at most `most` queries, evenly chosen."""
    some = _some(queries, most)
    queries, union = queries[some], union[some]
    features = ask_features(data.dataset, source, queries, union.rows, union.scores)
    return candidate_rows(data.dataset, queries, union, features)


def _some(queries: Queries, most: int) -> IntArray:
    return np.linspace(0, len(queries) - 1, min(most, len(queries))).astype(np.int64)


def visible_features(data: TrainingData, split: Split, queries: Queries) -> FeatureSource:
    """Hide what is to be predicted where the split is not by time."""
    if split.cuts_us is not None:
        return data.features
    return data.features.hidden_from(data.dataset.viewer_ids[queries.user_rows], queries.now_us)


def _test(
    data: TrainingData,
    config: TrainingConfig,
    split: Split,
    trained: tuple[Stack, EnsembleRanker],
    test: Exam,
) -> tuple[dict[str, Judged], dict[str, float]]:
    """Judge every model on the test, and the ranker's predictions."""
    stack, ranker = trained
    half = RetrievalBlend({Family(k): v for k, v in fixed_blend().blend.items()}, stack.normalisers)
    scorers: dict[str, Scorer] = {
        **stack.models.baselines(),
        **{family.value: model for family, model in stack.families.items()},
        "fixed-blend": BlendedFamilies(half, stack.families),
        "retrieval-blend": stack.blended(),
    }
    slices = target_slices(test)
    lists = {name: ranked_lists(test, scorer) for name, scorer in scorers.items()}
    union = union_candidates(test, stack.families, stack.normalisers, config.union)
    source = visible_features(data, split, split.test)
    features = ask_features(data.dataset, source, test.queries, union.rows, union.scores)
    values = predict_values(ranker, config.policy, features, union.rows >= 0)
    lists["ensemble"] = ensemble_lists(union, values, lists["retrieval-blend"])
    judged = {name: judge(name, test, ranked, slices) for name, ranked in lists.items()}
    rows = candidate_rows(data.dataset, test.queries, union, features)
    if data.impressions is not None and split.cuts_us is not None:
        late = data.impressions[data.impressions.times_us >= split.cuts_us[1]]
        if len(late):
            shown = shown_queries(data.dataset, late, config.most_impressions)
            rows = shown_rows(data.dataset, source, shown, stack.families, stack.normalisers)
    return judged, prediction_metrics(ranker, rows)

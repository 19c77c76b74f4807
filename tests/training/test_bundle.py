"""The bundle: comes back equal, refuses what was changed, is named by its contents."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import BundleMismatch
from contracts.events import EventType
from contracts.policy import ACTIONS
from features.views import FEATURES
from models.base import Family, TrainingContext, TrainingFrame, VectorModel
from models.blend import RetrievalBlend
from models.bundle import FLAT_BELOW, VECTOR_FAMILIES, Bundle, build_index, read_manifest
from models.content import ContentModel
from models.manifest import MANIFEST_FILE
from training.assembly import Parts, assemble
from training.candidates import fit_normalisers
from training.champion import has_seen_test
from training.config import TrainingConfig, small_config
from training.dataset import Dataset
from training.fitting import KNN, Choice, apply_choice, fit_models
from training.recipes.ranker import RankerRows, fit_ranker
from training.split import Split, SplitConfig, make_split
from training.stages import StageClock

Assemble = Callable[[TrainingConfig], tuple[Bundle, Dataset, Split]]


@pytest.fixture(scope="module")
def assembled(checkerboard: TrainingFrame, histories_of: Any, dataset_of: Any) -> Assemble:
    config = small_config()
    models = fit_models(checkerboard, config, StageClock())
    choice = Choice(0.5, KNN, {})
    models, families = apply_choice(models, choice)
    normalisers = fit_normalisers(families, histories_of([0, 2], [1, 3]), checkerboard.n_items)
    generator = np.random.Generator(np.random.PCG64(0))
    features = generator.normal(size=(300, len(FEATURES))).astype(np.float16)
    labels = (generator.random((300, len(ACTIONS))) < 0.3).astype(np.float32)
    rows = RankerRows(features, labels, np.arange(300) // 10)
    ranker, _ = fit_ranker(rows, config.ranker, TrainingContext(0, 1))
    blend = RetrievalBlend(dict.fromkeys(Family, 1 / 3), normalisers)
    actions = [(u, i, i * 10**9, EventType.CLICK) for u in range(4) for i in range(24)]
    data = dataset_of(actions)
    split = make_split(data, SplitConfig())
    parts = Parts(models, families, normalisers, blend, ranker)
    return lambda config: (assemble(data, config, split, parts, choice, [], {}), data, split)


@pytest.fixture(scope="module")
def made(assembled: Assemble) -> Bundle:
    return assembled(small_config())[0]


@pytest.fixture
def saved(made: Bundle, tmp_path: Path) -> Path:
    return tmp_path / made.save(tmp_path).bundle_id


def test_comes_back_equal(made: Bundle, saved: Path, histories_of: Any) -> None:
    again = Bundle.load(saved)
    asked = histories_of([0, 2, 4], [1])
    for family in Family:
        mine = made.families[family].score_all(asked)
        np.testing.assert_array_equal(again.families[family].score_all(asked), mine)
        np.testing.assert_array_equal(again.normalise(family, mine), made.normalise(family, mine))
    np.testing.assert_array_equal(again.post_ids, made.post_ids)
    assert again.bundle_id == saved.name
    assert again.policy == made.policy
    assert dict(again.blend.weights) == dict(made.blend.weights)


def test_is_named_by_its_contents(made: Bundle, tmp_path: Path) -> None:
    one, other = made.save(tmp_path / "a"), made.save(tmp_path / "b")
    assert one.bundle_id == other.bundle_id
    assert len(one.bundle_id) == 16


def test_what_may_be_served_from_is_never_taken_away(made: Bundle, saved: Path) -> None:
    files = {path: path.stat().st_ino for path in saved.rglob("*")}
    data = made.manifest.data.model_copy(update={"up_to_seq": 9})
    longer = made.manifest.model_copy(update={"data": data})
    replace(made, manifest=longer).save(saved.parent)
    changed = {path for path, inode in files.items() if path.stat().st_ino != inode}
    assert changed == {saved / MANIFEST_FILE}
    assert Bundle.load(saved).manifest.data.up_to_seq == 9
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_damaged_folder_of_the_same_name_is_written_anew(made: Bundle, saved: Path) -> None:
    (saved / "post_ids.npy").unlink()
    made.save(saved.parent)
    assert Bundle.load(saved).bundle_id == saved.name


@pytest.mark.parametrize(
    ("choices", "seen"), [({}, False), ({"refit": False}, False), ({"final_fit": True}, True)]
)
def test_says_whether_it_has_learned_from_the_test(
    choices: dict[str, bool], seen: bool, assembled: Assemble
) -> None:
    bundle, data, split = assembled(small_config().model_copy(update=choices))
    assert has_seen_test(bundle, data, split) is seen
    assert split.cuts_us is not None
    newest = data.actions.times_us[data.actions.times_us < split.cuts_us[1]].max()
    assert bundle.manifest.data.last_us >= newest  # without a second fit the ranker has seen it


def test_by_each_persons_order_a_last_fit_has_seen_the_test(
    assembled: Assemble, dataset_of: Any
) -> None:
    rows = [(0, i, i, EventType.CLICK) for i in range(10)] + [(1, 3, 10**9, EventType.CLICK)]
    data = dataset_of(rows, protocol="order")
    split = make_split(data, SplitConfig())
    for choices in ({}, {"final_fit": True}):
        bundle, _, _ = assembled(small_config().model_copy(update=choices))
        seen = bundle.manifest.data.model_copy(update={"last_us": 10**9})
        bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"data": seen}))
        assert has_seen_test(bundle, data, split) is bool(choices)


def test_what_a_killed_process_left_is_cleared_away(made: Bundle, tmp_path: Path) -> None:
    for name, age in (("old", 2 * 86_400), ("new", 60)):
        (tmp_path / f".staging-{name}" / "bundle").mkdir(parents=True)
        os.utime(tmp_path / f".staging-{name}", (time.time() - age,) * 2)
    bundle_id = made.save(tmp_path).bundle_id
    assert {path.name for path in tmp_path.iterdir()} == {bundle_id, ".staging-new"}


def test_a_bundle_saved_by_two_at_once_is_whole_at_any_moment(made: Bundle, tmp_path: Path) -> None:
    bundle_id = made.save(tmp_path).bundle_id
    (tmp_path / bundle_id / "manifest.json").write_text("{")  # both find it damaged
    with ThreadPoolExecutor(2) as threads:
        saved = [threads.submit(made.save, tmp_path) for _ in range(2)]
        assert {one.result().bundle_id for one in saved} == {bundle_id}
    assert [path.name for path in tmp_path.iterdir()] == [bundle_id]
    assert Bundle.load(tmp_path / bundle_id).bundle_id == bundle_id


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_any_weight_of_popularity_can_be_chosen(weight: float, checkerboard: TrainingFrame) -> None:
    content = small_config().content.model_copy(update={"prior_weight": weight})
    config = small_config().model_copy(update={"content": content, "content_priors": ()})
    models = fit_models(checkerboard, config, StageClock())
    models, families = apply_choice(models, Choice(weight, KNN, {}))
    chosen = families[Family.CONTENT]
    assert isinstance(chosen, ContentModel)
    assert chosen.config.prior_weight == weight
    assert chosen.vectors[:, -1].max() == pytest.approx(weight)


def test_holds_no_pickle(saved: Path) -> None:
    kinds = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert kinds == {".json", ".npy", ".safetensors", ".faiss"}


def test_index_finds_what_exhaustive_scoring_finds(saved: Path, histories_of: Any) -> None:
    bundle = Bundle.load(saved)
    assert set(bundle.indexes) == set(VECTOR_FAMILIES)
    for family, index in bundle.indexes.items():
        model = bundle.families[family]
        assert isinstance(model, VectorModel)
        viewer = model.viewer_vectors(histories_of([0, 2]))
        scores, rows = index.search(viewer, 3)
        exact = np.sort(model.score_all(histories_of([0, 2])), axis=1)[:, ::-1][:, :3]
        np.testing.assert_allclose(scores, exact, rtol=1e-4, atol=1e-5)
        assert (rows < 24).all()


def test_many_posts_get_inverted_lists_with_good_recall() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    centres = generator.normal(size=(300, 8))
    spread = generator.normal(scale=0.2, size=(FLAT_BELOW + 10, 8))
    vectors = (centres[generator.integers(0, 300, len(spread))] + spread).astype(np.float32)
    vectors[7] = np.nan
    index = build_index(vectors)
    assert index.ntotal == FLAT_BELOW + 9
    queries = vectors[100:120]
    _, found = index.search(queries, 50)
    exact = np.argsort(-(queries @ np.nan_to_num(vectors, nan=-9.0).T), axis=1)[:, :50]
    shared = [len(set(a) & set(b)) / 50 for a, b in zip(found, exact, strict=True)]
    assert np.mean(shared) > 0.8


def test_rows_of_unknown_posts(made: Bundle) -> None:
    assert made.rows_of(np.array([999, 1000, 1005, 5000])).tolist() == [-1, 0, 5, -1]


def test_a_changed_file_is_refused(saved: Path) -> None:
    path = saved / "post_ids.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(BundleMismatch, match=r"post_ids.npy of bundle \w+ was changed"):
        Bundle.load(saved)


def test_a_missing_file_is_refused(saved: Path) -> None:
    (saved / "deep.faiss").unlink()
    with pytest.raises(BundleMismatch, match=r"lacks its file deep.faiss"):
        Bundle.load(saved)


def test_other_features_are_refused_by_name(saved: Path) -> None:
    path = saved / "manifest.json"
    manifest = read_manifest(saved)
    other = manifest.model_copy(
        update={"features": ("gone", *manifest.features[1:]), "feature_hash": "0" * 16}
    )
    path.write_text(other.model_dump_json())
    with pytest.raises(BundleMismatch, match=rf"wants \['gone'\], this code adds \['{FEATURES[0]}"):
        Bundle.load(saved)


def test_a_changed_blend_is_refused(saved: Path) -> None:
    manifest = read_manifest(saved).model_copy(update={"blend": {"deep": 1.0}})
    (saved / "manifest.json").write_text(manifest.model_dump_json())
    with pytest.raises(BundleMismatch, match="the manifest of bundle"):
        Bundle.load(saved)


def test_no_bundle_and_no_manifest_are_said(tmp_path: Path) -> None:
    with pytest.raises(BundleMismatch, match="there is no bundle in"):
        Bundle.load(tmp_path / "nothing")
    (tmp_path / "manifest.json").write_text('{"format_version": 9}')
    with pytest.raises(BundleMismatch, match="is not a manifest of this version: format_version"):
        Bundle.load(tmp_path)


def test_a_policy_choice_that_came_later_changes_no_bundle_id(saved: Path) -> None:
    """The manifest of a version without `fatigue`, whose identity that version computed."""
    stated = json.loads((saved / MANIFEST_FILE).read_bytes())
    del stated["policy"]["fatigue"]
    parts = {name: stated[name] for name in ("files", "feature_hash", "blend", "policy")}
    digest = blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8)
    stated["bundle_id"] = digest.hexdigest()
    older = saved.rename(saved.with_name(stated["bundle_id"]))
    (older / MANIFEST_FILE).write_text(json.dumps(stated), encoding="utf-8")
    assert Bundle.load(older).bundle_id == older.name
    stated["policy"]["selection"]["relevance"] = 0.5
    (older / MANIFEST_FILE).write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(BundleMismatch, match=r"manifest .* was changed"):
        Bundle.load(older)

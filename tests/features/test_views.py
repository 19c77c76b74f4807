"""The page on features says what the code computes."""

from pathlib import Path

from features.views import FEATURE_TABLE, FEATURES, VIEWS, Feature

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def row_of(feature: Feature) -> str:
    cells = (f"`{feature.name}`", feature.view, feature.formula, feature.unit, feature.null)
    return f"| {' | '.join(cells)} |"


def test_the_page_holds_every_feature_in_order() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| feature | from | formula | unit | null |") + 2
    rows = lines[start : start + len(FEATURE_TABLE) + 1]
    assert rows == [*(row_of(feature) for feature in FEATURE_TABLE), ""]


def test_the_page_holds_every_view_and_its_columns() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for view in VIEWS:
        columns = ", ".join(f"`{column}`" for column in view.columns)
        assert f"| `{view.name}` | `{view.key}` | {columns} |" in lines


def test_names_are_used_once() -> None:
    assert len(set(FEATURES)) == len(FEATURES) == 41
    for view in VIEWS:
        assert len(set(view.columns)) == len(view.columns)

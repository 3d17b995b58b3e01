"""Where an answer comes from: accounts of scans, and of a cohort by region."""

from typing import Any

import numpy as np
import pytest

from bae.evaluation.panels import RegionPanel
from bae.evaluation.regions import account
from bae.scan import Box


def _box(name: str | None, weight: float | None, years: float | None = None) -> Box:
    return Box(0, 0, 9, 9, 0.5, weight, 0.5, 0.0, name, years)


def test_account_puts_sides_and_views_together_and_the_largest_first() -> None:
    """Shares by hand; they sum to all of the answer."""
    boxes = [
        _box("left knee", 0.11),
        _box("lumbar spine", 0.24),
        _box("right knee", 0.20),
        _box("skull", 0.15),
        _box("left hip", 0.10),
        _box("left foot", 0.09),
        _box("lumbar spine", 0.11),
    ]
    assert account.account(boxes) == (
        "lumbar spine 35 %, knees 31 %, skull 15 %, hips 10 %, elsewhere 9 %"
    )
    assert account.account(boxes[:2]) == "lumbar spine 24 %, knees 11 %"
    assert account.account([_box(None, None)]) == ""
    assert account.account([_box("skull", 1.0), _box(None, 0.0)]) == "skull 100 %"


def _cohort() -> tuple[dict[str, list[RegionPanel]], dict[str, dict[str, Any]]]:
    """Eight people, two of them twice; the feet of one, the skull of all."""
    seen, rows = {}, {}
    for number in range(10):
        patient = number % 8
        second = [_box("left knee", 0.4, -2.0)] if patient < 5 else [_box("left foot", 0.4, 9.0)]
        second = [_box("left hand", 0.4, 9.0)] if patient == 7 else second
        views = [[_box("skull", 0.3, 1.0 + number)], [_box("skull", 0.3, 1.0), *second]]
        seen[f"s{number}"] = [
            RegionPanel(
                title="",
                view=view,
                counts=np.ones((20, 10), np.uint16),
                heat=np.zeros((4, 2), np.uint8),
                boxes=boxes,
            )
            for view, boxes in zip(("anterior", "posterior"), views, strict=True)
        ]
        rows[f"s{number}"] = {"patient_key": f"p{patient}"}
    return seen, rows


def test_table_by_region_counts_scans_without_it_and_hides_the_few() -> None:
    """Means by hand: of weights over all scans, of years where the place is seen."""
    found = {row["region"]: row for row in account.by_region(*_cohort())}
    assert list(found) == ["skull", "left knee", "elsewhere"]
    assert found["skull"]["weight"] == pytest.approx(0.6)
    assert found["skull"]["added_years"] == pytest.approx(2.0 + np.arange(10).mean())
    assert (found["left knee"]["scans"], found["left knee"]["patients"]) == (7, 5)
    assert found["left knee"]["weight"] == pytest.approx(0.4 * 7 / 10)
    assert found["left knee"]["added_years"] == pytest.approx(-2.0)
    assert found["elsewhere"]["patients"] == 3
    assert sum(row["weight"] for row in found.values()) == pytest.approx(1.0)
    for row in found.values():
        assert row["weight_low"] <= row["weight"] <= row["weight_high"]


def test_methods_of_one_region_have_no_table() -> None:
    """Nothing is made up."""
    seen, rows = _cohort()
    panel = seen["s0"][0]
    plain = RegionPanel(
        title="", view="anterior", counts=panel.counts, heat=panel.heat, boxes=[_box(None, None)]
    )
    assert account.by_region({"s0": [plain]}, rows) == []


def test_figure_by_region_has_a_bar_and_the_years_of_each_place() -> None:
    """From top to bottom in the table's order."""
    table = account.by_region(*_cohort())
    table.append(table[-1] | {"region": "nose", "added_years": -0.04})
    (axis,) = account.atlas_by_region(table).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [row["region"] for row in table]
    widths = [bar.get_width() for bar in axis.patches]
    assert widths == pytest.approx([100 * row["weight"] for row in table])
    assert [text.get_text() for text in axis.texts[:4]] == [
        "+6.5",
        "\N{MINUS SIGN}2.0",
        "+9.0",
        "+0.0",
    ]
    assert axis.yaxis_inverted()

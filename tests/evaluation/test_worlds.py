"""The table over worlds and cohort sizes."""

from __future__ import annotations

import numpy as np
import pytest

from bae import recipes
from bae.evaluation import plots, worlds
from bae.evaluation.table_one import Method
from bae.method import model
from bae.phantom import PhantomConfig
from bae.phantom.limits import limits
from tests.fakes.made_outcomes import outcomes


def _method(name: str, seed: int = 1, half: float | None = 7.0) -> Method:
    card = model.Card(recipe=recipes.small(), parts={})
    return Method(name=name, sex=True, uri="", card=card, outcomes=outcomes(40, seed, half=half))


def test_an_error_stands_beside_what_pictures_allow_in_its_world() -> None:
    """Mean absolute error, the limit, their ratio, bias, and how intervals cover."""
    (row,) = worlds.rows_of(4, 150, True, [_method("a")])
    told = outcomes(40, 1)
    age, answer = (
        np.array(told[name].to_pylist(), float) for name in ("age_years", "predicted_age_years")
    )
    assert row["mae_years"] == pytest.approx(np.abs(answer - age).mean())
    assert row["error_over_limit"] == pytest.approx(
        row["mae_years"] / limits(PhantomConfig(world=4)).regional
    )
    assert row["bias_years"] == pytest.approx((answer - age).mean())
    assert row["coverage_90"] == pytest.approx((np.abs(answer - age) <= 7).mean())
    assert row["width_90_years"] == pytest.approx(14)
    assert row["world_is"] == "unseen" and row["test_scans"] == told.num_rows
    assert row["mae_years_low"] < row["mae_years"] < row["mae_years_high"]


def test_worlds_that_chose_something_are_told_apart() -> None:
    """In the table by a line of their own, in the figure by hollow marks."""
    rows = worlds.rows_of(4, 150, True, [_method("a"), _method("b", 2)])
    rows += worlds.rows_of(1, 150, False, [_method("a"), _method("b", 2)])
    rows += worlds.rows_of(1, 500, False, [_method("a"), _method("b", 2)])
    text = worlds.page(rows)
    assert "| a | 150 | 4 (unseen) |" in text and "| a | 150 | 1 (chosen on) |" in text
    assert text.count("\n") == 2 + 6
    figure = worlds.learning_curves(rows)
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]
    hollow = [len(c.get_offsets()) for c in axis.collections if not len(c.get_facecolors())]
    assert sum(hollow) == 4
    assert plots.png(figure)[:4] == b"\x89PNG"


def test_an_uncalibrated_model_has_no_coverage() -> None:
    """NaN, not 0."""
    (row,) = worlds.rows_of(0, 150, False, [_method("a", half=None)])
    assert np.isnan(row["width_90_years"]) and np.isnan(row["coverage_90"])

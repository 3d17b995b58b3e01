"""The table over worlds and cohort sizes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bae import recipes
from bae.evaluation import plots, worlds
from bae.evaluation.table_one import Method
from bae.method import calibration, model
from bae.phantom import PhantomConfig
from bae.phantom.limits import limits
from tests.fakes.made_outcomes import outcomes

LATENT: dict[str, float] = {
    row["object_uri"]: row["age_years"] + (i % 5 - 2) * 2.0
    for i, row in enumerate(outcomes(40).to_pylist())
}
"""Of all scans: their ages, and what skeletons are ahead of them."""


def _method(name: str, seed: int = 1, half: float | None = 7.0) -> Method:
    card = model.Card(recipe=recipes.small(), parts={})
    return Method(name=name, sex=True, uri="", card=card, outcomes=outcomes(40, seed, half=half))


def test_an_error_stands_beside_what_pictures_allow_in_its_world() -> None:
    """Mean absolute error, the limit, their ratio, bias, and how intervals cover."""
    (row,) = worlds.rows_of(4, 150, True, [_method("a")], LATENT)
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
    rows = worlds.rows_of(4, 150, True, [_method("a"), _method("b", 2)], LATENT)
    rows += worlds.rows_of(1, 150, False, [_method("a"), _method("b", 2)], LATENT)
    rows += worlds.rows_of(1, 500, False, [_method("a"), _method("b", 2)], LATENT)
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
    (row,) = worlds.rows_of(0, 150, False, [_method("a", half=None)], LATENT)
    assert np.isnan(row["width_90_years"]) and np.isnan(row["coverage_90"])


def test_a_gap_is_asked_what_it_stands_for() -> None:
    """Known answers: the latent age itself, one drawn to the mean, and the same corrected."""
    told = outcomes(40)
    age = np.array(told["age_years"].to_pylist())
    excess = np.array([LATENT[uri] for uri in told["object_uri"].to_pylist()]) - age

    def asked(answer: np.ndarray) -> dict[str, float]:
        index = told.schema.get_field_index("predicted_age_years")
        mine = told.set_column(index, "predicted_age_years", pa.array(answer))
        line = calibration.fit(
            age, answer, np.ones(len(age)), np.zeros(len(age)), told["patient_key"].to_pylist()
        )
        card = model.Card(recipe=recipes.small(), parts={}, calibration=line)
        one = Method(name="a", sex=True, uri="", card=card, outcomes=mine)
        (row,) = worlds.rows_of(0, 1, True, [one], LATENT)
        return row

    right = asked(age + excess)
    assert right["gap_with_excess"] == pytest.approx(1)
    drawn = asked(60 + 0.5 * (age + excess - 60))
    assert drawn["gap_with_age"] < -0.8 and drawn["gap_with_excess"] < 0.6
    assert drawn["gap_with_excess_given_age"] == pytest.approx(1)
    # the correction takes the bias out and needs no true age
    assert abs(drawn["corrected_gap_with_age"]) < 0.2
    assert drawn["corrected_gap_with_excess"] > 0.95

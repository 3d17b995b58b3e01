"""How long a training will take, by a clock that is ours."""

import itertools

import pytest

from bae import recipes
from bae.training import estimate

SIZES = ["regressor.width=48", "regressor.height=64", "localizer.width=48", "localizer.height=96"]


def test_all_steps_of_all_epochs_of_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a second later: two steps a second."""
    clock = itertools.count()
    monkeypatch.setattr("bae.training.estimate.time.monotonic", lambda: float(next(clock)))
    recipe = recipes.recipe("small", SIZES)
    each = 1 / estimate.STEPS
    # 200 scans are 400 views: 25 steps of 16 an epoch
    steps = 25 * (recipe.fit_localizer.epochs + recipe.fit_regressor.epochs)
    found = estimate.seconds(recipe, 200, 1)
    assert found == pytest.approx(each * steps + 200 * 3 * estimate.READ_SECONDS)


def test_a_linear_model_takes_what_laying_scans_out_takes() -> None:
    wanted = 100 * (estimate.READ_SECONDS + estimate.LINEAR_SECONDS)
    assert estimate.seconds(recipes.recipe("regional"), 100, 2) == pytest.approx(wanted)


def test_a_small_cohort_gets_more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("bae.training.estimate.time.monotonic", lambda: float(next(clock)))
    recipe = recipes.recipe("small_regions", ["regressor.width=32", "regressor.height=32"])
    reading = 32 * (2 * estimate.READ_SECONDS + estimate.LINEAR_SECONDS)
    steps = recipe.fit_regressor.least_steps
    assert estimate.seconds(recipe, 32, 1) == pytest.approx(steps / estimate.STEPS + reading)

"""Ridge regression against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from bae.evaluation import ridge

RNG = np.random.default_rng(0)
COLUMNS = RNG.normal(3, 2, (80, 200))
YEARS = 60 + COLUMNS[:, :5].sum(1) + RNG.normal(0, 1, 80)


@pytest.mark.parametrize("penalty", [0.1, 10.0, 1000.0])
def test_closed_form_equals_scikit_learn(penalty: float) -> None:
    """More columns than scans, not centred."""
    expected = Ridge(alpha=penalty).fit(COLUMNS[:60], YEARS[:60])
    got = ridge.fit(COLUMNS[:60], YEARS[:60], penalty)
    np.testing.assert_allclose(got.predict(COLUMNS[60:]), expected.predict(COLUMNS[60:]))


def test_unknown_and_constant_columns_do_no_harm() -> None:
    """A missing view or sex counts as the mean; answers stay finite."""
    columns = COLUMNS.copy()
    columns[::3, 10:20] = np.nan
    columns[:, 0] = 7.0
    assert np.isfinite(ridge.fit(columns, YEARS, 1.0).predict(columns)).all()


def test_penalty_is_the_best_on_validation() -> None:
    """By trying them all."""
    train, validation = (COLUMNS[:40], YEARS[:40]), (COLUMNS[40:], YEARS[40:])
    best = ridge.chosen(train, validation).predict(COLUMNS[40:])
    errors = [
        np.abs(ridge.fit(*train, p).predict(COLUMNS[40:]) - YEARS[40:]).mean()
        for p in ridge.PENALTIES
    ]
    assert np.abs(best - YEARS[40:]).mean() == pytest.approx(min(errors))

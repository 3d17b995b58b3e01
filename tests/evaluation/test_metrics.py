"""Measures of error against scipy and scikit-learn, intervals against simulation."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from bae.evaluation import metrics
from bae.method import calibration

RNG = np.random.default_rng(0)
AGE = RNG.uniform(40, 80, 300)
ANSWER = AGE + RNG.normal(0.5, 4, 300)
PATIENTS = [f"p{n // 2}" for n in range(300)]


def test_errors_equal_scikit_learns() -> None:
    """MAE, RMSE, R2, median; and the share within five years by counting."""
    found = {name: e.value for name, e in metrics.errors(AGE, ANSWER, PATIENTS, draws=10).items()}
    assert found == pytest.approx(
        {
            "mae_years": sklearn_metrics.mean_absolute_error(AGE, ANSWER),
            "rmse_years": sklearn_metrics.root_mean_squared_error(AGE, ANSWER),
            "r2": sklearn_metrics.r2_score(AGE, ANSWER),
            "median_error_years": sklearn_metrics.median_absolute_error(AGE, ANSWER),
            "within_5_years": sum(abs(a - b) <= 5 for a, b in zip(AGE, ANSWER, strict=True)) / 300,
        }
    )


def test_interval_equals_scipys_bootstrap_where_each_patient_has_one_scan() -> None:
    """Percentile intervals of independent scans; they differ by the draws alone."""
    alone = [str(n) for n in range(300)]
    got = metrics.errors(AGE, ANSWER, alone, draws=4000)["mae_years"]
    expected = stats.bootstrap(
        (np.abs(ANSWER - AGE),), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    width = expected.high - expected.low
    assert (got.low, got.high) == pytest.approx(tuple(expected), abs=0.05 * width)


@pytest.mark.slow
def test_interval_over_patients_holds_where_one_over_scans_does_not() -> None:
    """Five scans of one patient share their error: 95 % must cover the truth in 95 % of worlds."""
    rng = np.random.default_rng(2)
    patients = np.repeat([str(n) for n in range(40)], 5)
    each_scan = [str(n) for n in range(200)]
    held = {"patients": 0, "scans": 0}
    for _ in range(200):
        error = np.repeat(rng.normal(0, 5, 40), 5) + rng.normal(0, 1, 200)
        truth = np.sqrt(26 * 2 / np.pi)  # mean of |N(0, 26)|
        for name, keys in (("patients", patients), ("scans", each_scan)):
            (found,) = metrics.bootstrap(
                lambda e: [np.abs(e).mean()], [error], keys, draws=300, seed=0
            )
            held[name] += found.low <= truth <= found.high
    assert held["patients"] >= 180, "90 % or more of 200; a percentile interval is a bit narrow"
    assert held["scans"] < 150


def test_same_call_gives_same_interval() -> None:
    """The seed decides, and the order of scans does not move the value."""
    one, two = (metrics.errors(AGE, ANSWER, PATIENTS, draws=50) for _ in range(2))
    assert one == two
    assert metrics.errors(AGE, ANSWER, PATIENTS, draws=50, seed=1) != one


def test_comparison_is_wilcoxons_over_patients_means() -> None:
    """p from scipy on means made by hand; the difference is that of both errors."""
    other = AGE + np.random.default_rng(3).normal(0, 6, 300)
    found = metrics.compare(AGE, ANSWER, other, PATIENTS, draws=500)
    pairs = (
        np.abs(ANSWER - AGE).reshape(150, 2).mean(1),
        np.abs(other - AGE).reshape(150, 2).mean(1),
    )
    assert found.p_value == pytest.approx(stats.wilcoxon(*pairs).pvalue)
    assert found.difference_years.value == pytest.approx(pairs[0].mean() - pairs[1].mean())
    assert (
        found.difference_years.low < found.difference_years.value < found.difference_years.high < 0
    )
    assert found.patients == 150


def test_method_does_not_differ_from_itself() -> None:
    """No difference, p 1."""
    found = metrics.compare(AGE, ANSWER, ANSWER, PATIENTS, draws=10)
    assert (found.p_value, found.difference_years.value) == (1.0, 0.0)


def test_agreement_is_bland_and_altmans() -> None:
    """Bias and limits by statistics' own formulas."""
    found = metrics.agreement(AGE, ANSWER, PATIENTS, draws=100)
    gap = ANSWER - AGE
    sd = np.sqrt(((gap - gap.mean()) ** 2).sum() / 299)
    assert found.bias_years.value == pytest.approx(gap.mean())
    assert found.upper_years.value == pytest.approx(gap.mean() + 1.96 * sd)
    assert found.lower_years.value == pytest.approx(gap.mean() - 1.96 * sd)
    inside = np.mean((gap > found.lower_years.value) & (gap < found.upper_years.value))
    assert inside == pytest.approx(0.95, abs=0.03)


def test_line_equals_scipys_regression() -> None:
    """Slope and intercept; no slope where all ages are one."""
    expected = stats.linregress(AGE, ANSWER)
    assert calibration.line(AGE, ANSWER) == pytest.approx((expected.slope, expected.intercept))
    assert calibration.line([60, 60], [1, 3]) == (0.0, 2.0)


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (7, 7), (180, 200), (1, 1)])
def test_proportion_equals_the_exact_interval(hits: int, total: int) -> None:
    """Clopper and Pearson's quantiles of beta distributions, the ends included."""
    found = metrics.proportion(hits, total)
    low = stats.beta.ppf(0.025, hits, total - hits + 1) if hits else 0.0
    high = stats.beta.ppf(0.975, hits + 1, total - hits) if hits < total else 1.0
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.value == hits / total


def test_reliability_equals_scikit_learns_curve() -> None:
    """Same bins, and the error by a loop; calibrated answers have nearly none."""
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.25, 1, 5000)
    correct = rng.uniform(size=5000) < confidence
    found = metrics.reliability(confidence, correct)
    accuracy, stated = calibration_curve(correct, confidence, n_bins=10)
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, stated)
    by_hand = 0.0
    for low in np.arange(10) / 10:
        own = (confidence > low) & (confidence <= low + 0.1)
        if own.any():
            by_hand += own.mean() * abs(correct[own].mean() - confidence[own].mean())
    assert found.ece == pytest.approx(by_hand)
    assert found.ece < 0.03
    assert metrics.reliability(confidence, correct * 0).ece == pytest.approx(confidence.mean())


def test_unequal_lengths_are_refused() -> None:
    """And so is nothing at all."""
    with pytest.raises(ValueError, match="one length"):
        metrics.errors([60.0], [60.0, 61.0], ["a"])
    with pytest.raises(ValueError, match="one length"):
        metrics.errors([], [], [])

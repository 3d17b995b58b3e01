"""Intervals hold for patients they were not fitted on; probabilities and bias are put right."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy import stats

from bae.evaluation import metrics
from bae.method import calibration
from bae.method.calibration import conformal_quantile

Floats = np.ndarray


def _cohort(rng: np.random.Generator, patients: int) -> tuple[Floats, Floats, Floats, list[str]]:
    """Patients of one to five scans; errors partly shared, foretold by the spread."""
    scans = rng.integers(1, 6, patients)
    keys = np.repeat(np.arange(patients), scans)
    age = rng.uniform(40, 80, patients)[keys]
    spread = rng.uniform(0.5, 3, patients)[keys]
    shared = rng.normal(0, 1, patients)[keys]
    error = 2 * spread * (0.8 * shared + 0.6 * rng.normal(0, 1, len(keys)))
    return age, age + error, spread, [f"p{key}" for key in keys]


def test_ninety_percent_of_future_patients_lie_inside() -> None:
    """Over 400 simulated validation sets; a future patient's scan, exactly as promised."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        age, predicted, spread, keys = _cohort(rng, 40)
        fitted = calibration.fit(age, predicted, spread, keys)
        age, predicted, spread, keys = _cohort(rng, 50)
        half = [fitted.half_width_years(s) for s in spread]
        held = np.abs(predicted - age) <= np.array(half, float)
        inside.append(metrics.patient_means(held, keys).mean())
    # 20,000 patients: the standard error of the mean is that of the 400 sets
    error = np.std(inside) / 20
    assert 0.9 - 3 * error <= np.mean(inside) <= 0.9 + 1 / 41 + 3 * error


def test_width_that_follows_the_spread_is_narrower_at_equal_coverage() -> None:
    """Against one half width for all, where the spread does foretell the error."""
    rng = np.random.default_rng(1)
    age, predicted, spread, keys = _cohort(rng, 2000)
    adaptive = calibration.fit(age, predicted, spread, keys)
    constant = calibration.fit(age, predicted, 0 * spread, keys)
    widths = [
        np.mean([fitted.half_width_years(s) for s in values])
        for fitted, values in ((adaptive, spread), (constant, 0 * spread))
    ]
    assert widths[0] < 0.95 * widths[1]


@pytest.mark.parametrize("patients", [9, 10, 37, 200])
def test_one_scan_each_gives_vovks_rank(patients: int) -> None:
    """The ceil(0.9 (n + 1))-th smallest score."""
    scores = np.random.default_rng(patients).exponential(size=patients)
    rank = int(np.ceil(round(0.9 * (patients + 1), 9)))
    keys = [str(n) for n in range(patients)]
    assert conformal_quantile(scores, keys, 0.9) == np.sort(scores)[rank - 1]


def test_quantile_of_several_scans_weighs_patients_alike() -> None:
    """A brute-force weighted quantile, patient by patient."""
    rng = np.random.default_rng(5)
    _, predicted, _, keys = _cohort(rng, 30)
    scores = np.abs(predicted)
    got = conformal_quantile(scores, keys, 0.9)
    share = {
        s: np.mean(
            [
                np.mean([x <= s for x, k in zip(scores, keys, strict=True) if k == key])
                for key in set(keys)
            ]
        )
        * 30
        / 31
        for s in scores
    }
    assert got == min(s for s in scores if share[s] >= 0.9)


def test_too_few_patients_promise_nothing() -> None:
    """Eight patients, however many scans, cannot hold 90 %."""
    scores = np.arange(80.0)
    keys = [f"p{n % 8}" for n in range(80)]
    assert conformal_quantile(scores, keys, 0.9) is None
    fitted = calibration.fit(scores, scores + 1, scores * 0, keys)
    assert fitted.half_width_years(1.0) is None


def test_temperature_undoes_overconfidence() -> None:
    """Probabilities sharpened by 2.5 come back: temperature, reliability, order of groups."""
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, (6000, 4))
    honest = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    groups = (honest.cumsum(1) < rng.uniform(size=(6000, 1))).sum(1)
    sharp = calibration.tempered(honest, 1 / 2.5)
    found = calibration.temperature(sharp[:3000], groups[:3000])
    assert found == pytest.approx(2.5, rel=0.1)
    calm = calibration.tempered(sharp, found)
    np.testing.assert_allclose(calm.sum(1), 1)
    assert (calm.argmax(1) == sharp.argmax(1)).all()
    before, after = (
        metrics.reliability(p[3000:].max(1), p[3000:].argmax(1) == groups[3000:]).ece
        for p in (sharp, calm)
    )
    assert after < 0.04 < before


def test_bias_is_taken_out_of_patients_it_was_not_fitted_on() -> None:
    """The slope of the error on age becomes zero; the line is scipy's."""
    rng = np.random.default_rng(3)
    age = rng.uniform(40, 80, 4000)
    predicted = 60 + 0.7 * (age - 60) + rng.normal(0, 3, 4000)
    keys = [str(n) for n in range(4000)]
    half = slice(0, 2000), slice(2000, 4000)
    fitted = calibration.fit(age[half[0]], predicted[half[0]], np.ones(2000), keys[:2000])
    expected = stats.linregress(age[half[0]], predicted[half[0]])
    assert (fitted.bias_slope, fitted.bias_intercept_years) == pytest.approx(
        (expected.slope, expected.intercept)
    )
    before, _ = calibration.line(age[half[1]], predicted[half[1]] - age[half[1]])
    after, _ = calibration.line(
        age[half[1]], fitted.corrected_years(predicted[half[1]]) - age[half[1]]
    )
    assert before == pytest.approx(-0.3, abs=0.03)
    assert after == pytest.approx(0, abs=0.03)


def test_model_whose_answers_do_not_depend_on_age_is_not_corrected() -> None:
    """Dividing by a slope of nothing would invent ages."""
    age = np.linspace(40, 80, 50)
    fitted = calibration.fit(age, 60 + 0 * age, 0 * age, [str(n) for n in range(50)])
    assert np.isnan(fitted.corrected_years([60.0])).all()


def _phantoms() -> dict[str, NDArray[np.generic]]:
    """What ``small`` said of 398 phantom scans that it had not learned from (jobs.evaluate)."""
    table = pq.read_table(Path(__file__).parents[1] / "outcomes" / "small.parquet")
    columns = {name: table[name].to_numpy() for name in table.column_names[:5]}
    probabilities = np.array(table["group_probabilities"].to_pylist())
    return columns | {"group_probabilities": probabilities}


def _holds(fitted: calibration.Calibration, found: dict[str, NDArray[np.generic]]) -> Any:
    half = np.array([fitted.half_width_years(float(spread)) for spread in found["spread_years"]])
    return np.abs(found["predicted_age_years"] - found["age_years"]) <= half


def _fit(found: dict[str, NDArray[np.generic]]) -> calibration.Calibration:
    return calibration.fit(
        found["age_years"],
        found["predicted_age_years"],
        found["spread_years"],
        [str(patient) for patient in found["patient"]],
    )


def test_the_interval_holds_for_phantoms_it_was_not_fitted_on() -> None:
    """Fitted on validation patients: 90 % of the test patients' scans, within sampling error."""
    found = _phantoms()
    sides = {
        split: {name: column[found["split"] == split] for name, column in found.items()}
        for split in ("validation", "test")
    }
    inside = _holds(_fit(sides["validation"]), sides["test"])
    # scans of one patient are alike: the error counts patients
    sampling = 1.96 * np.sqrt(0.9 * 0.1 / len(set(sides["test"]["patient"])))
    assert abs(inside.mean() - 0.9) <= sampling


def test_the_interval_holds_for_phantoms_whichever_half_it_was_fitted_on() -> None:
    """Patients halved at random 200 times: 90 % on average, so no split was lucky."""
    found, rng = _phantoms(), np.random.default_rng(0)
    shares = []
    for _ in range(200):
        fitted_on = np.isin(found["patient"], rng.permutation(272)[:136])
        fitted = _fit({name: column[fitted_on] for name, column in found.items()})
        rest = {name: column[~fitted_on] for name, column in found.items()}
        shares.append(_holds(fitted, rest).mean())
    assert np.mean(shares) == pytest.approx(0.9, abs=0.015)
    assert np.std(shares) < 0.05

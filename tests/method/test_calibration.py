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


def _inside(
    fitted: calibration.Calibration, age: Floats, predicted: Floats, spread: Floats
) -> NDArray[np.bool_]:
    found = fitted.interval(predicted, spread, 0 * age)
    assert found is not None
    low, high = found
    return np.asarray((low <= age) & (age <= high))


@pytest.mark.parametrize("patients", [40, 80])
def test_ninety_percent_of_future_patients_lie_inside(patients: int) -> None:
    """Over 400 simulated validation sets; with one width for all, and with a shape."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        age, predicted, spread, keys = _cohort(rng, patients)
        fitted = calibration.fit(age, predicted, spread, 0 * age, keys)
        age, predicted, spread, keys = _cohort(rng, 50)
        held = _inside(fitted, age, predicted, spread)
        inside.append(metrics.patient_means(held, keys).mean())
    # 20,000 patients: the standard error of the mean is that of the 400 sets
    error = np.std(inside) / 20
    assert 0.9 - 3 * error <= np.mean(inside) <= 0.9 + 1 / (patients + 1) + 3 * error


def test_width_that_follows_the_spread_is_narrower_at_equal_coverage() -> None:
    """Against one half width for all, where the spread does foretell the error."""
    rng = np.random.default_rng(1)
    age, predicted, spread, keys = _cohort(rng, 2000)
    widths = []
    for told in (spread, 0 * spread):
        fitted = calibration.fit(age, predicted, told, 0 * age, keys)
        found = fitted.interval(predicted, told, 0 * age)
        assert found is not None
        widths.append(np.mean(found[1] - found[0]))
    assert widths[0] < 0.95 * widths[1]


def _bent(rng: np.random.Generator, people: int) -> tuple[Floats, Floats, Floats]:
    """Answers drawn to the mean at both ends, and twice as far off for men."""
    age, male = rng.uniform(40, 80, people), rng.integers(0, 2, people).astype(float)
    error = rng.normal(0, 2 + 2 * male)
    return age, 60 + 14 * np.tanh((age - 60 + error) / 16), male


def test_the_interval_knows_whom_it_is_for() -> None:
    """In women and men of every decade 85 to 95 % inside, where one width for all fails most."""
    rng = np.random.default_rng(7)
    shares: dict[str, list[list[float]]] = {"shape": [], "alike": []}
    for _ in range(20):
        age, answer, male = _bent(rng, 600)
        keys, none = [str(n) for n in range(600)], np.full(600, np.nan)
        future, said, sex = _bent(rng, 8000)
        fitted = calibration.fit(age, answer, none, male, keys)
        found = fitted.interval(said, np.full(8000, np.nan), sex)
        assert found is not None
        half = calibration.conformal_quantile(np.abs(age - answer), keys, 0.9)
        for name, (low, high) in (("shape", found), ("alike", (said - half, said + half))):
            inside = (low <= future) & (future <= high)
            groups = [(sex == s) & (future // 10 == d) for s in (0, 1) for d in (4, 5, 6, 7)]
            shares[name].append([float(inside[group].mean()) for group in groups])
    good = {name: np.mean(np.abs(np.array(own) - 0.9) < 0.05) for name, own in shares.items()}
    assert good["shape"] > 0.8 > 0.4 > good["alike"], good


def test_scans_answered_out_of_fold_need_no_spread() -> None:
    """NaN is the mean of those that have one, and no scan at all has one in some methods."""
    rng = np.random.default_rng(8)
    age, predicted, spread, keys = _cohort(rng, 200)
    told = np.where(rng.random(len(age)) < 0.7, np.nan, spread)
    for given in (told, np.full(len(age), np.nan)):
        fitted = calibration.fit(age, predicted, given, 0 * age, keys)
        found = fitted.interval(predicted, given, np.full(len(age), np.nan))
        assert found is not None and np.isfinite(found).all()


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
    fitted = calibration.fit(scores, scores + 1, scores * 0, scores * 0, keys)
    assert fitted.interval([1.0], [1.0], [1.0]) is None
    one = calibration.fit(scores, scores + 1, scores * 0, scores * 0, ["p"] * 80)
    assert one.interval([1.0], [1.0], [1.0]) is None


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
    fitted = calibration.fit(
        age[half[0]], predicted[half[0]], np.ones(2000), np.zeros(2000), keys[:2000]
    )
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
    fitted = calibration.fit(age, 60 + 0 * age, 0 * age, 0 * age, [str(n) for n in range(50)])
    assert np.isnan(fitted.corrected_years([60.0])).all()


def _phantoms() -> dict[str, NDArray[np.generic]]:
    """What ``small`` said of 398 phantom scans that it had not learned from (jobs.evaluate)."""
    table = pq.read_table(Path(__file__).parents[1] / "outcomes" / "small.parquet")
    columns = {name: table[name].to_numpy() for name in table.column_names[:5]}
    probabilities = np.array(table["group_probabilities"].to_pylist())
    return columns | {"group_probabilities": probabilities}


def _holds(fitted: calibration.Calibration, found: dict[str, NDArray[np.generic]]) -> Any:
    names = ("age_years", "predicted_age_years", "spread_years")
    return _inside(fitted, *(found[name].astype(float) for name in names))


def _fit(found: dict[str, NDArray[np.generic]]) -> calibration.Calibration:
    return calibration.fit(
        found["age_years"],
        found["predicted_age_years"],
        found["spread_years"],
        np.zeros(len(found["age_years"])),
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
    # scores are of shapes fitted to fewer patients, so intervals are a little too wide
    assert -sampling <= inside.mean() - 0.9 <= sampling + 0.02


def test_the_interval_holds_for_phantoms_whichever_half_it_was_fitted_on() -> None:
    """Patients halved at random 200 times: 90 % on average, so no split was lucky."""
    found, rng = _phantoms(), np.random.default_rng(0)
    shares = []
    for _ in range(200):
        fitted_on = np.isin(found["patient"], rng.permutation(272)[:136])
        fitted = _fit({name: column[fitted_on] for name, column in found.items()})
        rest = {name: column[~fitted_on] for name, column in found.items()}
        shares.append(_holds(fitted, rest).mean())
    assert np.mean(shares) == pytest.approx(0.91, abs=0.015)
    assert np.std(shares) < 0.05

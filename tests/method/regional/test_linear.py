"""The ridge regression, against scikit-learn's and against refits by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from bae.method.regional import linear

Floats = NDArray[np.float64]
HELD = 70
"""Of 120 columns, those in which there are holes."""


def cohort(
    scans: int = 60, seed: int = 0, missing: float = 0.0
) -> tuple[NDArray[np.float32], Floats, Floats, list[str]]:
    """Uptake of few causes, one of which is age, another sex; two scans of each patient."""
    rng = np.random.default_rng(seed)
    years = rng.uniform(40, 80, scans)
    male = np.where(rng.random(scans) < 0.1, np.nan, rng.integers(0, 2, scans))
    causes = np.column_stack(
        [(years - 60) / 10, np.nan_to_num(male, nan=0.5), rng.standard_normal((scans, 4))]
    )
    columns = causes @ rng.standard_normal((6, 120)) + rng.standard_normal((scans, 120)) + 3
    for i in np.flatnonzero(rng.random(scans) < missing):
        start = rng.integers(HELD)
        columns[i, start : rng.integers(start, HELD) + 1] = np.nan
    return columns.astype(np.float32), male, years, [f"p{i // 2}" for i in range(scans)]


def _design(
    model: linear.Linear, columns: NDArray[np.float32], male: Floats, size: float
) -> Floats:
    """Return all that the penalty is put on alike: uptake, its products with sex, and sex."""
    standard = model.standard(columns).astype(float)
    sign = np.where(np.isnan(male), 0.0, 2.0 * np.nan_to_num(male) - 1.0)[:, None]
    products = np.sqrt(linear.SEX_PRODUCTS) * sign * standard
    return np.hstack([standard, products, np.sqrt(linear.SEX_SLOPE * size) * sign])


def _ridge(design: Floats, years: Floats, penalty: float) -> Ridge:
    centred = design - design.mean(axis=0)
    alpha = penalty * (centred**2).sum() / len(design)
    return Ridge(alpha=alpha, solver="cholesky").fit(design, years)


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_it_is_the_ridge_of_scikit_learn_with_the_penalty_that_errs_least(
    missing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers to those fitted and to others, the answers out of fold, and the choice."""
    monkeypatch.setattr(linear, "PENALTIES", linear.PENALTIES[2::4])
    columns, male, years, patients = cohort(missing=missing)
    model, held_out = linear.fit(columns, male, years, patients)
    size = float((model.standard(columns).astype(float) ** 2).sum(axis=1).mean())
    design = _design(model, columns, male, size)
    fold = linear.folds(patients)
    errors, answers = {}, {}
    for penalty in linear.PENALTIES:
        out = np.zeros(len(years))
        for k in range(linear.FOLDS):
            out[fold == k] = _ridge(design[fold != k], years[fold != k], penalty).predict(
                design[fold == k]
            )
        errors[penalty], answers[penalty] = np.abs(out - years).mean(), out
    best = min(errors, key=lambda penalty: errors[penalty])
    np.testing.assert_allclose(held_out, answers[best], atol=1e-3)
    whole = _ridge(design, years, best)
    np.testing.assert_allclose(model.predict(columns, male), whole.predict(design), atol=1e-3)
    others = cohort(seed=1)
    expected = whole.predict(_design(model, others[0], others[1], size))
    np.testing.assert_allclose(model.predict(others[0], others[1]), expected, atol=1e-3)


def test_columns_are_standardised() -> None:
    """Mean 0; the variances sum to one, however many there are."""
    columns, male, years, patients = cohort(missing=0.5)
    model, _ = linear.fit(columns, male, years, patients)
    standard = (columns - model.mean_J) / model.spread_J
    np.testing.assert_allclose(np.nanmean(standard, axis=0), 0, atol=1e-5)
    variance = np.nanvar(standard, axis=0)
    assert variance.sum() == pytest.approx(1, rel=0.01)


def test_answers_out_of_fold_never_saw_the_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another age of one patient moves the answers to others, never to the fold it is in."""
    monkeypatch.setattr(linear, "PENALTIES", (1e-2,))
    columns, male, years, patients = cohort()
    before = linear.fit(columns, male, years, patients)[1]
    wrong = years + 500.0 * (np.array(patients) == "p7")
    after = linear.fit(columns, male, wrong, patients)[1]
    fold = linear.folds(patients)
    same = fold == fold[patients.index("p7")]
    np.testing.assert_allclose(after[same], before[same], atol=1e-9)
    assert (np.abs(after - before)[~same] > 0.1).all()


def test_folds_keep_patients_together_and_are_of_one_size() -> None:
    """Whatever the order of the scans."""
    patients = [f"p{i % 23}" for i in range(100)]
    fold = linear.folds(patients)
    assert all(
        len({f for f, p in zip(fold, patients, strict=True) if p == q}) == 1 for q in patients
    )
    mixed = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(linear.folds([patients[i] for i in mixed]), fold[mixed])
    assert (
        np.ptp([len({p for p, f in zip(patients, fold, strict=True) if f == k}) for k in range(5)])
        <= 1
    )


def test_what_is_missing_is_what_a_normal_distribution_expects() -> None:
    """Of the cohort's covariance, row by row; scans that lack the same are no different."""
    columns, male, years, patients = cohort(missing=0.5)
    columns[3:9, HELD:] = np.nan
    columns[20] = np.nan
    model, _ = linear.fit(columns, male, years, patients)
    directions = model.components_QJ.astype(float)
    covariance = directions.T @ directions + model.rest * np.eye(directions.shape[1])
    expected = ((columns - model.mean_J) / model.spread_J).astype(float)
    for row in expected:
        hole, seen = np.isnan(row), ~np.isnan(row)
        inverse = np.linalg.inv(covariance[np.ix_(seen, seen)])
        row[hole] = covariance[np.ix_(hole, seen)] @ inverse @ row[seen]
    np.testing.assert_allclose(model.standard(columns), expected, atol=2e-5)
    alone = np.vstack([model.standard(row[None]) for row in columns])
    np.testing.assert_allclose(model.standard(columns), alone, atol=1e-6)
    assert np.isnan(columns[3, HELD:]).all(), "what was given stays as it was"


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_what_is_missing_is_filled_better_than_by_the_mean(holes: float) -> None:
    """Answers to scans without their last columns come nearer to those with all; also if many that
    were learned from lack them too."""
    columns, male, years, patients = cohort(200)
    columns[np.random.default_rng(1).random(200) < holes, HELD:] = np.nan
    model, _ = linear.fit(columns, male, years, patients)
    whole, half, mean = (cohort(200)[0] for _ in range(3))
    half[:, HELD:] = np.nan
    mean[:, HELD:] = model.mean_J[HELD:]
    answers = [model.predict(some, male) for some in (whole, half, mean)]
    away = [np.abs(one - answers[0]).mean() for one in answers[1:]]
    assert away[0] < 0.5 * away[1]


def test_unknown_sex_gets_the_mean_of_both_answers() -> None:
    """And both differ."""
    columns, male, years, patients = cohort()
    model, _ = linear.fit(columns, male, years, patients)
    women, men, unknown = (
        model.predict(columns, np.full(len(columns), sex)) for sex in (0.0, 1.0, np.nan)
    )
    np.testing.assert_allclose(unknown, (women + men) / 2, atol=1e-4)
    assert np.abs(women - men).mean() > 0.1


def test_what_each_column_adds_sums_to_the_answer() -> None:
    """With what sex adds and the mean scan's answer."""
    columns, male, years, patients = cohort(missing=0.5)
    model, _ = linear.fit(columns, male, years, patients)
    sign = np.nan_to_num(2 * male - 1)
    own = model.account(columns, male).astype(float).sum(axis=1)
    expected = model.predict(columns, male) - model.years - model.sex_years * sign
    np.testing.assert_allclose(own, expected, atol=1e-4)


@pytest.mark.parametrize("scans", [1, 2, 3])
@pytest.mark.parametrize("patients", ["one", "each"])
def test_the_smallest_cohorts_get_ages_near_their_own(scans: int, patients: str) -> None:
    """One patient, or one scan each: no error, no NaN, nothing beyond what was seen."""
    columns, male, years, _ = cohort(scans)
    names = ["p"] * scans if patients == "one" else [f"p{i}" for i in range(scans)]
    model, held_out = linear.fit(columns, male, years, names)
    for answers in (held_out, model.predict(columns, male)):
        assert (answers >= years.min() - 15).all()
        assert (answers <= years.max() + 15).all()
    if scans == 2 and patients == "each":
        np.testing.assert_allclose(held_out, years[::-1], atol=1e-4)


def test_constant_and_empty_columns_say_nothing() -> None:
    """Neither does a scan that is like all others."""
    columns, male, years, patients = cohort()
    expected = linear.fit(columns, male, years, patients)[0].predict(columns, male)
    columns[:, 5], columns[:, 6], columns[1:, 7] = 4.0, np.nan, np.nan
    model, held_out = linear.fit(columns, male, years, patients)
    np.testing.assert_allclose(model.slope_J[[5, 6, 7]], 0, atol=1e-4)
    answers = model.predict(columns, male)
    np.testing.assert_allclose(answers, expected, atol=3.0)
    assert np.isfinite(held_out).all()
    other = columns.copy()
    other[:, 6:8] = 1e3
    np.testing.assert_allclose(model.predict(other, male), answers, atol=0.2)
    same = np.ones_like(columns)
    nothing, _ = linear.fit(same, np.full(len(same), np.nan), years, patients)
    answers = nothing.predict(same, np.full(len(same), np.nan))
    np.testing.assert_allclose(answers, years.mean(), atol=1e-6)


def test_a_scan_that_shows_nothing_gets_the_mean_scans_answer() -> None:
    """Not NaN."""
    columns, male, years, patients = cohort(missing=0.5)
    model, _ = linear.fit(columns, male, years, patients)
    blank = np.full((1, columns.shape[1]), np.nan, np.float32)
    assert model.predict(blank, np.array([np.nan]))[0] == pytest.approx(model.years, abs=1e-5)


def test_columns_of_little_trust_weigh_little() -> None:
    """Trust is a factor of the standardised column, so of what the penalty lets it say."""
    columns, male, years, patients = cohort()
    trust = np.ones(columns.shape[1], np.float32)
    plain, same = (linear.fit(columns, male, years, patients, t)[0] for t in (None, trust))
    np.testing.assert_array_equal(plain.slope_J, same.slope_J)
    trust[::2] = 0.05
    less, _ = linear.fit(columns, male, years, patients, trust)
    said = [np.abs(m.account(columns, male)).mean(axis=0) for m in (plain, less)]
    assert said[1][::2].mean() < 0.05 * said[0][::2].mean()
    np.testing.assert_allclose(less.standard(columns), plain.standard(columns) * trust, atol=1e-5)

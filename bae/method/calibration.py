"""What a model says about its own error: fitted on patients no weight knew, kept in its card.

Three things: where a 90 % interval lies and how wide it is, how probable an age group really is,
and how far ages are drawn towards the mean. The patients are those of the validation split, and
where a method answers its training patients by models that did not see them, these too
(cross-conformal prediction, Vovk 2015).

Shape suffixes: N scans, F features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEVEL = 0.9
"""Share of future patients' scans that an interval promises to hold."""

ROUGH = 60
"""With fewer patients intervals are rough: of one width for all, and said to be so."""

SHRINKAGE = 100.0
"""A prior that says that intervals are alike for everybody, worth so many scans."""

FOLDS = 10
"""Of patients, so that nobody's score is by a shape that knew them."""

FEATURES = 6
"""What the expected error may go with, see ``_features``."""

WIDEST = 2.0
"""An expected error is at most so many times the usual one, and at least as small a part of it."""

LEAST_YEARS = 0.1
"""Keeps the width above zero for a model that made no error."""

LEAST_SLOPE = 0.2
"""A model whose answers follow the age less than this says too little to be corrected."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How error goes with what is known of a scan: its answer, its sex, the spread.

    Attributes:
        ages: answers that bound the middle nine in ten, years.
        spreads: mean and standard deviation of the spread.
        middle: (F,) years from the answer to the middle of the ages.
        size: (F,) expected distance from that middle, years.
        usual_years: mean of that distance.
    """

    ages: tuple[float, float]
    spreads: tuple[float, float]
    middle: tuple[float, ...]
    size: tuple[float, ...]
    usual_years: float

    def __post_init__(self) -> None:
        """Refuse numbers of which no interval could be made.

        Raises:
            ValueError, TypeError: too many, too few, or nothing to divide by.
        """
        sizes = [len(own) for own in (self.ages, self.spreads, self.middle, self.size)]
        if sizes != [2, 2, FEATURES, FEATURES] or not min(self.spreads[1], self.usual_years) > 0:
            raise ValueError("shape of the intervals is not whole")

    def said(self, answer_N: Floats, spread_N: Floats, male_N: Floats) -> tuple[Floats, Floats]:
        """Return (N,) middles and (N,) sizes."""
        features_NF = _features(self.ages, self.spreads, answer_N, spread_N, male_N)
        middle_N, size_N = (features_NF @ np.array(own) for own in (self.middle, self.size))
        least, most = self.usual_years / WIDEST, self.usual_years * WIDEST
        return answer_N + middle_N, np.clip(size_N, least, most)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted; plain values.

    Attributes:
        patients, scans: what it was fitted on.
        level: probability of the interval.
        factor: half width over the expected error, unitless; None where there were
            too few patients to promise anything.
        shape: of the expected error. None in older cards, where an interval's middle is the answer,
            and the expected error the spread with a floor.
        floor_years: that floor.
        temperature: the age groups' log probabilities are divided by it (Guo et al. 2017).
        bias_slope, bias_intercept_years: predicted = intercept + slope x actual age.
    """

    patients: int
    scans: int
    level: float = LEVEL
    factor: float | None
    shape: Shape | None = None
    floor_years: float = 0.0
    temperature: float
    bias_slope: float
    bias_intercept_years: float

    def interval(
        self, answer_years: ArrayLike, spread_years: ArrayLike, male: ArrayLike
    ) -> tuple[Floats, Floats] | None:
        """Return (N,) lowest and highest ages; None where nothing can be promised.

        Args:
            answer_years, spread_years: (N,) what the model says.
            male: (N,) 0 women, 1 men, NaN unknown.
        """
        if self.factor is None:
            return None
        answer_N, spread_N, male_N = (
            np.asarray(values, dtype=np.float64) for values in (answer_years, spread_years, male)
        )
        if self.shape is None:
            middle_N, size_N = answer_N, spread_N + self.floor_years
        else:
            middle_N, size_N = self.shape.said(answer_N, spread_N, male_N)
        return middle_N - self.factor * size_N, middle_N + self.factor * size_N

    def probabilities(self, raw: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities (..., K); the most probable group stays the same."""
        return tempered(raw, self.temperature)

    def corrected_years(self, predicted_years: ArrayLike) -> NDArray[np.float64]:
        """Return predicted ages with the age bias taken out (de Lange et al. 2019).

        It needs no true age, unlike the kind that subtracts the expected error at the true
        age and so flatters any model (Butler et al. 2021). The price is a larger spread.
        NaN where the model follows the age too little to be corrected.
        """
        if self.bias_slope < LEAST_SLOPE:
            return np.full(np.shape(predicted_years), np.nan)
        away = np.asarray(predicted_years, dtype=np.float64) - self.bias_intercept_years
        return np.asarray(away / self.bias_slope)


def fit(
    actual_years: ArrayLike,
    predicted_years: ArrayLike,
    spread_years: ArrayLike,
    male: ArrayLike,
    patients: Sequence[str],
    probabilities: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Calibration:
    """Fit a calibration on scans of patients that no weight knew.

    Scores of the conformal quantile are of shapes that did not know the patient (Romano et al.
    2019 with the folds of Vovk 2015), so that choosing a shape costs no coverage.

    Args:
        actual_years, predicted_years: (N,) age, answer.
        spread_years: (N,) of the ensemble; NaN where there was none.
        male: (N,) 0 women, 1 men, NaN unknown.
        patients: (N,) keys.
        probabilities: (M, K) of the age groups, of some scans; None for a model without any.
        groups: (M,) their true age groups, where there are probabilities.
    """
    actual_N, predicted_N, spread_N, male_N = (
        np.asarray(values, dtype=np.float64)
        for values in (actual_years, predicted_years, spread_years, male)
    )
    number = {key: place for place, key in enumerate(sorted(set(patients)))}
    fold_N = np.array([number[key] % FOLDS for key in patients])
    alike = len(number) < ROUGH
    score_N = np.empty(len(actual_N))
    for fold in np.unique(fold_N):
        own_N = fold_N == fold
        rest_N = ~own_N if not own_N.all() else own_N  # a single patient: promised nothing below
        shape = _shape(
            actual_N[rest_N], predicted_N[rest_N], spread_N[rest_N], male_N[rest_N], alike
        )
        middle_N, size_N = shape.said(predicted_N[own_N], spread_N[own_N], male_N[own_N])
        score_N[own_N] = np.abs(actual_N[own_N] - middle_N) / size_N
    slope, intercept = line(actual_N, predicted_N)
    return Calibration(
        patients=len(number),
        scans=len(patients),
        factor=conformal_quantile(score_N, patients, LEVEL),
        shape=_shape(actual_N, predicted_N, spread_N, male_N, alike),
        temperature=1.0 if probabilities is None else temperature(probabilities, groups),
        bias_slope=slope,
        bias_intercept_years=intercept,
    )


def _features(
    ages: tuple[float, float],
    spreads: tuple[float, float],
    answer_N: Floats,
    spread_N: Floats,
    male_N: Floats,
) -> Floats:
    """Return (N, F): 1, answer, its square, sex, both together, spread; all of size 1."""
    low, high = ages
    years_N = np.clip(2.0 * (answer_N - low) / max(high - low, 1.0) - 1.0, -1.3, 1.3)
    sign_N = np.nan_to_num(2.0 * male_N - 1.0)
    apart_N = np.nan_to_num(np.clip((spread_N - spreads[0]) / spreads[1], -2.0, 2.0))
    return np.stack(
        [np.ones_like(years_N), years_N, years_N**2, sign_N, sign_N * years_N, apart_N], axis=-1
    )


def _shape(
    actual_N: Floats, predicted_N: Floats, spread_N: Floats, male_N: Floats, alike: bool
) -> Shape:
    """Fit middle and size by ridge regression; ``alike``: the same for everybody."""
    low, high = np.quantile(predicted_N, (0.05, 0.95))
    told_N = spread_N[~np.isnan(spread_N)]
    mean, deviation = (float(told_N.mean()), float(told_N.std())) if told_N.size else (0.0, 0.0)
    ages, spreads = (float(low), float(high)), (mean, max(deviation, 1e-6))
    features_NF = _features(ages, spreads, predicted_N, spread_N, male_N)
    away_N = actual_N - predicted_N
    middle_F, size_F = np.zeros(features_NF.shape[1]), np.zeros(features_NF.shape[1])
    if not alike:
        middle_F = _ridge(features_NF, away_N)
    left_N = np.abs(away_N - features_NF @ middle_F)
    usual = max(float(left_N.mean()), LEAST_YEARS)
    size_F[0] = usual
    if not alike:
        size_F = _ridge(features_NF, left_N)
    return Shape(
        ages=ages,
        spreads=spreads,
        middle=tuple(middle_F.tolist()),
        size=tuple(size_F.tolist()),
        usual_years=usual,
    )


def _ridge(features_NF: Floats, values_N: Floats) -> Floats:
    """Return (F,) coefficients; the constant is free, all others are drawn to 0."""
    penalty_F = np.full(features_NF.shape[1], SHRINKAGE)
    penalty_F[0] = 1e-9
    inner_FF = features_NF.T @ features_NF + np.diag(penalty_F)
    return np.asarray(np.linalg.solve(inner_FF, features_NF.T @ values_N))


def conformal_quantile(scores: ArrayLike, patients: Sequence[str], level: float) -> float | None:
    """Return the score that a scan of a future patient stays below with at least ``level``.

    Hierarchical split-conformal prediction (Lee, Barber and Willett 2023, section 3): with P
    patients, each of patient p's n_p scores weighs 1 / (n_p (P + 1)) and the future patient
    1 / (P + 1) at infinity. With one scan each it is the ceil(level (P + 1))-th smallest
    score of Vovk et al. (2005). Patients must be exchangeable, scans of one patient need not
    be independent.

    Returns:
        The quantile; None where P < level / (1 - level), since it would be infinite.
    """
    values = np.asarray(scores, dtype=np.float64)
    _, own, count = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    weight = 1.0 / (count[own] * (len(count) + 1))
    order = np.argsort(values, kind="stable")
    reached = np.flatnonzero(np.cumsum(weight[order]) >= level - 1e-9)
    return float(values[order][reached[0]]) if reached.size else None


def temperature(probabilities: ArrayLike, groups: ArrayLike | None) -> float:
    """Return the temperature that makes the true groups most likely (Guo et al. 2017).

    Args:
        probabilities: (N, K), rows sum to 1.
        groups: (N,) the true groups.
    """
    from scipy import optimize  # half a second, which who reads a card does without

    raw, true = np.asarray(probabilities, dtype=np.float64), np.asarray(groups, dtype=np.int64)

    def surprise(log_temperature: float) -> float:
        likely = tempered(raw, math.exp(log_temperature))[np.arange(len(true)), true]
        return float(-np.log(np.maximum(likely, 1e-12)).mean())

    limit = math.log(20.0)
    found = optimize.minimize_scalar(surprise, bounds=(-limit, limit), method="bounded")
    return float(math.exp(found.x))


def tempered(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Divide log probabilities (..., K) by a temperature and normalise; above 1 evens them out."""
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-12)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def line(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line; slope 0 where all x are equal.

    The slope of the age gap on the age is the age bias: negative where a method draws
    everyone towards the mean.
    """
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    away = across - across.mean()
    spread = float(away @ away)
    slope = float(away @ up) / spread if spread > 0 else 0.0
    return slope, float(up.mean() - slope * across.mean())

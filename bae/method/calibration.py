"""What a model says about its own error: fitted on validation patients, stored in its card.

Three things, all from patients that no weight was fitted to: how wide a 90 % interval must
be, how probable an age group really is, and how far ages are drawn towards the mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

LEVEL = 0.9
"""Share of future patients' scans that an interval promises to hold."""

FLOORS = (0.5, 1.0, 2.0, 4.0, 16.0)
"""Floors to choose from, as multiples of the mean spread: where the spread foretells no error
the largest wins, and all widths are nearly one. The narrowest on average is taken."""

LEAST_FLOOR_YEARS = 0.5
"""Keeps the width above zero for a model without dropout, whose ensemble is of one mind."""

LEAST_SLOPE = 0.2
"""A model whose answers follow the age less than this says too little to be corrected."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted; plain values.

    Attributes:
        patients, scans: what it was fitted on.
        level: probability of the interval.
        factor: half width over (ensemble spread + floor), unitless; None where there were
            too few patients to promise anything.
        floor_years: added to the spread, so that a confident ensemble is not taken at its word.
        temperature: the age groups' log probabilities are divided by it (Guo et al. 2017).
        bias_slope, bias_intercept_years: predicted = intercept + slope x actual age.
    """

    patients: int
    scans: int
    level: float = LEVEL
    factor: float | None
    floor_years: float
    temperature: float
    bias_slope: float
    bias_intercept_years: float

    def half_width_years(self, spread_years: float) -> float | None:
        """Return how far the interval reaches either way; None where nothing can be promised."""
        return None if self.factor is None else self.factor * (spread_years + self.floor_years)

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
    patients: Sequence[str],
    probabilities: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Calibration:
    """Fit a calibration on validation scans.

    Args:
        actual_years, predicted_years, spread_years: (N,) age, answer, ensemble's spread.
        patients: (N,) keys.
        probabilities: (N, K) of the age groups; None for a model without a localizer.
        groups: (N,) the true age group, where there are probabilities.
    """
    actual, predicted, spread = (
        np.asarray(values, dtype=np.float64)
        for values in (actual_years, predicted_years, spread_years)
    )
    mean_spread = max(float(spread.mean()), LEAST_FLOOR_YEARS)
    tried = []
    for floor in (times * mean_spread for times in FLOORS):
        quantile = conformal_quantile(
            np.abs(predicted - actual) / (spread + floor), patients, LEVEL
        )
        width = math.inf if quantile is None else quantile * float((spread + floor).mean())
        tried.append((width, floor, quantile))
    _, floor, factor = min(tried, key=lambda each: each[0])
    slope, intercept = line(actual, predicted)
    return Calibration(
        patients=len(set(patients)),
        scans=len(patients),
        factor=factor,
        floor_years=floor,
        temperature=1.0 if probabilities is None else temperature(probabilities, groups),
        bias_slope=slope,
        bias_intercept_years=intercept,
    )


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

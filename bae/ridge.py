"""The plainest learner as a row of Table 1: ridge regression on thumbnails and sex.

A network that does not beat it has learned nothing of shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 64, 16
"""Size of a thumbnail, pixels."""

PENALTIES = tuple(10.0**power for power in range(-2, 5))
"""Tried on the validation patients."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ridge:
    """A fitted ridge regression. Columns keep their scale: a border pixel that once in the
    training scans held a count would be an outlier in every other scan.

    Attributes:
        mean: (K,) of the training columns.
        slopes: (K,) years per unit of a column.
        intercept: years.
    """

    mean: Floats
    slopes: Floats
    intercept: float

    def predict(self, columns: Floats) -> Floats:
        """Return years (N,) of (N, K) columns; a value that is NaN counts as the mean."""
        return np.asarray(np.nan_to_num(columns - self.mean) @ self.slopes + self.intercept)


def fit(columns: Floats, years: Floats, penalty: float) -> Ridge:
    """Fit by the closed form, in the space of scans since there are more pixels than scans.

    Args:
        columns: (N, K); NaN where unknown.
        years: (N,) ages.
        penalty: of the slopes' squares, as scikit-learn's ``alpha``.
    """
    mean, intercept = np.nanmean(columns, axis=0), float(years.mean())
    x = np.nan_to_num(columns - mean)
    middle = x.mean(axis=0)  # not quite zero where values were NaN
    centred = x - middle
    gram = centred @ centred.T + penalty * np.eye(len(years))
    slopes = centred.T @ np.linalg.solve(gram, years - intercept)
    return Ridge(mean=mean, slopes=slopes, intercept=intercept - float(middle @ slopes))


def chosen(train: tuple[Floats, Floats], validation: tuple[Floats, Floats]) -> Ridge:
    """Fit with the penalty of ``PENALTIES`` that errs least on validation scans."""
    fitted = [fit(*train, penalty) for penalty in PENALTIES]
    columns, years = validation
    return min(fitted, key=lambda model: float(np.abs(model.predict(columns) - years).mean()))

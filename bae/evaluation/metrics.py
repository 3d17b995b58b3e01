"""How good predictions are: errors and their intervals, comparisons, agreement, calibration.

Everything random is drawn over *patients*: several scans of one person are not independent,
so a bootstrap sample takes a person's scans together or not at all (Field and Welsh 2007).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

K = TypeVar("K")
Floats = NDArray[np.float64]
Patients = Sequence[str] | NDArray[np.str_]
"""The patient of each scan: (N,) keys."""

DRAWS = 2000
"""Bootstrap samples; the ends of a 95 % interval then move by about 3 % of its width."""


FEWEST = 5
"""Patients in the smallest group that is shown: with fewer, its members know each other's ages."""
FEW, WITHHELD = f"<{FEWEST}", "withheld"


def withheld(patients: Mapping[K, int]) -> dict[K, str]:
    """Return which of the groups that make up a whole are not shown, and what stands for them.

    A small group beside a shown total would follow by subtraction. So at least two are withheld,
    the smallest of the others too, and together they have as many patients as a group needs.

    Args:
        patients: group to its number of patients.
    """
    hidden = {group: FEW for group, number in patients.items() if number < FEWEST}
    others = [group for group in patients if group not in hidden]
    others.sort(key=lambda group: (patients[group], str(group)))
    while hidden and others:
        if len(hidden) > 1 and sum(patients[group] for group in hidden) >= FEWEST:
            break
        hidden[others.pop(0)] = WITHHELD
    return hidden


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in the value's unit."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Return ``3.35 (3.10 to 3.61)``."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def mean_absolute_error(actual: Floats, predicted: Floats) -> float:
    """Return the paper's Eq. (5), in the unit of the ages."""
    return float(np.abs(predicted - actual).mean())


def root_mean_squared_error(actual: Floats, predicted: Floats) -> float:
    """Return the root of the paper's Eq. (4)."""
    return float(np.sqrt(np.mean((predicted - actual) ** 2)))


def r2(actual: Floats, predicted: Floats) -> float:
    """Return the share of the ages' variance that is explained; NaN where all ages are equal."""
    total = float(np.sum((actual - actual.mean()) ** 2))
    return 1.0 - float(np.sum((predicted - actual) ** 2)) / total if total > 0 else float("nan")


def median_absolute_error(actual: Floats, predicted: Floats) -> float:
    """Return the error that half of the scans stay below."""
    return float(np.median(np.abs(predicted - actual)))


def within_5_years(actual: Floats, predicted: Floats) -> float:
    """Return the share of scans whose error is at most five years, 0 to 1."""
    return float((np.abs(predicted - actual) <= 5.0).mean())


ERRORS: dict[str, Callable[[Floats, Floats], float]] = {
    "mae_years": mean_absolute_error,
    "rmse_years": root_mean_squared_error,
    "r2": r2,
    "median_error_years": median_absolute_error,
    "within_5_years": within_5_years,
}
"""The columns of Table 1, in its order."""


def errors(
    actual: ArrayLike,
    predicted: ArrayLike,
    patients: Patients,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return every measure of ``ERRORS`` with its 95 % interval; ages (N,) in years."""

    def measure(truth: Floats, answer: Floats) -> list[float]:
        return [function(truth, answer) for function in ERRORS.values()]

    values = bootstrap(measure, (actual, predicted), patients, draws=draws, seed=seed)
    return dict(zip(ERRORS, values, strict=True))


def bootstrap(
    statistic: Callable[..., Sequence[float]],
    columns: Sequence[ArrayLike],
    patients: Patients,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Estimate]:
    """Return each value of a statistic with its 95 % percentile interval over patients.

    Args:
        statistic: the columns' values of some scans to a few numbers.
        columns: each (N,), cut alike.

    Raises:
        ValueError: there are no scans, or columns and patients differ in length.
    """
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if not len(patients) or any(len(array) != len(patients) for array in arrays):
        raise ValueError("columns and patients must be of one length, at least 1")
    whole = statistic(*arrays)
    drawn = np.array(
        [
            statistic(*(array[scans] for array in arrays))
            for scans in _resamples(patients, draws, seed)
        ]
    )
    found = []
    for value, column in zip(whole, drawn.T, strict=True):
        there = column[~np.isnan(column)]  # a sample of one age alone has no R2
        low, high = np.quantile(there, [0.025, 0.975]) if there.size else (np.nan, np.nan)
        found.append(Estimate(float(value), float(low), float(high)))
    return found


def _resamples(patients: Patients, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the scans of each bootstrap sample: patients drawn with replacement."""
    _, own, count = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    by_patient = np.argsort(own, kind="stable")
    first = np.cumsum(count) - count
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        chosen = rng.integers(len(count), size=len(count))
        lengths = count[chosen]
        # where each patient's scans begin, less how many scans came before them in the sample
        offset = first[chosen] - (np.cumsum(lengths) - lengths)
        yield by_patient[np.repeat(offset, lengths) + np.arange(lengths.sum())]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two methods on the same scans.

    Attributes:
        difference_years: mean absolute error of the first less that of the second.
        p_value: Wilcoxon's signed-rank test of the patients' mean absolute errors, two-sided.
    """

    difference_years: Estimate
    p_value: float
    patients: int


def compare(
    actual: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    patients: Patients,
    *,
    draws: int = DRAWS,
) -> Comparison:
    """Compare the absolute errors of two methods' ages (N,), in years, patient by patient."""
    ages = np.asarray(actual, dtype=np.float64)
    gain = np.abs(np.asarray(first) - ages) - np.abs(np.asarray(second) - ages)
    (difference,) = bootstrap(lambda g: [float(g.mean())], [gain], patients, draws=draws)
    per_patient = patient_means(gain, patients)
    # scipy gives NaN where no pair differs
    p_value = float(stats.wilcoxon(per_patient).pvalue) if per_patient.any() else 1.0
    return Comparison(difference_years=difference, p_value=p_value, patients=len(per_patient))


def patient_means(values: ArrayLike, patients: Patients) -> Floats:
    """Return the mean over each patient's scans, patients in the order of their keys."""
    _, own, count = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(own, weights=np.asarray(values)) / count)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Bland and Altman (1986): what to add to a prediction, and how far it may lie off.

    Attributes:
        bias_years: mean of predicted minus actual.
        lower_years, upper_years: limits of agreement, bias -/+ 1.96 standard deviations.
    """

    bias_years: Estimate
    lower_years: Estimate
    upper_years: Estimate


def agreement(
    actual: ArrayLike, predicted: ArrayLike, patients: Patients, *, draws: int = DRAWS
) -> Agreement:
    """Return bias and 95 % limits of agreement, each with its interval; see ``errors``."""

    def limits(truth: Floats, answer: Floats) -> list[float]:
        gap = answer - truth
        bias, sd = float(gap.mean()), float(gap.std(ddof=1)) if len(gap) > 1 else float("nan")
        return [bias, bias - 1.96 * sd, bias + 1.96 * sd]

    bias, lower, upper = bootstrap(limits, (actual, predicted), patients, draws=draws)
    return Agreement(bias_years=bias, lower_years=lower, upper_years=upper)


def proportion(successes: int, total: int) -> Estimate:
    """Return a share with its exact 95 % interval (Clopper and Pearson 1934).

    It takes the scans as independent: where patients have several, it is a little narrow.
    """
    interval = stats.binomtest(successes, total).proportion_ci(0.95, method="exact")
    return Estimate(successes / total, float(interval.low), float(interval.high))


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often a stated confidence comes true, in bins of equal width over 0 to 1.

    Attributes:
        confidence, accuracy: means of each bin that has scans.
        count: scans in each.
        ece: expected calibration error, 0 to 1 (Naeini et al. 2015, Guo et al. 2017).
    """

    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]
    ece: float


BINS = 10
"""Of stated confidence; each holds its upper end."""


def reliability(confidence: ArrayLike, correct: ArrayLike) -> Reliability:
    """Bin the confidence in the most probable class against how often it was right.

    Args:
        confidence: (N,) probability of the predicted class.
        correct: (N,) whether it was the true one.
    """
    stated = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(correct, dtype=np.float64)
    own = np.clip(np.ceil(stated * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(own, minlength=BINS)
    there = count > 0
    means = [np.bincount(own, v, BINS)[there] / count[there] for v in (stated, right)]
    ece = float(np.sum(count[there] * np.abs(means[0] - means[1])) / max(len(stated), 1))
    return Reliability(confidence=means[0], accuracy=means[1], count=count[there], ece=ece)

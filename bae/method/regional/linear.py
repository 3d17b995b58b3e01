"""Ridge regression of age on one view's log uptake, sex and their products.

Columns are standardised, the penalty is chosen by cross-validation over patients, and what a view
does not show (a cut-off leg) is filled in from what it does show by the cohort's principal
components (Tipping and Bishop, J R Stat Soc B 1999).

Shape suffixes: N scans, M those that lack something, J columns, Q components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-8, 7))
"""Tried, in units of the mean eigenvalue of the scans' products."""
FOLDS = 5
"""Of patients."""
COMPONENTS = 64
"""At most, to fill in what is missing; and at most a quarter of the scans."""
SEX_PRODUCTS = 0.1
"""Prior variance of a slope's difference between the sexes, against that of the slope."""
LEAST_TRUST = 0.02
"""Of a column whose sides have nothing in common."""
SEX_SLOPE = 1.0
"""Prior variance of what sex itself adds, against that of all uptake together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """What one view's log uptake is in a cohort; all arrays are float32.

    Attributes:
        mean_J, spread_J: of the columns in the cohort; the spread makes their variances sum to 1.
        trust_J: 0 to 1; columns of noise weigh little, see ``uptake.agreement``.
        components_QJ: principal directions of the standardised columns, of the length of
            their standard deviation.
        rest: variance of a column that they leave, mean.
    """

    mean_J: Floats32
    spread_J: Floats32
    trust_J: Floats32
    components_QJ: Floats32
    rest: float

    def standard(self, columns_NJ: Floats32) -> Floats32:
        """Return standardised columns, times their trust, what is NaN filled in."""
        scale_J = self.trust_J / self.spread_J
        standard_NJ = np.asarray((columns_NJ - self.mean_J) * scale_J, np.float32)
        holes_NJ = np.isnan(standard_NJ)
        rows_M = np.flatnonzero(holes_NJ.any(axis=1))
        if not rows_M.size:
            return standard_NJ
        standard_NJ[holes_NJ] = 0
        reached_MQ = (standard_NJ[rows_M] @ self.components_QJ.T).astype(float)
        # in float64, since a little is left over of a difference
        exact_QJ = self.components_QJ.astype(float)
        whole_QQ = exact_QJ @ exact_QJ.T + self.rest * np.eye(len(exact_QJ))
        alike: dict[bytes, list[int]] = {}  # rows that miss the same columns
        for m, holes_J in enumerate(holes_NJ[rows_M]):
            alike.setdefault(np.packbits(holes_J).tobytes(), []).append(m)
        for some in alike.values():
            missing_J = np.flatnonzero(holes_NJ[rows_M[some[0]]])
            missing_QJ = exact_QJ[:, missing_J]
            seen_QQ = whole_QQ - missing_QJ @ missing_QJ.T
            scores_MQ = np.linalg.solve(seen_QQ, reached_MQ[some].T).T
            standard_NJ[np.ix_(rows_M[some], missing_J)] = scores_MQ @ missing_QJ
        return standard_NJ

    def unlike(self, columns_1J: Floats32) -> float:
        """Return how unlike the cohort a scan is, unitless: about 1 for a usual one."""
        scale = len(self.mean_J) / np.mean(self.trust_J**2)
        away = float(np.sqrt(np.mean(self.standard(columns_1J) ** 2) * scale))
        return away + float(np.isnan(columns_1J).mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Columns):
    """A fitted model; all arrays are float32.

    Attributes:
        slope_J: years per unit of a standardised column.
        by_sex_J: what is added to the slope for men, and taken away for women.
        sex_years: added for men, taken away for women.
        years: the answer for a mean scan of unknown sex.
        error_years: root mean square error on patients left out.
    """

    slope_J: Floats32
    by_sex_J: Floats32
    sex_years: float
    years: float
    error_years: float

    @property
    def mean_years(self) -> float:
        """Return the answer where nothing is known of a scan."""
        return self.years

    def account(self, columns_NJ: Floats32, male_N: Floats) -> Floats32:
        """Return (N, J) years that each column adds to ``years``, without sex's own part."""
        sign_N1 = _sign(male_N)[:, None].astype(np.float32)
        return self.standard(columns_NJ) * (self.slope_J + sign_N1 * self.by_sex_J)

    def predict(self, columns_NJ: Floats32, male_N: Floats) -> Floats:
        """Return (N,) years.

        Args:
            columns_NJ: NaN where a scan shows nothing.
            male_N: 0 women, 1 men, NaN unknown: the mean of both answers.
        """
        own_N = self.account(columns_NJ, male_N).sum(axis=1, dtype=np.float64)
        return np.asarray(own_N + self.years + self.sex_years * _sign(male_N))


def fit(
    columns_NJ: Floats32,
    male_N: Floats,
    years_N: Floats,
    patients: Sequence[str],
    trust_J: Floats32 | None = None,
) -> tuple[Linear, Floats]:
    """Fit by the scans' products, since there are more columns than scans.

    Args:
        columns_NJ: log uptake, NaN where a scan shows nothing.
        male_N: 0 women, 1 men, NaN unknown.
        years_N: ages.
        patients: of the scans; those of one patient are never on both sides of a fold.
        trust_J: see ``Columns``; all alike by default.

    Returns:
        The model, and the (N,) answers of models that did not see the scan's patient.
    """
    own, filled_NJ, inner_NN = describe(columns_NJ, trust_J)
    sign_N = _sign(male_N)
    both_NN = np.outer(sign_N, sign_N)
    size = float(inner_NN.diagonal().mean())
    products_NN = inner_NN * (1 + SEX_PRODUCTS * both_NN) + SEX_SLOPE * size * both_NN
    penalty, held_out_N = _chosen(products_NN, years_N, patients)
    weight_N, years = _solved(products_NN, years_N, penalty)
    model = Linear(
        **vars(own),
        slope_J=(weight_N @ filled_NJ).astype(np.float32),
        by_sex_J=(SEX_PRODUCTS * (weight_N * sign_N) @ filled_NJ).astype(np.float32),
        sex_years=float(SEX_SLOPE * size * (weight_N @ sign_N)),
        years=years,
        error_years=float(np.sqrt(np.mean((held_out_N - years_N) ** 2))),
    )
    return model, held_out_N


def describe(
    columns_NJ: Floats32, trust_J: Floats32 | None = None
) -> tuple[Columns, Floats32, Floats]:
    """Learn what a cohort's columns are; see ``fit`` for the arguments.

    Returns:
        That, the (N, J) columns standardised and filled in, and the (N, N) products of scans.
    """
    mean_J, spread_J = _moments(columns_NJ)
    trust_J = np.ones_like(mean_J) if trust_J is None else np.maximum(trust_J, LEAST_TRUST)
    standard_NJ = np.asarray((columns_NJ - mean_J) * (trust_J / spread_J), np.float32)
    holes_NJ = np.isnan(standard_NJ)
    filled_NJ = np.where(holes_NJ, 0, standard_NJ)
    inner_NN = (filled_NJ @ filled_NJ.T).astype(float)
    # holes are 0 so far, and scans with large ones would teach that what they show and what
    # they lack go apart: the half with the smallest tells what goes together
    share_N = holes_NJ.mean(axis=1)
    whole_N = share_N <= np.median(share_N)
    components_QJ, rest = _components(filled_NJ[whole_N], inner_NN[np.ix_(whole_N, whole_N)])
    found = Columns(
        mean_J=mean_J, spread_J=spread_J, trust_J=trust_J, components_QJ=components_QJ, rest=rest
    )
    if holes_NJ.any():
        # these components stay the model's: it is fitted to what it will itself fill in
        filled_NJ = found.standard(columns_NJ)
        inner_NN = (filled_NJ @ filled_NJ.T).astype(float)
    return found, filled_NJ, inner_NN


def _sign(male_N: Floats) -> Floats:
    """Return 1 for men, -1 for women, 0 where unknown."""
    return np.asarray(np.nan_to_num(2.0 * np.asarray(male_N, float) - 1.0))


def _moments(columns_NJ: Floats32) -> tuple[Floats32, Floats32]:
    shown_J = (~np.isnan(columns_NJ)).sum(axis=0)
    total_J = np.nansum(columns_NJ, axis=0, dtype=np.float64)
    mean_J = total_J / np.maximum(shown_J, 1)
    square_J = np.nansum((columns_NJ - mean_J) ** 2, axis=0, dtype=np.float64)
    spread_J = np.sqrt(square_J / np.maximum(shown_J, 1)) + 1e-3
    spread_J *= np.sqrt(len(mean_J))
    spread_J[shown_J < 2] = np.inf  # never seen in training: says nothing
    return mean_J.astype(np.float32), spread_J.astype(np.float32)


def _components(filled_NJ: Floats32, inner_NN: Floats) -> tuple[Floats32, float]:
    """Return the largest principal directions, and the variance of a column that they leave."""
    scans, columns = filled_NJ.shape
    value_N, vector_NN = np.linalg.eigh(inner_NN)
    keep = max(1, min(COMPONENTS, scans // 4))
    vector_NQ = vector_NN[:, ::-1][:, :keep]
    rest = float(np.maximum(value_N[:-keep], 0).sum()) / (scans * columns)
    return (vector_NQ.T @ filled_NJ / np.sqrt(scans)).astype(np.float32), max(rest, 1e-12)


def _solved(products_NN: Floats, years_N: Floats, penalty: float) -> tuple[Floats, float]:
    """Return the scans' weights, and the answer where all products are 0; see ``fit``."""
    middle_N = products_NN.mean(axis=0)
    centred_NN = products_NN - middle_N - middle_N[:, None] + middle_N.mean()
    # scans that are all alike leave nothing to invert
    ridge = max(penalty * centred_NN.diagonal().mean(), 1e-12)
    weight_N = np.linalg.solve(centred_NN + ridge * np.eye(len(years_N)), years_N - years_N.mean())
    weight_N = weight_N - weight_N.mean()
    return weight_N, float(years_N.mean() - middle_N @ weight_N)


def _chosen(products_NN: Floats, years_N: Floats, patients: Sequence[str]) -> tuple[float, Floats]:
    """Return the penalty that errs least on patients left out, and the answers to these.

    The largest of equals; a single patient gets the mean of its own ages.
    """
    fold_N = folds(patients)
    answers = np.tile(years_N.mean(), (len(PENALTIES), len(years_N)))
    for fold in range(FOLDS):
        out, rest = np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)
        if not len(out) or not len(rest):
            continue
        inner, across = products_NN[np.ix_(rest, rest)], products_NN[np.ix_(out, rest)]
        for i, penalty in enumerate(PENALTIES[::-1]):
            weight_N, years = _solved(inner, years_N[rest], penalty)
            answers[i, out] = across @ weight_N + years
    best = int(np.abs(answers - years_N).mean(axis=1).argmin())
    return PENALTIES[::-1][best], answers[best]


def folds(patients: Sequence[str], count: int = FOLDS) -> NDArray[np.int64]:
    """Return the fold of each scan: patients in turn, in an order that no date decides."""
    place = {patient: i % count for i, patient in enumerate(sorted(set(patients)))}
    return np.array([place[patient] for patient in patients])

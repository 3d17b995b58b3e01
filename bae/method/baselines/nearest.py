"""An atlas of people: a scan's age is that of the training scans which it looks most like.

Greulich and Pyle (1959) let a reader turn the pages of an atlas of hands until one matches. Here
the pages are all training scans, and what is compared is the registered log uptake that the linear
model reads (``bae.method.regional``), by its largest principal components; people are compared
with their own sex.

A model keeps those components of every training scan, with age and sex, so its folder is as
private as features of scans are. No identity is in it, and no order that tells one.

Shape suffixes: M scans asked about, N training scans, J columns of a view, Q components, K
neighbours, the nearest first.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bae.method.regional import bodies
from bae.method.regional.bodies import Bodies, Floats, Floats32, Seen, Sheets
from bae.method.regional.frame import lay
from bae.method.regional.linear import Columns, describe
from bae.recipes import Region
from bae.scan import SEX_CODE, Scan, View

COMPONENTS = 32
"""Compared, the largest first; fewer in cohorts of under 128 scans, see ``linear.COMPONENTS``."""
NEIGHBOURS = (3, 5, 8, 12, 18, 27, 40)
"""Tried; of fewer than three the spread would say nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest(Columns):
    """The training scans of one kind of view; arrays are float32.

    Attributes:
        scores_NQ: principal components of the standardised columns, in the columns' unit.
        years_N: ages.
        male_N: 0 women, 1 men, NaN unknown.
        neighbours: so many are asked.
        error_years: root mean square error on patients left out.
    """

    scores_NQ: Floats32
    years_N: Floats32
    male_N: Floats32
    neighbours: int
    error_years: float

    @property
    def mean_years(self) -> float:
        """Return the mean age."""
        return float(self.years_N.mean())

    def look(self, columns_MJ: Floats32, male_M: Floats) -> tuple[Floats, Floats]:
        """Return (M,) mean ages of the nearest people, and the (M,) spread of their ages, years.

        Args:
            columns_MJ: NaN where a scan shows nothing.
            male_M: 0 women, 1 men, NaN unknown: people of both sexes are asked.
        """
        scores_MQ = _scores(self, self.standard(columns_MJ))
        apart_MN = _apart(scores_MQ, male_M, self.scores_NQ, self.male_N)
        return _asked(_ages(apart_MN, self.years_N), self.neighbours)


def learn(
    columns_NJ: Floats32,
    male_N: Floats,
    years_N: Floats,
    patients: Sequence[str],
    trust_J: Floats32 | None = None,
) -> tuple[Nearest, Floats]:
    """Learn how many neighbours to ask: those that err least on patients left out.

    Args:
        columns_NJ, male_N, years_N, patients, trust_J: see ``linear.fit``.

    Returns:
        The model, and the (N,) answers by the scans of other patients alone.
    """
    own, filled_NJ, _ = describe(columns_NJ, trust_J)
    # an order by what is compared says nothing of who came when
    scores_NQ = _scores(own, filled_NJ)
    order = np.lexsort(scores_NQ.T)
    apart_NN = _apart(scores_NQ, male_N, scores_NQ, male_N)
    keys = np.asarray(patients)
    apart_NN[keys[:, None] == keys] = np.inf
    ages_NK = _ages(apart_NN, years_N)
    answers = [np.nan_to_num(_asked(ages_NK, k)[0], nan=years_N.mean()) for k in NEIGHBOURS]
    best = int(np.argmin([np.abs(answer_N - years_N).mean() for answer_N in answers]))
    found = Nearest(
        **vars(own),
        scores_NQ=scores_NQ[order],
        years_N=years_N[order].astype(np.float32),
        male_N=np.asarray(male_N, np.float32)[order],
        neighbours=NEIGHBOURS[best],
        error_years=float(np.sqrt(np.mean((answers[best] - years_N) ** 2))),
    )
    return found, answers[best]


def _scores(own: Columns, standard_MJ: Floats32) -> Floats32:
    """Return (M, Q) along unit directions: what varies most counts most."""
    some_QJ = own.components_QJ[:COMPONENTS]
    length_Q1 = np.linalg.norm(some_QJ, axis=1, keepdims=True)
    return np.asarray(standard_MJ @ (some_QJ / np.maximum(length_Q1, 1e-12)).T, np.float32)


def _apart(
    scores_MQ: Floats32, male_M: Floats, scores_NQ: Floats32, male_N: Floats | Floats32
) -> Floats:
    """Return (M, N) squared distances; infinite to the other sex, if there is anybody of one's own.

    People of unknown sex are asked only about people of unknown sex.
    """
    one_MQ, two_NQ = scores_MQ.astype(float), scores_NQ.astype(float)
    square_M, square_N = (one_MQ**2).sum(axis=1), (two_NQ**2).sum(axis=1)
    apart_MN = square_M[:, None] + square_N - 2 * one_MQ @ two_NQ.T
    alike_MN = np.asarray(male_M)[:, None] == np.asarray(male_N)
    alike_MN[~alike_MN.any(axis=1)] = True
    return np.asarray(np.where(alike_MN, apart_MN, np.inf))


def _ages(apart_MN: Floats, years_N: Floats | Floats32) -> Floats:
    """Return (M, K) ages, the nearest first; NaN where there is nobody left to ask."""
    order_MK = np.argsort(apart_MN, axis=1, kind="stable")[:, : max(NEIGHBOURS)]
    there_MK = np.isfinite(np.take_along_axis(apart_MN, order_MK, axis=1))
    return np.where(there_MK, np.asarray(years_N, float)[order_MK], np.nan)


def _asked(ages_MK: Floats, neighbours: int) -> tuple[Floats, Floats]:
    """Return (M,) means and standard deviations of the nearest ages; NaN where there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mean of nothing
        some_MK = ages_MK[:, :neighbours]
        return np.nanmean(some_MK, axis=1), np.nanstd(some_MK, axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Atlas(Bodies[Nearest]):
    """The training scans of each kind of view, on the cohort's mean bodies."""

    model_type = Nearest

    def read(self, scan: Scan, views: Sequence[View], region: Region) -> Seen:
        """Look for the people that a scan looks most like.

        Args:
            scan: tells sex and pixel size.
            views: those of its views that count.
            region: not asked; a scan is compared as a whole.

        Returns:
            ``spread`` is the standard deviation of the neighbours' ages, years.
        """
        placed = self.place(views, [lay(view.counts, scan.pixel_mm) for view in views])
        male = np.array([SEX_CODE[scan.sex]])
        said = {
            kind: self.models[kind].look(self.columns(kind, registered), male)
            for kind, (_, registered) in placed.items()
        }
        alone = {kind: float(years[0]) for kind, (years, _) in said.items()}
        share = self.weights(said)
        everybody = [float(model.years_N.std()) for model in self.models.values()]
        spread = sum(share[kind] * float(own[0]) for kind, (_, own) in said.items())
        kind_of = {i: kind for kind, (i, _) in placed.items()}
        return Seen(
            years=self.together(alone),
            spread=spread if said else float(np.mean(everybody)),
            view_years=tuple(alone[kind_of[i]] for i in sorted(kind_of)),
            views=tuple(bodies.whole(view) for view in views),
            kinds=tuple(kind_of.get(i) for i in range(len(views))),
        )


def fit(
    sheets: Sheets, male_N: Floats, years_N: Floats, patients: Sequence[str]
) -> tuple[Atlas, Floats]:
    """Make the atlas of a cohort; see ``bodies.fit``."""
    return bodies.fit(Atlas, learn, sheets, male_N, years_N, patients)

"""Figures of an evaluation, each a plain function of a table of outcomes.

Blue and vermilion (Okabe and Ito 2008) differ for all colour vision; shape or hatching tells
them apart in print, too. An *outcome* is a row as ``scorecard`` reads it.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from bae.evaluation import metrics, scorecard
from bae.evaluation.metrics import Estimate, Floats
from bae.evaluation.scorecard import Subgroup
from bae.method import calibration
from bae.method.calibration import Calibration
from bae.scan import FEMALE, MALE, SEX_PLURAL
from bae.tables import settings

BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#595959"
SEXES = {
    FEMALE: (SEX_PLURAL[FEMALE], VERMILION, "o"),
    MALE: (SEX_PLURAL[MALE], BLUE, "^"),
    None: ("unknown", GREY, "s"),
}

BESIDE_AXIS = ("axes fraction", "data")
"""Coordinates of a note at a value: a share of the width, and the value."""


def ages_and_sex(scans: pa.Table) -> Figure:
    """Draw Figure 2: how many scans of each age and sex; needs patient_key, age_years and sex.

    Sexes and five-year bars of fewer than five patients are left out, and what would tell them.
    """
    ages, keys = _public(scans), scorecard.patients(scans)
    sexes = np.array(scans["sex"].to_pylist(), dtype=object)
    edges = np.arange(np.floor(ages.min() / 5) * 5, ages.max() + 5, 5).tolist()
    figure, axis = axes("age, years", "scans")
    hidden = metrics.withheld({sex: len(set(keys[sexes == sex])) for sex in set(sexes)})
    shown, bars = np.array([sex not in hidden for sex in sexes]), np.floor(ages / 5)
    for sex in set(sexes):
        mine = sexes == sex
        sizes = {bar: len(set(keys[mine & (bars == bar)])) for bar in set(bars[mine])}
        shown &= ~mine | ~np.isin(bars, list(metrics.withheld(sizes)))
    ages, sexes = ages[shown], sexes[shown]
    if not len(ages):
        axis.set_title("too few patients to show", fontsize=10)
        return figure
    there = [sex for sex in SEXES if (sexes == sex).any()]
    looks: dict[str, Any] = {
        "color": [SEXES[sex][1] for sex in there],
        "label": [f"{SEXES[sex][0]} ({(sexes == sex).sum()})" for sex in there],
        "hatch": ["", "///", "..."][: len(there)],
    }
    own = [ages[sexes == sex] for sex in there]
    axis.hist(own, bins=edges, edgecolor="white", linewidth=0.6, **looks)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(axis)
    return figure


def predicted_against_actual(outcomes: pa.Table) -> Figure:
    """Draw Figure 4: predicted against actual age, the identity and the fitted line."""
    age, answer = _ages(outcomes)
    figure, axis = axes("actual age, years", "predicted age, years")
    _points(axis, outcomes, age, answer)
    ends = np.array([min(age.min(), answer.min()) - 1, max(age.max(), answer.max()) + 1])
    axis.plot(ends, ends, color="black", linewidth=1, label="predicted = actual")
    _fitted_line(axis, age, answer, "fitted, slope {:.2f}")
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    _legend_above(axis)
    return figure


def bland_altman(outcomes: pa.Table) -> Figure:
    """Draw difference against mean of both ages, with bias and 95 % limits of agreement."""
    age, answer = _ages(outcomes)
    found = metrics.agreement(age, answer, scorecard.patients(outcomes))
    figure, axis = axes("mean of predicted and actual age, years", "predicted - actual, years")
    _points(axis, outcomes, (age + answer) / 2, answer - age)
    for estimate, name, style in (
        (found.upper_years, "upper limit", "--"),
        (found.bias_years, "bias", "-"),
        (found.lower_years, "lower limit", "--"),
    ):
        axis.axhline(estimate.value, color="black", linewidth=1.2, linestyle=style)
        axis.axhspan(estimate.low, estimate.high, color="black", alpha=0.08, linewidth=0)
        place, text = (0.995, estimate.value), f"{name} {estimate.value:+.1f}"
        axis.annotate(text, place, ha="right", va="bottom", xycoords=BESIDE_AXIS, fontsize=8)
    axis.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    _legend_above(axis)
    return figure


def age_bias(outcomes: pa.Table, fitted: Calibration | None) -> Figure:
    """Draw the age gap over the age: as predicted and, beside it, corrected."""
    age, answer = _ages(outcomes)
    shown = [("as predicted", answer)]
    if fitted is not None and np.isfinite(fitted.corrected_years(answer)).all():
        shown.append(("corrected (fitted on validation patients)", fitted.corrected_years(answer)))
    figure = Figure(figsize=(4.6 * len(shown), 4.2), layout="constrained")
    sides = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, (title, years) in zip(sides, shown, strict=True):
        _points(axis, outcomes, age, years - age)
        _fitted_line(axis, age, years - age, "slope {:+.2f}")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(title, fontsize=10, pad=26)
        axis.set_xlabel("actual age, years")
        _plain(axis)
        _legend_above(axis)
    sides[0].set_ylabel("predicted - actual, years")
    return figure


def error_by_group(groups: Sequence[Subgroup]) -> Figure:
    """Draw the mean absolute error by age, sex, vendor and view, with 95 % intervals."""
    return _by_group(groups, "mae_years", "mean absolute error, years")


def coverage_by_group(groups: Sequence[Subgroup]) -> Figure:
    """Draw the share of ages inside their 90 % interval, against what was promised."""
    there = [group for group in groups if group.coverage is not None]
    figure = _by_group(there, "coverage", "share of ages inside the interval")
    for axis in figure.axes:
        axis.axhline(0.9, color=VERMILION, linewidth=1.2, linestyle="--")
        axis.set_ylim(min(0.5, axis.get_ylim()[0]), 1.02)
    note: dict[str, Any] = {"va": "top", "color": VERMILION, "fontsize": 8}
    figure.axes[0].annotate("promised 90%", (0.02, 0.9), xycoords=BESIDE_AXIS, **note)
    return figure


def reliability(outcomes: pa.Table, edges: Sequence[float]) -> Figure | None:
    """Draw how often the most probable age group was right; None without age groups."""
    found = scorecard.reliability(outcomes, edges)
    if found is None:
        return None
    figure, axis = axes("probability of the most probable age group", "how often it was right")
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfectly calibrated")
    hits = np.rint(found.accuracy * found.count).astype(int)
    bins = [metrics.proportion(int(h), int(n)) for h, n in zip(hits, found.count, strict=True)]
    label = f"expected calibration error {found.ece:.3f}"
    _estimates(axis, found.confidence, bins, linewidth=1.2, label=label)
    for x, count in zip(found.confidence, found.count, strict=True):
        axis.annotate(f"{count}", (x, 0.01), ha="center", fontsize=8, color=GREY)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    _legend_above(axis)
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file, fine enough for print."""
    return saved(figure, "png", dpi=200)


def pdf(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PDF file; the same figure gives the same bytes."""
    return saved(figure, "pdf", metadata={"CreationDate": None})


def saved(figure: Figure, kind: str, **options: Any) -> bytes:
    """Return a figure as the bytes of a file; ``options`` are those of ``Figure.savefig``."""
    sink = io.BytesIO()
    figure.savefig(sink, format=kind, **options)
    return sink.getvalue()


def _by_group(groups: Sequence[Subgroup], name: str, label: str) -> Figure:
    found: dict[str, list[Subgroup]] = {}
    for by in ("all", "age", "sex", "vendor", "view"):
        if own := [group for group in groups if group.by == by and not group.withheld]:
            found[by] = own
    sizes = [len(own) + 0.6 for own in found.values()]
    figure = Figure(figsize=(max(4.0, 0.62 * sum(sizes) + 1.2), 3.9), layout="constrained")
    columns = figure.subplots(1, len(found), sharey=True, squeeze=False, width_ratios=sizes)[0]
    for axis, (by, own) in zip(columns, found.items(), strict=True):
        places = range(len(own))
        _estimates(axis, places, [getattr(group, name) for group in own], linestyle="none")
        axis.set_xticks(places, [f"{group.group}\nn = {group.scans}" for group in own], fontsize=8)
        axis.set_xlim(-0.6, len(own) - 0.4)
        axis.set_title("" if by == "all" else f"by {by}", fontsize=10)
        _plain(axis)
    columns[0].set_ylabel(label)
    columns[0].set_ylim(bottom=0)
    return figure


def _ages(outcomes: pa.Table) -> tuple[Floats, Floats]:
    """Return actual and predicted ages, years; the actual ones no finer than tables tell them.

    A point in a PDF can be read to hours of an age.
    """
    return _public(outcomes), scorecard.floats(outcomes, "predicted_age_years")


def _public(scans: pa.Table) -> Floats:
    return public_ages(scorecard.floats(scans, "age_years"))


def public_ages(ages: Floats) -> Floats:
    """Return ages as ``cohort/`` has them: to a tenth of a year, over 89 as 90."""
    told = np.where(ages > settings.OLDEST_YEARS, settings.TOP_CODED_YEARS, ages)
    return np.asarray(np.round(told, 1), dtype=np.float64)


def _points(axis: Axes, outcomes: pa.Table, x: Floats, y: Floats) -> None:
    """Draw one point per scan, its sex by colour and shape; large clouds become one image."""
    sexes = np.array(outcomes["sex"].to_pylist(), dtype=object)
    for sex, (name, colour, marker) in SEXES.items():
        own = sexes == sex
        if own.any():
            looks: dict[str, Any] = {
                "color": colour,
                "marker": marker,
                "label": name,
                "rasterized": len(x) > 5000,
            }
            axis.scatter(x[own], y[own], s=16, alpha=0.65, linewidth=0, **looks)


def _fitted_line(axis: Axes, x: Floats, y: Floats, label: str) -> None:
    slope, intercept = calibration.line(x, y)
    ends = np.array([x.min(), x.max()])
    looks: dict[str, Any] = {"color": "black", "linewidth": 1.4, "linestyle": "--"}
    axis.plot(ends, intercept + slope * ends, label=label.format(slope), **looks)


def _estimates(axis: Axes, x: ArrayLike, values: Sequence[Estimate], **looks: Any) -> None:
    """Draw values with their intervals."""
    low, middle, high = np.array([(v.low, v.value, v.high) for v in values]).T
    reach = np.abs([middle - low, high - middle])
    axis.errorbar(x, middle, yerr=reach, color=BLUE, marker="o", capsize=3, **looks)


def axes(across: str, up: str) -> tuple[Figure, Axes]:
    """Return an empty figure with one plain pair of axes, labelled."""
    figure = Figure(figsize=(5.0, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel=across, ylabel=up)
    _plain(axis)
    return figure, axis


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _legend_above(axis: Axes) -> None:
    """Put the legend over the axes, where it covers no point."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axis.legend(ncols=2, frameon=False, fontsize=8, **place)

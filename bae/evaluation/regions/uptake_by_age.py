"""Uptake against age, place by place: what a cohort shows before any model reads it.

Brenner et al. (2000) measured how the uptake of bone follows age, region by region, and Kakhki et
al. (2006) that of the sternum, in regions drawn by hand. Here bodies lie on the mean bodies of a
linear model's cohort, a place is what ``bae.method.regional.places`` names there, and a scan has
one number for it: the mean logarithm of uptake, relative to the scan's own soft tissue.

Shape suffixes: N scans, P places, Y, X rows and columns of the frame, G ages of a trend.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from bae.archive.intake import Decoded
from bae.evaluation import metrics, plots, scorecard
from bae.evaluation.metrics import Estimate
from bae.evaluation.pages import Row
from bae.method import hardware, model
from bae.method.regional import uptake
from bae.method.regional.bodies import KINDS
from bae.method.regional.frame import FRAME, body_coordinates, lay
from bae.method.regional.places import PLACES, both_sides, place_name
from bae.method.regional.reader import Reader
from bae.pipeline import kept
from bae.pipeline.outcomes import FLOATS
from bae.pipeline.step import OnPart
from bae.scan import FEMALE, MALE, SEX_PLURAL

Floats = NDArray[np.float64]

MOST_SCANS = 2000
"""Measured at most: trends are sure enough."""
MOST_PANELS = 12
"""Drawn: the places whose change is the surest."""
LEAST_CELLS = 30
"""Of a place, 19 square centimetres: smaller ones lie beside their bone as often as on it."""
SOFT = 0.25
"""Quantile of the body's cells that stands for soft tissue: less than three quarters show bone.
Brenner et al. took the thigh, which many scans cut off."""
BLUR = 1.0
"""Cells; single counts have no logarithm."""
AGES = 7
"""Points of a trend at which its interval is told."""
NAMES = tuple(dict.fromkeys(place.pair or place.name for place in PLACES))
"""From head to foot, both sides of a pair together."""


@functools.cache
def _named() -> NDArray[np.int64]:
    """Return (Y, X) which of ``NAMES`` each cell of the frame lies in."""
    down, right = (torch.arange(n) + 0.5 for n in FRAME)
    cells = torch.stack(torch.meshgrid(down, right, indexing="ij"), dim=-1)
    where = body_coordinates(cells).flatten(0, 1).tolist()
    return np.array([NAMES.index(both_sides(place_name(*at))) for at in where]).reshape(FRAME)


def measured(density_NYX: Tensor, body_YH: Tensor) -> Floats:
    """Return (N, P) mean log uptake of each of ``NAMES`` over soft tissue.

    Args:
        density_NYX: views of one kind on the frame, NaN where they show nothing.
        body_YH: see ``uptake.body_half``.

    Returns:
        NaN where a place is small, or a view shows less than half of it.
    """
    body_YX = torch.cat([body_YH, body_YH.flip(-1)], dim=1)
    (log_NYX,) = uptake.log_uptake(density_NYX, [BLUR])
    of_body_NC = log_NYX[:, body_YX]
    over_NC = of_body_NC - of_body_NC.nanquantile(SOFT, dim=1, keepdim=True)
    place_C = torch.from_numpy(_named())[body_YX]
    found = np.full((len(density_NYX), len(NAMES)), np.nan)
    for p in range(len(NAMES)):
        own_NC = over_NC[:, place_C == p]
        if own_NC.shape[1] >= LEAST_CELLS:
            shown_N = (~own_NC.isnan()).float().mean(dim=1) > 0.5
            found[:, p] = own_NC.nanmean(dim=1).masked_fill(~shown_N, torch.nan).numpy()
    return found


UPTAKE = pa.schema({"scan_id": pa.string(), **dict.fromkeys(KINDS, FLOATS)})
"""Of each kind of view one number for each of ``NAMES``; null where there is no such view."""


@dataclass(kw_only=True, eq=False)
class Uptake(kept.KeptStep):
    """Measure the places of the wanted scans, on the mean bodies of a model."""

    name: ClassVar[str] = "Uptake"
    wanted: set[str]
    model_uri: str
    reader: Reader | None = field(init=False, default=None, repr=False)

    def load(self) -> None:
        """Load the mean bodies."""
        hardware.use_cores(1)  # small matrices
        self.reader = model.load_regional(self.model_uri, model.load_card(self.model_uri))

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``UPTAKE``; a zip file may hold other scans beside those wanted."""
        assert self.reader is not None
        rows = []
        for scan_id, scan in kept.among(items, self.wanted):
            sheets = [lay(view.counts, scan.pixel_mm) for view in scan.views]
            row: dict[str, object] = {"scan_id": scan_id}
            for kind, (_, shown) in self.reader.place(scan.views, sheets).items():
                row[kind] = measured(shown.density_NYX, self.reader.bodies[kind])[0].tolist()
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=UPTAKE)


def of_cohort(
    tables_uri: str, model_uri: str, scans: pa.Table, on_part: OnPart
) -> dict[str, Floats]:
    """Return (N, P) of each kind of view; kept as ``outcomes.score`` keeps answers.

    Args:
        model_uri: of a model with a linear part.
        scans: rows of the scans table.
    """
    sha256 = model.load_card(model_uri).parts["regional"].sha256
    state = [sha256, SOFT, BLUR, LEAST_CELLS, kept.digest(scans)]
    wanted = set(scans["scan_id"].to_pylist())
    cache = kept.cache(tables_uri, "uptake", state, UPTAKE)
    step = Uptake(cache=cache, wanted=wanted, model_uri=model_uri)
    found = kept.answers(tables_uri, scans, step, on_part)
    nothing = [np.nan] * len(NAMES)
    return {kind: np.array([own or nothing for own in found[kind].to_pylist()]) for kind in KINDS}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trend:
    """How uptake of one place in one view follows age, in one sex.

    Attributes:
        scans, patients: that show the place.
        percent: change of uptake in ten years of age, %.
        line: (G,) log uptake at the ages of ``ages_G``.
        ages_G: from the youngest to the oldest.
        age_N, log_N: the scans themselves.
    """

    region: str
    view: str
    sex: str
    scans: int
    patients: int
    percent: Estimate
    line: Sequence[Estimate]
    ages_G: Floats
    age_N: Floats
    log_N: Floats


def trends(scans: pa.Table, found: Mapping[str, Floats]) -> list[Trend]:
    """Fit a straight line to log uptake against age, for each view, place and sex.

    A group of fewer than five patients has none, nor one that would follow from it.

    Args:
        scans: patient_key, sex, age_years.
        found: see ``of_cohort``.
    """
    sexes = np.array(scans["sex"].to_pylist(), dtype=object)
    # a trend's ends lie at ages, which a figure tells no finer than tables do
    ages = plots.public_ages(scorecard.floats(scans, "age_years"))
    keys = scorecard.patients(scans)
    made = []
    for kind, log_NP in found.items():
        for p, region in enumerate(NAMES):
            there_N = ~np.isnan(log_NP[:, p])
            sizes = {s: len(set(keys[there_N & (sexes == s)])) for s in set(sexes[there_N])}
            hidden = metrics.withheld(sizes)
            for sex in (FEMALE, MALE):
                own_N = there_N & (sexes == sex)
                if sex in sizes and sex not in hidden and np.ptp(ages[own_N]) > 0:
                    one = (ages[own_N], log_NP[own_N, p], keys[own_N])
                    made.append(_trend(region, kind, sex, *one))
    return made


def _trend(
    region: str, view: str, sex: str, age_N: Floats, log_N: Floats, keys_N: NDArray[np.str_]
) -> Trend:
    ages_G = np.linspace(age_N.min(), age_N.max(), AGES)

    def line(age_N: Floats, log_N: Floats) -> list[float]:
        away_N = age_N - age_N.mean()
        spread = float(away_N @ away_N)
        slope = float(away_N @ log_N) / spread if spread > 0 else np.nan
        percent = 100 * np.expm1(10 * slope)
        return [percent, *(log_N.mean() + slope * (ages_G - age_N.mean())).tolist()]

    percent, *at_ages = metrics.bootstrap(line, [age_N, log_N], keys_N)
    return Trend(
        region=region,
        view=view,
        sex=sex,
        scans=len(age_N),
        patients=len(set(keys_N)),
        percent=percent,
        line=at_ages,
        ages_G=ages_G,
        age_N=age_N,
        log_N=log_N,
    )


def table(found: Sequence[Trend]) -> list[Row]:
    """Return one row for each place, view and sex, from head to foot."""
    return [
        {
            "region": one.region,
            "view": one.view,
            "sex": one.sex,
            "scans": one.scans,
            "patients": one.patients,
            "percent_per_decade": one.percent.value,
            "percent_per_decade_low": one.percent.low,
            "percent_per_decade_high": one.percent.high,
        }
        for one in sorted(found, key=lambda one: NAMES.index(one.region))
    ]


def figure(found: Sequence[Trend]) -> Figure | None:
    """Draw the places whose change is the surest, from head to foot: scans, trends, intervals.

    None where nothing may be shown.
    """
    panels: dict[tuple[str, str], list[Trend]] = {}
    for one in found:
        panels.setdefault((one.region, one.view), []).append(one)
    chosen = sorted(panels, key=lambda name: -max(map(_sure, panels[name])))[:MOST_PANELS]
    chosen.sort(key=lambda name: (NAMES.index(name[0]), name[1]))
    if not chosen:
        return None
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    drawn = Figure(figsize=(2.5 * columns, 2.25 * rows + 0.7), layout="constrained")
    axes = drawn.subplots(rows, columns, sharex=True, squeeze=False)
    for axis in axes.ravel()[len(chosen) :]:
        axis.set_visible(False)
    for axis, (region, view) in zip(axes.ravel(), chosen, strict=False):
        for one in panels[region, view]:
            _draw(axis, one)
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + 0.13 * (high - low))  # room for the numbers
        axis.set_title(f"{region},\n{view}", fontsize=8)
        axis.tick_params(labelsize=7, labelbottom=True)
        axis.spines[["top", "right"]].set_visible(False)
    drawn.supxlabel("age, years; in colour the change of uptake in ten years", fontsize=9)
    drawn.supylabel("uptake over soft tissue, natural logarithm", fontsize=9)
    handles = {
        h.get_label(): h for axis in axes.ravel() for h in axis.get_legend_handles_labels()[0]
    }
    drawn.legend(
        handles.values(), handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8
    )
    return drawn


def _sure(one: Trend) -> float:
    """Return how large a change is beside its interval."""
    return abs(one.percent.value) / max(one.percent.high - one.percent.low, 1e-9)


def _draw(axis: Axes, one: Trend) -> None:
    _, colour, marker = plots.SEXES[one.sex]
    looks: dict[str, Any] = {"color": colour, "marker": marker, "rasterized": one.scans > 500}
    axis.scatter(one.age_N, one.log_N, s=7, alpha=0.35, linewidth=0, **looks)
    low, middle, high = np.array([(e.low, e.value, e.high) for e in one.line]).T
    axis.fill_between(one.ages_G, low, high, color=colour, alpha=0.18, linewidth=0)
    style = "-" if one.sex == FEMALE else "--"
    axis.plot(one.ages_G, middle, style, color=colour, linewidth=1.4, label=SEX_PLURAL[one.sex])
    # adding 0 makes a negative zero a plain one
    percent = f"{round(one.percent.value, 1) + 0.0:+.1f} %".replace("-", "\N{MINUS SIGN}")
    place = (0.03, 0.98) if one.sex == FEMALE else (0.97, 0.98)
    side = "left" if one.sex == FEMALE else "right"
    axis.annotate(
        percent, place, xycoords="axes fraction", fontsize=7, color=colour, ha=side, va="top"
    )

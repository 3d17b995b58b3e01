"""Charts of a report, each a plain function of a small table of counts.

Drawn narrow with large type, since a phone shows them at its own width. Blue and
vermilion (Okabe and Ito 2008) differ for all colour vision, and in lightness in print.
"""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from bae.body import only_body
from bae.evaluation import figure3, plots
from bae.evaluation.pages import Row
from bae.evaluation.panels import RegionPanel
from bae.scan import SEX_PLURAL

SEX_COLOURS = {sex or "unknown": colour for sex, (_, colour, _) in plots.SEXES.items()}
SEX_NAMES = {**SEX_PLURAL, "unknown": "sex unknown"}
_MANY = 1000


def age_map(cells: Sequence[Row]) -> Figure:
    """Draw predicted against true age: how many scans in each square of one year.

    ``cells`` are rows of ``counts.age_cells``.
    """
    figure, axis = _axes()
    ends = [cell[name] + end for cell in cells for name in ("age", "predicted") for end in (0, 1)]
    low, high = min([*ends, 40]) - 1, max([*ends, 80]) + 1
    counts = np.zeros((high - low, high - low))
    for cell in cells:
        counts[cell["predicted"] - low, cell["age"] - low] = cell["scans"]
    axis.plot([low, high], [low, high], color=plots.GREY, linewidth=1, label="predicted = true age")
    most = max(counts.max(), 2)
    # without viridis' yellows, which vanish on white
    colours = ListedColormap(mpl.colormaps["viridis_r"](np.linspace(0.25, 1, 256)))
    shown = axis.imshow(
        np.ma.masked_equal(counts, 0),
        colours,
        LogNorm(1, most),
        origin="lower",
        zorder=2,
        extent=(low, high, low, high),
        interpolation="nearest",
    )
    ticks = sorted({1.0, *10.0 ** np.arange(1, math.ceil(math.log10(most))), float(most)})
    bar = figure.colorbar(shown, ax=axis, label="scans", shrink=0.9, ticks=ticks)
    bar.ax.yaxis.set_major_formatter("{x:.0f}")
    bar.ax.minorticks_off()
    axis.set(xlabel="age, years", ylabel="predicted age, years")
    axis.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def gap_histogram(bins: Sequence[Row]) -> Figure:
    """Draw the age gap of each sex, as the share of its scans in each year, of few in each two.

    ``bins`` are rows of ``counts.gap_bins``.
    """
    figure, axis = _axes()
    axis.axvline(0, color=plots.GREY, linewidth=1)
    step = 1 if sum(row["scans"] for row in bins) >= _MANY else 2
    for sex, colour in SEX_COLOURS.items():
        mine = [row for row in bins if row["sex"] == sex]
        if mine:
            gaps, scans = ([row[name] for row in mine] for name in ("gap", "scans"))
            edges = np.arange(min(gaps) // step * step, max(gaps) + 2 * step, step)
            counts, _ = np.histogram(gaps, edges, weights=scans)
            label = f"{SEX_NAMES[sex]}, {sum(scans):,}"
            style = {"F": "-", "M": "--"}.get(sex, ":")
            share = counts * 100 / sum(scans)
            axis.stairs(share, edges, color=colour, linewidth=2, linestyle=style, label=label)
    axis.set(xlabel="age gap (predicted minus true age), years", ylabel="share of scans, %")
    axis.set_ylim(bottom=0)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="upper right", frameon=False, fontsize=9)
    return figure


def gap_boxes(groups: Sequence[Row]) -> Figure:
    """Draw the age gap by decade and sex: median, middle half, middle nine tenths.

    ``groups`` are rows of ``counts.gap_groups``.
    """
    figure, axis = _axes()
    axis.axhline(0, color=plots.GREY, linewidth=1)
    decades = sorted({row["decade"] for row in groups})
    sexes = [sex for sex in SEX_COLOURS if any(row["sex"] == sex for row in groups)]
    plain: dict[str, Any] = {"showcaps": False, "showfliers": False, "manage_ticks": False}
    for sex in sexes:
        own = [row for row in groups if row["sex"] == sex]
        shift = 0.27 * (sexes.index(sex) - (len(sexes) - 1) / 2)
        names = ("whislo", "q1", "med", "q3", "whishi")
        colour = SEX_COLOURS[sex]
        face, median = ("white", colour) if sex == "F" else (colour, "white")
        axis.bxp(
            [dict(zip(names, row["quantiles"], strict=True)) for row in own],
            positions=[decades.index(row["decade"]) + shift for row in own],
            widths=0.2,
            patch_artist=True,
            boxprops={"facecolor": face, "edgecolor": colour, "linewidth": 1.8},
            whiskerprops={"color": colour, "linewidth": 1.5},
            medianprops={"color": median, "linewidth": 2.4},
            label=SEX_NAMES[sex],
            **plain,
        )
    axis.set_xticks(range(len(decades)), [f"{decade}s" for decade in decades])
    axis.set_xlim(-0.6, max(len(decades), 1) - 0.4)
    axis.set(xlabel="age, decade", ylabel="age gap, years")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="best", frameon=False, fontsize=9)
    return figure


def thumbnail(panels: Sequence[RegionPanel]) -> Figure:
    """Draw overlay and crop of each view of one scan, small, and nothing that is not the body.

    Writing burnt into the pixels lies beside the body: all there is shown as air.
    """
    figure = Figure(figsize=(4.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 2 * len(panels), squeeze=False)[0]
    for panel, over, crop in zip(panels, axes[::2], axes[1::2], strict=True):
        body = only_body(panel.counts)
        style = figure3.scan_style(panel) | {"interpolation": "antialiased"}
        figure3.overlay(over, panel, body, style)
        figure3.frames(over, panel, linewidth=2 if len(panel.boxes) == 1 else 1.2, fontsize=9)
        cut = figure3.crops(crop, panel, body, style, fontsize=8, names=False)
        over.set_title(panel.title, fontsize=10)
        if len(cut) == 1:
            crop.set_title("crop", fontsize=10)
    for axis in figure.axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def _axes() -> tuple[Figure, Axes]:
    with mpl.rc_context({"axes.labelsize": 11}):
        figure, axis = plots.axes("", "")
    figure.set_size_inches(4.8, 3.9)
    return figure, axis


def svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file without a date, so that the same data give the same file."""
    with mpl.rc_context({"svg.hashsalt": "bae"}):
        return plots.saved(figure, "svg", metadata={"Date": None, "Creator": None})


def webp(figure: Figure) -> bytes:
    """Return a figure as the bytes of a WebP file: a tenth of a PNG, for pictures of scans."""
    return plots.saved(figure, "webp", dpi=150, pil_kwargs={"quality": 85})

"""Charts of a report, each a plain function of a small table of counts.

Drawn narrow with large type, since a phone shows them at its own width. Blue and
vermilion (Okabe and Ito 2008) differ for all colour vision, and in lightness in print.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bae.archive.body import only_body, white_level
from bae.evaluation import plots
from bae.evaluation.figure3 import HEAT_COLOURS
from bae.evaluation.panels import RegionPanel
from bae.method import boxes
from bae.scan import SEX_PLURAL

Row = Mapping[str, Any]

SEX_COLOURS = {sex or "unknown": colour for sex, (_, colour, _) in plots.SEXES.items()}
SEX_NAMES = {**SEX_PLURAL, "unknown": "sex unknown"}
_SIZE = (4.8, 3.9)
_MANY = 1000


def age_map(cells: Sequence[Row]) -> Figure:
    """Draw predicted against true age: how many scans in each square of one year.

    Args:
        cells: rows of age, predicted, scans, as ``counts.age_cells`` gives them.
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
        np.ma.masked_equal(counts, 0), origin="lower", extent=(low, high, low, high),
        cmap=colours, norm=LogNorm(1, most), interpolation="nearest", aspect="equal", zorder=2,
    )  # fmt: skip
    ticks = sorted({1.0, *10.0 ** np.arange(1, math.ceil(math.log10(most))), float(most)})
    bar = figure.colorbar(shown, ax=axis, label="scans", shrink=0.9, ticks=ticks)
    bar.ax.yaxis.set_major_formatter("{x:.0f}")
    bar.ax.minorticks_off()
    axis.set(xlabel="age, years", ylabel="predicted age, years")
    axis.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def gap_histogram(bins: Sequence[Row]) -> Figure:
    """Draw the age gap of each sex, as the share of its scans in each year, of few in each two.

    Args:
        bins: rows of sex, gap, scans, as ``counts.gap_bins`` gives them.
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
            axis.stairs(
                counts * 100 / sum(scans), edges, color=colour, linewidth=2,
                linestyle={"F": "-", "M": "--"}.get(sex, ":"),
                label=f"{SEX_NAMES[sex]}, {sum(scans):,}",
            )  # fmt: skip
    axis.set(xlabel="age gap (predicted minus true age), years", ylabel="share of scans, %")
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper right", frameon=False, fontsize=9)
    return figure


def gap_boxes(groups: Sequence[Row]) -> Figure:
    """Draw the age gap by decade and sex: median, middle half, middle nine tenths.

    Args:
        groups: rows of decade, sex, scans, quantiles, as ``counts.gap_groups`` gives them.
    """
    figure, axis = _axes()
    axis.axhline(0, color=plots.GREY, linewidth=1)
    decades = sorted({row["decade"] for row in groups})
    sexes = [sex for sex in SEX_COLOURS if any(row["sex"] == sex for row in groups)]
    for row in groups:
        at = decades.index(row["decade"]) + 0.27 * (sexes.index(row["sex"]) - (len(sexes) - 1) / 2)
        colour = SEX_COLOURS[row["sex"]]
        low, lower, middle, upper, high = row["quantiles"]
        axis.plot([at, at], [low, high], color=colour, linewidth=1.5)
        axis.add_patch(
            Rectangle(
                (at - 0.1, lower), 0.2, upper - lower, facecolor="white" if row["sex"] == "F"
                else colour, edgecolor=colour, linewidth=1.8, zorder=2,
            )
        )  # fmt: skip
        dark = colour if row["sex"] == "F" else "white"
        axis.plot([at - 0.1, at + 0.1], [middle, middle], color=dark, linewidth=2.4, zorder=3)
    handles = [
        Rectangle((0, 0), 1, 1, facecolor="white" if sex == "F" else SEX_COLOURS[sex],
                  edgecolor=SEX_COLOURS[sex], linewidth=1.8, label=SEX_NAMES[sex])
        for sex in sexes
    ]  # fmt: skip
    axis.set_xticks(range(len(decades)), [f"{decade}s" for decade in decades])
    axis.set_xlim(-0.6, max(len(decades), 1) - 0.4)
    axis.set(xlabel="age, decade", ylabel="age gap, years")
    axis.legend(handles=handles, loc="best", frameon=False, fontsize=9)
    return figure


def thumbnail(panels: Sequence[RegionPanel]) -> Figure:
    """Draw overlay and crop of each view, small, and nothing that is not the body.

    Writing burnt into the pixels lies beside the body: all there is shown as air.
    """
    figure = Figure(figsize=(4.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 2 * len(panels), squeeze=False)[0]
    for panel, over, crop in zip(panels, axes[::2], axes[1::2], strict=True):
        rows, columns = panel.counts.shape
        box = panel.box
        row_mm, column_mm = panel.pixel_mm or (1.0, 1.0)
        body = only_body(panel.counts)
        scan = {"cmap": "gray_r", "vmin": 0, "vmax": white_level(panel.counts),
                "aspect": row_mm / column_mm, "interpolation": "antialiased"}  # fmt: skip
        heat = boxes.enlarge(panel.heat, (rows, columns))
        over.imshow(body, **scan)
        over.imshow(heat, alpha=0.6 * np.clip(heat / 127.5 - 1, 0, 1), cmap=HEAT_COLOURS,
                    vmin=0, vmax=255, aspect=row_mm / column_mm)  # fmt: skip
        size = (box.x1 - box.x0, box.y1 - box.y0)
        over.add_patch(
            Rectangle(
                (box.x0 - 0.5, box.y0 - 0.5), *size, fill=False, color=plots.BLUE, linewidth=2
            )
        )
        crop.imshow(body[box.y0 : box.y1, box.x0 : box.x1], **scan)
        over.set_title(panel.title, fontsize=10)
        crop.set_title("crop", fontsize=10)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=10)
    axis.xaxis.label.set_fontsize(11)
    axis.yaxis.label.set_fontsize(11)
    return figure, axis


def svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file without a date, so that the same data give the same file."""
    sink = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "bae"}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    return sink.getvalue()


def webp(figure: Figure) -> bytes:
    """Return a figure as the bytes of a WebP file: a tenth of a PNG, for pictures of scans."""
    sink = io.BytesIO()
    figure.savefig(sink, format="webp", dpi=150, pil_kwargs={"quality": 85})
    return sink.getvalue()

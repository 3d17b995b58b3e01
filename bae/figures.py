"""Pictures, each a plain function of values. Bone scans are dark on white, as readers expect."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bae import roi
from bae.atlas import CELL_MM, FRAME, Mean
from bae.roi import Box
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR

HEAT_COLOURS = "inferno"
"""Rises evenly in lightness, so it reads in print and with any colour vision."""

ATLAS_COLOURS = "YlOrRd"
"""ColorBrewer's: hotter is darker, so it stands out on white, prints, and any eye sees it."""

REGION_COLOUR = "#0072b2"
"""Blue of Okabe and Ito, distinct from the heat with any colour vision."""

SIDES = {ANTERIOR: "RL", POSTERIOR: "LR"}
"""Which of the patient's sides is on the picture's left and right."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionPanel:
    """One view of one scan with what the localizer found.

    Attributes:
        title: such as "woman, 64 years, predicted 63".
        view: ``anterior``, ``posterior`` or ``unknown``; says on which side R and L stand.
        counts: (rows, columns) stored counts.
        heat: (V, U) uint8 heat map of the table.
        box: the cropped box, stored pixels.
        pixel_mm: (row, column) spacing, for true proportions; None draws square pixels.
        gamma: threshold of Eq. (3), drawn as a contour on the overlay; None draws none.
    """

    title: str
    view: str
    counts: NDArray[np.uint16] | NDArray[np.float32]
    heat: NDArray[np.uint8]
    box: Box
    pixel_mm: tuple[float, float] | None = None
    gamma: float | None = None


def white_level(counts: NDArray[np.uint16] | NDArray[np.float32]) -> float:
    """Return the count shown black: hot bladders and injection sites lie above it."""
    held = counts[counts > 0]
    return float(np.percentile(held, 99.5)) if held.size else 1.0


def regions(panels: Sequence[RegionPanel | None], across: int = 1) -> Figure:
    """Draw the paper's Figure 3: scan, heat map, overlay, crop for each panel.

    Bodies are drawn from head to toes in their true proportions; a bar marks 20 cm
    where the pixel size is known, and R and L the patient's sides.

    Args:
        panels: in reading order; None leaves a place free.
        across: panels per row.
    """
    down = -(-len(panels) // across)
    wide, high = (7.2, 6.0) if across == 1 else (4.1 * across, 3.5)
    figure = Figure(figsize=(wide, high * down), layout="constrained")
    places = figure.subfigures(down, across, squeeze=False, wspace=0.03, hspace=0.03).ravel()
    for place, panel in zip(places, panels, strict=False):  # the last row may not be full
        if panel is None:
            continue
        place.suptitle(panel.title, fontsize=9)
        _region(place.subplots(1, 4, width_ratios=(1, 1, 1, 1.25)), panel)
    return figure


def atlas(means: Mapping[tuple[str, str, int], Mean], groups: Sequence[str]) -> Figure:
    """Draw where age shows: mean heat on the mean body, by age group and sex.

    The body is grey, the heat's upper half of the scale runs from light to dark red; the
    lines are its levels 128 and 192, so the picture also reads without any colour.

    Args:
        means: (view, sex, group) to mean, as ``bae.regions.means`` gives them.
        groups: what each age group is called, youngest first.
    """
    figure = Figure(figsize=(1.8 * len(groups) + 0.3, 6.6))
    # two views close together, then a gap
    grid = figure.add_gridspec(
        2, 3 * len(groups) - 1, width_ratios=([1, 1, 0.15] * len(groups))[:-1],
        left=0.04, right=0.99, top=0.92, bottom=0.12, wspace=0.06, hspace=0.1,
    )  # fmt: skip
    shown = None
    for row, (sex, word) in enumerate(((FEMALE, "women"), (MALE, "men"))):
        for column in range(3 * len(groups) - 1):
            if column % 3 == 2:
                continue
            group, view = column // 3, (ANTERIOR, POSTERIOR)[column % 3]
            axis, mean = figure.add_subplot(grid[row, column]), means.get((view, sex, group))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{view}, {mean.scans if mean else 0}", fontsize=6, pad=3)
            if column == 0:
                axis.set_ylabel(word, fontsize=9)
            if row == 0 and column % 3 == 0:
                axis.annotate(groups[group], (1.03, 1.07), xycoords="axes fraction", ha="center",
                              fontsize=9)  # fmt: skip
            if mean is None:
                axis.set_aspect(FRAME[0] / FRAME[1], "box")
            else:
                shown = _mean(axis, mean)
    if shown is not None:
        bar = figure.colorbar(shown, cax=figure.add_axes((0.3, 0.065, 0.4, 0.015)),
                              orientation="horizontal", alpha=0.75)  # fmt: skip
        bar.set_label("mean heat, 0-255; lines at 128 (thin) and 192 (thick)", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    return figure


def _mean(axis: Axes, mean: Mean) -> AxesImage:
    """Draw one mean body with its heat, and return the heat's picture."""
    rows_mm, columns_mm = (CELL_MM * cells for cells in FRAME)
    extent = (0.0, columns_mm, rows_mm, 0.0)
    white = float(np.percentile(mean.scan, 99.5))
    axis.imshow(mean.scan, cmap="gray_r", vmin=0, vmax=white, extent=extent)
    strength = 0.75 * np.clip((mean.heat - 96) / 96, 0, 1)
    shown = axis.imshow(
        mean.heat, cmap=ATLAS_COLOURS, vmin=96, vmax=255, alpha=strength, extent=extent
    )
    for level, width in ((128, 0.5), (192, 1.1)):
        if mean.heat.min() < level < mean.heat.max():
            axis.contour(mean.heat, [level], colors="black", extent=extent, origin="upper",
                         linewidths=width)  # fmt: skip
    return shown


def _region(axes: NDArray[np.object_], panel: RegionPanel) -> None:
    """Draw one panel into four axes."""
    size = panel.counts.shape
    box = panel.box
    heat = roi.enlarge(panel.heat, size)
    row_mm, column_mm = panel.pixel_mm or (1.0, 1.0)
    scan = {"cmap": "gray_r", "vmin": 0, "vmax": white_level(panel.counts),
            "aspect": row_mm / column_mm, "interpolation": "nearest"}  # fmt: skip
    warm = {"cmap": HEAT_COLOURS, "vmin": 0, "vmax": 255, "aspect": row_mm / column_mm}
    axes[0].imshow(panel.counts, **scan)
    axes[1].imshow(heat, **warm)
    axes[2].imshow(panel.counts, **scan)
    # the lower half of the scale leaves the scan as it is
    axes[2].imshow(heat, alpha=0.6 * np.clip(heat / 127.5 - 1, 0, 1), **warm)
    if panel.gamma is not None and heat.min() < panel.gamma <= heat.max():
        axes[2].contour(heat, [panel.gamma], colors=REGION_COLOUR, linewidths=0.7)
    crop = panel.counts[box.y0 : box.y1, box.x0 : box.x1]
    axes[3].imshow(crop, **scan)
    top, bottom = _body_rows(panel.counts)
    for axis in axes[:3]:
        corner, sides = (box.x0 - 0.5, box.y0 - 0.5), (box.x1 - box.x0, box.y1 - box.y0)
        axis.add_patch(Rectangle(corner, *sides, fill=False, color=REGION_COLOUR, linewidth=1.2))
        axis.set_ylim(max(bottom, box.y1), min(top, box.y0) - 0.5)
    names = ("(a) scan", "(b) heat map", "(c) overlay", "(d) crop")
    for axis, name in zip(axes, names, strict=True):
        axis.set_title(name, fontsize=7)
        axis.set_anchor("N")
        axis.set_xticks([])
        axis.set_yticks([])
    for name, share in zip(SIDES.get(panel.view, ""), (0.03, 0.97), strict=False):
        axes[0].text(share, 0.995, name, transform=axes[0].transAxes, fontsize=6, va="top",
                     ha="left" if share < 0.5 else "right")  # fmt: skip
    if panel.pixel_mm is not None:
        left, foot = size[1] * 0.04, max(bottom, box.y1) - 0.02 * size[0]
        axes[0].plot([left, left + 200 / column_mm], [foot, foot], color="black", linewidth=1.5)
        axes[0].text(left, foot - 0.005 * size[0], "20 cm", fontsize=5, va="bottom")


def _body_rows(counts: NDArray[np.uint16] | NDArray[np.float32]) -> tuple[int, int]:
    """Return the rows from head to toes with a small margin: first, and after the last."""
    rows, columns = counts.shape
    held = np.flatnonzero(counts.sum(axis=1) > columns)
    margin = rows // 50
    if not held.size:
        return 0, rows
    return max(int(held[0]) - margin, 0), min(int(held[-1]) + margin, rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class SheetPanel:
    """One scan of a contact sheet.

    Attributes:
        title: such as "woman, 64 years".
        views: (rows, columns) counts of each view, anterior first.
    """

    title: str
    views: Sequence[NDArray[np.uint16] | NDArray[np.float32]]


def contact_sheet(
    panels: Sequence[SheetPanel], across: int, beside: SheetPanel | None = None
) -> Figure:
    """Draw scans side by side at one scale, each from head to toes, dark on white.

    Args:
        panels: the scans in reading order.
        across: scans per row.
        beside: one more, to the right of all rows, to compare with.
    """
    shown = [_head_to_toes(panel.views) for panel in panels]
    other = _head_to_toes(beside.views) if beside else np.zeros((1, 0), dtype=np.float32)
    high = max(picture.shape[0] for picture in [*shown, other]) + (title := 40)
    wide = max(picture.shape[1] for picture in shown)
    down = -(-len(panels) // across)
    canvas = np.zeros((high * down, wide * across + other.shape[1]), dtype=np.float32)
    corners = [(high * (i // across), wide * (i % across)) for i in range(len(panels))]
    names = [panel.title for panel in panels]
    if beside:
        shown.append(other)
        corners.append((high * (down - 1) // 2, wide * across))
        names.append(beside.title)
    figure = Figure(figsize=(canvas.shape[1] / 200, canvas.shape[0] / 200))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    for picture, (top, left), name in zip(shown, corners, names, strict=True):
        rows, columns = picture.shape
        canvas[top + title : top + title + rows, left : left + columns] = picture
        axis.text(left + columns / 2, top + title / 2, name, ha="center", va="center", fontsize=7)
    axis.imshow(canvas, cmap="gray_r", vmin=0, vmax=1)
    return figure


def _head_to_toes(views: Sequence[NDArray[np.uint16] | NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the views beside each other on 0-1, without the empty rows above and below.

    A power of 0.7 shows soft tissue about as a reader's display does.
    """
    total = np.sum([view.astype(np.float32) for view in views], axis=0)
    top, bottom = _body_rows(total)
    shown = [np.clip(view / white_level(view), 0, 1) ** 0.7 for view in views]
    return np.concatenate(shown, axis=1)[top:bottom].astype(np.float32)


def learning_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw how training went: loss above, validation below, the epoch that was kept marked.

    Args:
        history: one mapping per epoch, as ``bae.fit`` reports them.
    """
    epochs = [metrics["epoch"] for metrics in history]
    best = min(history, key=lambda metrics: metrics["score"])
    name, unit = (
        ("mae_years", "validation error, years")
        if "mae_years" in best
        else ("cross_entropy", "validation cross-entropy")
    )
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(epochs, [m["train_loss"] for m in history], color="black", marker=".")
    above.set_ylabel("training loss")
    below.plot(epochs, [m[name] for m in history], color="black", marker=".")
    below.set_ylim(bottom=0)
    below.axvline(best["epoch"], color="#0072B2", linestyle="--", linewidth=1)
    below.annotate(
        f"kept: epoch {best['epoch']:.0f}, {best[name]:.2f}",
        (best["epoch"], 0.04), xycoords=("data", "axes fraction"), xytext=(-4, 0),
        textcoords="offset points", ha="right", color="#0072B2", fontsize=9,
    )  # fmt: skip
    below.set_ylabel(unit)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=150)
    return sink.getvalue()

"""Pictures, each a plain function of values. Bone scans are dark on white, as readers expect."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bae import roi
from bae.roi import Box

HEAT_COLOURS = "inferno"
"""Rises evenly in lightness, so it reads in print and with any colour vision."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionPanel:
    """One view of one scan with what the localizer found.

    Attributes:
        title: such as "anterior, predicted 63 years".
        counts: (rows, columns) stored counts.
        heat: (V, U) uint8 heat map of the table.
        box: the cropped box, stored pixels.
        pixel_mm: (row, column) spacing, for true proportions; None draws square pixels.
    """

    title: str
    counts: NDArray[np.uint16] | NDArray[np.float32]
    heat: NDArray[np.uint8]
    box: Box
    pixel_mm: tuple[float, float] | None = None


def white_level(counts: NDArray[np.uint16] | NDArray[np.float32]) -> float:
    """Return the count shown black: hot bladders and injection sites lie above it."""
    held = counts[counts > 0]
    return float(np.percentile(held, 99.5)) if held.size else 1.0


def regions(panels: Sequence[RegionPanel]) -> Figure:
    """Draw the paper's Figure 3: scan, heat map, overlay, crop; one row per view."""
    figure = Figure(figsize=(7.2, 5.6 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 4, squeeze=False, width_ratios=(1, 1, 1, 1.5))
    for row, panel in zip(axes, panels, strict=True):
        rows, columns = panel.counts.shape
        box = panel.box
        heat = roi.enlarge(panel.heat, (rows, columns))
        row_mm, column_mm = panel.pixel_mm or (1.0, 1.0)
        scan = {"cmap": "gray_r", "vmin": 0, "vmax": white_level(panel.counts),
                "aspect": row_mm / column_mm, "interpolation": "nearest"}  # fmt: skip
        warm = {"cmap": HEAT_COLOURS, "vmin": 0, "vmax": 255, "aspect": row_mm / column_mm}
        row[0].imshow(panel.counts, **scan)
        row[0].set_title("(a) scan", fontsize=9)
        row[1].imshow(heat, **warm)
        row[1].set_title("(b) heat map", fontsize=9)
        row[2].imshow(panel.counts, **scan)
        row[2].imshow(heat, alpha=0.45 * (heat / 255.0), **warm)
        row[2].set_title("(c) overlay, region", fontsize=9)
        row[3].imshow(panel.counts[box.y0 : box.y1, box.x0 : box.x1], **scan)
        row[3].set_title("(d) crop, stored pixels", fontsize=9)
        for axis in row[:3]:
            corner, size = (box.x0 - 0.5, box.y0 - 0.5), (box.x1 - box.x0, box.y1 - box.y0)
            axis.add_patch(Rectangle(corner, *size, fill=False, color="#0072b2", linewidth=1.4))
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(panel.title, fontsize=9)
    return figure


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
    rows, columns = views[0].shape
    held = np.nonzero(np.sum([view.sum(axis=1) for view in views], axis=0) > columns)[0]
    margin = rows // 50
    top, bottom = (max(held[0] - margin, 0), held[-1] + margin) if held.size else (0, rows)
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

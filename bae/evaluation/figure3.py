"""Figure 3 of a cohort: which scans to show, and their panels from tables and archive."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from bae.body import body_rows, white_level
from bae.evaluation import plots
from bae.evaluation.panels import RegionPanel
from bae.method import boxes
from bae.recipes import age_group
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR


def draw(
    outcomes: pa.Table,
    edges_years: Sequence[float],
    read: Callable[[Sequence[str]], Mapping[str, Sequence[RegionPanel]]],
) -> dict[str, Figure]:
    """Draw Figure 3 for each age group and sex, and for the five worst predictions.

    Args:
        outcomes: scan_id, sex, age_years and predicted_age_years of one model.
        edges_years: the recipe's edges of the age groups.
        read: scan_ids to panels of each scan that can still be read.

    Returns:
        ``figure3_anterior`` and ``figure3_posterior``, women left and men right, and
        ``figure3_worst``, one scan a row; without those that would be empty.
    """
    chosen, bad = typical(outcomes, edges_years), worst(outcomes)
    found = read([scan_id for scan_id in dict.fromkeys([*chosen, *bad]) if scan_id])
    shown = {
        f"figure3_{view}": [_one(found.get(scan_id or "", []), view) for scan_id in chosen]
        for view in (ANTERIOR, POSTERIOR)
    }
    shown["figure3_worst"] = [panel for scan_id in bad for panel in _pair(found.get(scan_id, []))]
    return {name: regions(own, across=2) for name, own in shown.items() if any(own)}


def _one(own: Sequence[RegionPanel], view: str) -> RegionPanel | None:
    return next((panel for panel in own if panel.view == view), None)


def _pair(own: Sequence[RegionPanel]) -> list[RegionPanel | None]:
    """Return anterior left and posterior right; a view of unknown name takes the free place."""
    if not own:
        return []
    pair = [_one(own, ANTERIOR), _one(own, POSTERIOR)]
    others = [panel for panel in own if panel not in pair]
    return [panel or (others.pop(0) if others else None) for panel in pair]


def typical(outcomes: pa.Table, edges_years: Sequence[float]) -> list[str | None]:
    """Choose one scan of each age group and sex, neither the best nor the worst.

    It is the one whose absolute error is the median of its group's (the lower of two).

    Returns:
        scan_id of woman and man of each group, youngest group first; None where nobody is.
    """
    rows = _errors(outcomes)
    chosen: list[str | None] = []
    for group in range(len(edges_years) - 1):
        for sex in (FEMALE, MALE):
            mine = sorted(
                (error, row["scan_id"])
                for error, row in rows
                if row["sex"] == sex and age_group(row["age_years"], edges_years) == group
            )
            chosen.append(mine[(len(mine) - 1) // 2][1] if mine else None)
    return chosen


def worst(outcomes: pa.Table, count: int = 5) -> list[str]:
    """Choose the scans with the largest absolute errors, the largest first."""
    order = sorted(_errors(outcomes), key=lambda pair: (-pair[0], pair[1]["scan_id"]))
    return [row["scan_id"] for _, row in order[:count]]


def _errors(outcomes: pa.Table) -> list[tuple[float, dict[str, Any]]]:
    """Return absolute error and row of each scan of known age."""
    columns = ["scan_id", "sex", "age_years", "predicted_age_years"]
    return [
        (abs(row["predicted_age_years"] - row["age_years"]), row)
        for row in outcomes.select(columns).to_pylist()
        if row["age_years"] is not None
    ]


HEAT_COLOURS = "inferno"
"""Rises evenly in lightness, so it reads in print and with any colour vision."""

SIDES = {ANTERIOR: "RL", POSTERIOR: "LR"}
"""Which of the patient's sides is on the left and the right of the figure."""


def regions(panels: Sequence[RegionPanel | None], across: int = 1) -> Figure:
    """Draw the paper's Figure 3: scan, heat map, overlay, crop for each panel.

    Several boxes have numbers, and in place of the crop each its own, with the place's name
    and the share of the answer.

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
        wide_crops = 1.25 if len(panel.boxes) == 1 else 1.7
        _region(place.subplots(1, 4, width_ratios=(1, 1, 1, wide_crops)), panel)
    return figure


def scan_style(panel: RegionPanel) -> dict[str, Any]:
    """Return how ``imshow`` draws a panel's counts: dark on white, in their true proportions."""
    row_mm, column_mm = panel.pixel_mm or (1.0, 1.0)
    white = white_level(panel.counts)
    aspect = row_mm / column_mm
    return {
        "cmap": "gray_r",
        "vmin": 0,
        "vmax": white,
        "aspect": aspect,
        "interpolation": "nearest",
    }


def overlay(axis: Axes, panel: RegionPanel, counts: NDArray[Any], style: dict[str, Any]) -> None:
    """Draw counts with the panel's heat over them, whose lower half leaves them as they are."""
    heat = boxes.enlarge(panel.heat, counts.shape)
    warm = {"cmap": HEAT_COLOURS, "vmin": 0, "vmax": 255, "aspect": style["aspect"]}
    axis.imshow(counts, **style)
    axis.imshow(heat, alpha=0.6 * np.clip(heat / 127.5 - 1, 0, 1), **warm)


def frames(axis: Axes, panel: RegionPanel, linewidth: float, fontsize: float = 6.0) -> None:
    """Draw the edges of the panel's boxes; of several each has its number, from 1."""
    for number, box in enumerate(panel.boxes, 1):
        corner, sides = (box.x0 - 0.5, box.y0 - 0.5), (box.x1 - box.x0, box.y1 - box.y0)
        edge = Rectangle(corner, *sides, fill=False, color=plots.BLUE, linewidth=linewidth)
        axis.add_patch(edge)
        if len(panel.boxes) > 1:
            halo = [patheffects.withStroke(linewidth=1.6, foreground="white")]
            # outside, where there is no bone to hide; on the side that is nearer to the edge
            left = box.x0 + box.x1 < panel.counts.shape[1]
            axis.text(
                box.x0 if left else box.x1,
                box.y0,
                str(number),
                color=plots.BLUE,
                fontsize=fontsize,
                fontweight="bold",
                va="top",
                ha="right" if left else "left",
                path_effects=halo,
            )


def crops(
    axis: Axes,
    panel: RegionPanel,
    counts: NDArray[Any],
    style: dict[str, Any],
    *,
    fontsize: float,
    names: bool = True,
) -> list[Axes]:
    """Draw what was cut out: one box fills the axis, several take its place side by side.

    Of several each says its number, its place (where there is room for ``names``) and its
    share of the answer.
    """
    if len(panel.boxes) == 1:
        box = panel.box
        axis.imshow(counts[box.y0 : box.y1, box.x0 : box.x1], **style)
        return [axis]
    figure, place = axis.figure, axis.get_subplotspec()
    assert place is not None
    axis.remove()
    across = 2 if len(panel.boxes) > 3 else 1
    grid = place.subgridspec(-(-len(panel.boxes) // across), across)
    drawn = []
    for number, box in enumerate(panel.boxes, 1):
        own = figure.add_subplot(grid[number - 1])
        own.imshow(counts[box.y0 : box.y1, box.x0 : box.x1], **style)
        text = textwrap.fill(f"{number} {box.name}", 15) if names and box.name else f"{number}"
        share = "" if box.weight is None else f"{100 * box.weight:.0f} %"
        own.set_title(f"{text}\n{share}", fontsize=fontsize, pad=2, linespacing=0.95)
        drawn.append(own)
    return drawn


def _region(axes: NDArray[np.object_], panel: RegionPanel) -> None:
    """Draw one panel into four axes."""
    size = panel.counts.shape
    style = scan_style(panel)
    heat = boxes.enlarge(panel.heat, size)
    axes[0].imshow(panel.counts, **style)
    axes[1].imshow(heat, cmap=HEAT_COLOURS, vmin=0, vmax=255, aspect=style["aspect"])
    overlay(axes[2], panel, panel.counts, style)
    if panel.gamma is not None and heat.min() < panel.gamma <= heat.max():
        axes[2].contour(heat, [panel.gamma], colors=plots.BLUE, linewidths=0.7)
    cut = crops(axes[3], panel, panel.counts, style, fontsize=6.5)
    top, bottom = body_rows(panel.counts)
    foot = max(bottom, *(box.y1 for box in panel.boxes))
    for axis in axes[:3]:
        frames(axis, panel, linewidth=1.2 if len(panel.boxes) == 1 else 0.9)
        axis.set_ylim(foot, min(top, *(box.y0 for box in panel.boxes)) - 0.5)
    names = ("(a) scan", "(b) heat map", "(c) overlay", "(d) crop")
    for axis, name in zip([*axes[:3], *cut[: len(cut) == 1]], names, strict=False):
        axis.set_title(name, fontsize=7)
    for axis in [*axes[:3], *cut]:
        axis.set_anchor("N")
        axis.set_xticks([])
        axis.set_yticks([])
    for name, share in zip(SIDES.get(panel.view, ""), (0.03, 0.97), strict=False):
        axes[0].text(
            share,
            0.995,
            name,
            transform=axes[0].transAxes,
            fontsize=6,
            va="top",
            ha="left" if share < 0.5 else "right",
        )
    if panel.pixel_mm is not None:
        left, base = size[1] * 0.04, foot - 0.02 * size[0]
        right = left + 200 / panel.pixel_mm[1]
        axes[0].plot([left, right], [base, base], color="black", linewidth=1.5)
        axes[0].text(left, base - 0.005 * size[0], "20 cm", fontsize=5, va="bottom")

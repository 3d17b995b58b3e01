"""Scans with their heat maps and boxes, ready to draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bae.scan import ANTERIOR, POSTERIOR, SEX_SINGULAR, Box, Scan
from bae.tables import settings


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionPanel:
    """One view of one scan with what the localizer found.

    Attributes:
        title: such as "woman, 64 years, predicted 63".
        view: ``anterior``, ``posterior`` or ``unknown``; says on which side R and L stand.
        counts: (rows, columns) stored counts.
        heat: (V, U) uint8 heat map of the table.
        boxes: what the answer was read from, stored pixels: the cropped box, or each region
            of a method of several, most heat first.
        pixel_mm: (row, column) spacing, for true proportions; None draws square pixels.
        gamma: threshold of Eq. (3), drawn as a contour on the overlay; None draws none.
    """

    title: str
    view: str
    counts: NDArray[np.uint16] | NDArray[np.float32]
    heat: NDArray[np.uint8]
    boxes: Sequence[Box]
    pixel_mm: tuple[float, float] | None = None
    gamma: float | None = None

    @property
    def box(self) -> Box:
        """The first of them."""
        return self.boxes[0]


def read_from(boxes: Sequence[Box]) -> list[Box]:
    """Return the boxes of a view that its answer comes from: all with a weight, or the first."""
    return [box for box in boxes if box.weight is not None] or list(boxes[:1])


COLD = {"heat": b"\0", "rows": 1, "columns": 1}
"""Heat map of a model that makes none."""


def region_panels(
    scan: Scan, heatmaps: Sequence[dict[str, Any]], boxes: Sequence[dict[str, Any]]
) -> list[RegionPanel]:
    """Put a scan's views together with its rows of ``heatmaps`` and ``boxes``.

    Args:
        heatmaps: rows of one model, one per scored view; none where it makes none.

    Returns:
        One panel per scored view, by ``view_index``.
    """
    left = list(scan.views)
    heats = {row["view_index"]: row for row in heatmaps}
    by_view: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(boxes, key=lambda row: (row["view_index"], row["box_index"])):
        by_view.setdefault(row["view_index"], []).append(row)
    panels = []
    for view_index, own in by_view.items():
        # a recipe of one view scores no other; two may both be of unknown name
        view = next(view for view in left if view.name == own[0]["view"])
        left.remove(view)
        heat = heats.get(view_index, COLD)
        panels.append(
            RegionPanel(
                title=view.name,
                view=view.name,
                counts=view.counts,
                heat=np.frombuffer(heat["heat"], np.uint8).reshape(heat["rows"], heat["columns"]),
                boxes=read_from([box_of(row) for row in own]),
                pixel_mm=scan.pixel_mm,
            )
        )
    return panels


def box_of(row: dict[str, Any]) -> Box:
    """Return a row of ``cohort/boxes`` as the value it was."""
    return Box(
        x0=row["x0"],
        y0=row["y0"],
        x1=row["x1"],
        y1=row["y1"],
        heat_share=row["heat_share"],
        weight=row["weight"],
        crown_sole=row["body_y"],
        midline=row["body_x"],
        name=row["region"],
        years=row["added_years"],
    )


def title(age: dict[str, Any], view: str) -> str:
    """Return what stands above a panel: sex, age, predicted age and view, as far as known."""
    known = ""
    if age["age_years"] is not None:
        old = age["age_years"] > settings.OLDEST_YEARS
        known = "over 89 years, " if old else f"{age['age_years']:.0f} years, "
    side = f", {view}" if view in (ANTERIOR, POSTERIOR) else ""
    sex = f"{SEX_SINGULAR[age['sex']]}, " if age["sex"] else ""
    return f"{sex}{known}predicted {age['predicted_age_years']:.0f} years{side}"

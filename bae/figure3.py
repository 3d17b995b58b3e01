"""Figure 3 of a cohort: which scans to show, and their panels from tables and archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from bae import figures, reread, tables
from bae.figures import RegionPanel
from bae.roi import Box
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR, Scan

WORDS = {FEMALE: "woman, ", MALE: "man, ", None: ""}


def draw(
    tables_uri: str, ages: pa.Table, edges_years: Sequence[float], gamma: float
) -> dict[str, Figure]:
    """Draw Figure 3 for each age group and sex, and for the five worst predictions.

    Args:
        tables_uri: root of the tables; their archive must be within reach.
        ages: rows of ``cohort/ages`` of one model.
        edges_years: the recipe's edges of the age groups.
        gamma: the recipe's threshold, for the contour.

    Returns:
        ``figure3_anterior`` and ``figure3_posterior``, women left and men right, and
        ``figure3_worst``, one scan a row; without those that would be empty.
    """
    chosen, bad = typical(ages, edges_years), worst(ages)
    wanted = [scan_id for scan_id in dict.fromkeys([*chosen, *bad]) if scan_id]
    found = panels(tables_uri, ages, wanted, gamma)
    shown = {
        f"figure3_{view}": [_one(found.get(scan_id or "", []), view) for scan_id in chosen]
        for view in (ANTERIOR, POSTERIOR)
    }
    shown["figure3_worst"] = [panel for scan_id in bad for panel in _pair(found.get(scan_id, []))]
    return {name: figures.regions(own, across=2) for name, own in shown.items() if any(own)}


def _one(own: Sequence[RegionPanel], view: str) -> RegionPanel | None:
    return next((panel for panel in own if panel.view == view), None)


def _pair(own: Sequence[RegionPanel]) -> list[RegionPanel | None]:
    """Return anterior left and posterior right; a view of unknown name takes the free place."""
    if not own:
        return []
    pair = [_one(own, ANTERIOR), _one(own, POSTERIOR)]
    others = [panel for panel in own if panel not in pair]
    return [panel or (others.pop(0) if others else None) for panel in pair]


def typical(ages: pa.Table, edges_years: Sequence[float]) -> list[str | None]:
    """Choose one scan of each age group and sex, neither the best nor the worst.

    It is the one whose absolute error is the median of its group's (the lower of two).

    Args:
        ages: rows of ``cohort/ages`` of one model; others than those with age and sex
            are left aside.
        edges_years: the recipe's edges of the age groups.

    Returns:
        scan_id of woman and man of each group, youngest group first; None where the
        cohort has none.
    """
    rows = [row for row in ages.to_pylist() if row["age_gap_years"] is not None]
    inner = edges_years[1:-1]
    chosen: list[str | None] = []
    for group in range(len(edges_years) - 1):
        for sex in (FEMALE, MALE):
            mine = sorted(
                (abs(row["age_gap_years"]), row["scan_id"])
                for row in rows
                if row["sex"] == sex and int(np.digitize(row["age_years"], inner)) == group
            )
            chosen.append(mine[(len(mine) - 1) // 2][1] if mine else None)
    return chosen


def worst(ages: pa.Table, count: int = 5) -> list[str]:
    """Choose the scans with the largest absolute errors, the largest first."""
    rows = [row for row in ages.to_pylist() if row["age_gap_years"] is not None]
    order = sorted(rows, key=lambda row: (-abs(row["age_gap_years"]), row["scan_id"]))
    return [row["scan_id"] for row in order[:count]]


def panels(
    tables_uri: str, ages: pa.Table, scan_ids: Sequence[str], gamma: float | None = None
) -> dict[str, list[RegionPanel]]:
    """Return each scan's panels, one per scored view, in the order of the views.

    Args:
        tables_uri: root of the tables; their archive must be within reach.
        ages: rows of ``cohort/ages`` of one model that hold the scans.
        scan_ids: which scans, each once; those that left the archive are missing from the answer.
        gamma: the recipe's threshold, for the contour.
    """
    said = {row["scan_id"]: row for row in ages.to_pylist()}
    found: dict[str, list[RegionPanel]] = {scan_id: [] for scan_id in scan_ids}
    heats, boxes = (_rows(tables_uri, name, ages, scan_ids) for name in ("heatmaps", "boxes"))
    for scan_id, scan in reread.scans(tables_uri, scan_ids):
        key = (scan_id, said[scan_id]["object_version"])
        own = [
            [row for row in rows if (row["scan_id"], row["object_version"]) == key]
            for rows in (heats, boxes)
        ]
        found[scan_id] = [
            replace(panel, title=_title(said[scan_id], panel.view), gamma=gamma)
            for panel in region_panels(scan, *own)
        ]
    return {scan_id: own for scan_id, own in found.items() if own}


COLD = {"heat": b"\0", "rows": 1, "columns": 1}
"""Heat map of a model that makes none."""


def region_panels(
    scan: Scan, heatmaps: Sequence[dict[str, Any]], boxes: Sequence[dict[str, Any]]
) -> list[RegionPanel]:
    """Put a scan's views together with its rows of ``heatmaps`` and ``boxes``.

    Args:
        scan: as indexed.
        heatmaps: rows of one model, one per scored view; none where it makes none.
        boxes: rows of the same.

    Returns:
        One panel per scored view, by ``view_index``.
    """
    left = list(scan.views)
    heats = {row["view_index"]: row for row in heatmaps}
    panels = []
    for box in sorted(boxes, key=lambda row: row["view_index"]):
        if box["box_index"]:
            continue
        # a recipe of one view scores no other; two may both be of unknown name
        view = next(view for view in left if view.name == box["view"])
        left.remove(view)
        heat = heats.get(box["view_index"], COLD)
        panels.append(
            RegionPanel(
                title=view.name,
                view=view.name,
                counts=view.counts,
                heat=np.frombuffer(heat["heat"], np.uint8).reshape(heat["rows"], heat["columns"]),
                box=Box(box["x0"], box["y0"], box["x1"], box["y1"], box["heat_share"]),
                pixel_mm=scan.pixel_mm,
            )
        )
    return panels


def _rows(
    tables_uri: str, name: str, ages: pa.Table, scan_ids: Sequence[str]
) -> list[dict[str, Any]]:
    models = pc.unique(ages["model_id"])
    mine = pc.field("scan_id").isin(pa.array(list(scan_ids), pa.string()))
    same = pc.field("model_id").isin(models)
    found = tables.dataset(tables_uri, f"cohort/{name}").to_table(filter=mine & same)
    order = [("scan_id", "ascending"), ("view_index", "ascending")]
    rows: list[dict[str, Any]] = found.sort_by(order).to_pylist()
    return rows


def _title(age: dict[str, Any], view: str) -> str:
    known = "" if age["age_years"] is None else f"{age['age_years']:.0f} years, "
    side = f", {view}" if view in (ANTERIOR, POSTERIOR) else ""
    return f"{WORDS[age['sex']]}{known}predicted {age['predicted_age_years']:.0f} years{side}"

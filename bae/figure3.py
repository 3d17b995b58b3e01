"""Figure 3 of a cohort: which scans to show, and their panels from tables and archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from bae import figures, reread, tables
from bae.figures import RegionPanel
from bae.labels import age_group
from bae.roi import Box
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR, Scan

WORDS = {FEMALE: "woman, ", MALE: "man, ", None: ""}


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


def typical(outcomes: pa.Table, edges_years: Sequence[float]) -> list[str | None]:
    """Choose one scan of each age group and sex, neither the best nor the worst.

    It is the one whose absolute error is the median of its group's (the lower of two).

    Args:
        outcomes: see ``draw``; scans without age or sex are left aside.
        edges_years: the recipe's edges of the age groups.

    Returns:
        scan_id of woman and man of each group, youngest group first; None where the
        cohort has none.
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


def panels(
    tables_uri: str, ages: pa.Table, scan_ids: Sequence[str]
) -> dict[str, list[RegionPanel]]:
    """Return each scan's panels, one per scored view, in the order of the views.

    Args:
        tables_uri: root of the tables; their archive must be within reach.
        ages: rows of ``cohort/ages`` of one model that hold the scans.
        scan_ids: which scans, each once; those that left the archive are missing from the answer.
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
            replace(panel, title=title(said[scan_id], panel.view))
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


def title(age: dict[str, Any], view: str) -> str:
    """Return what stands above a panel: sex, age, predicted age and view, as far as known."""
    known = "" if age["age_years"] is None else f"{age['age_years']:.0f} years, "
    side = f", {view}" if view in (ANTERIOR, POSTERIOR) else ""
    return f"{WORDS[age['sex']]}{known}predicted {age['predicted_age_years']:.0f} years{side}"

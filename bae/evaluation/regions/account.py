"""Where an answer comes from: a scan's regions in words, a cohort's as a table and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bae.evaluation import metrics, plots
from bae.evaluation.panels import RegionPanel
from bae.method.regional.places import both_sides
from bae.scan import Box

Row = dict[str, Any]

SHOWN = 4
"""Places that the account of a scan names."""


def account(boxes: Sequence[Box]) -> str:
    """Return what shares of a scan's answer its places have, the largest first.

    Args:
        boxes: the regions of all its views.

    Returns:
        Such as "knees 31 %, lumbar spine 24 %, elsewhere 45 %": left and right together, both
        views together; empty for a method of one region.
    """
    shares: dict[str, float] = {}
    for box in boxes:
        if box.weight:
            place = both_sides(box.name) if box.name else "unnamed"
            shares[place] = shares.get(place, 0.0) + box.weight
    order = sorted(shares, key=lambda place: (-shares[place], place))
    pieces = [f"{place} {100 * shares[place]:.0f} %" for place in order[:SHOWN]]
    if order[SHOWN:]:
        rest = sum(shares[place] for place in order[SHOWN:])
        pieces.append(f"elsewhere {100 * rest:.0f} %")
    return ", ".join(pieces)


def by_region(
    seen: Mapping[str, Sequence[RegionPanel]], rows: Mapping[str, Row]
) -> list[dict[str, Any]]:
    """Return what each place weighs in a cohort, the heaviest first.

    Args:
        seen: scan_id to panels.
        rows: scan_id to patient_key.

    Returns:
        One row per place that lies in a region of some scan: region, scans and patients in
        which it does; mean over all scans of the share of the answer (0 where there is
        none) with its 95 % interval over patients, and mean of the years that it adds,
        over the scans in which it does. Empty for a method of one region. Places of fewer
        than five patients are put together.
    """
    told = {name: _of(panels) for name, panels in seen.items()}
    told = {name: places for name, places in told.items() if places}
    patients = [rows[name]["patient_key"] for name in told]
    owners: dict[str, set[str]] = {}
    for name, places in told.items():
        for place in places:
            owners.setdefault(place, set()).add(rows[name]["patient_key"])
    rare = {place for place, own in owners.items() if len(own) < metrics.FEWEST}
    found = []
    for members in [*({place} for place in owners if place not in rare), rare]:
        here = [[pair for place, pair in p.items() if place in members] for p in told.values()]
        if not any(here):
            continue
        weights = np.array([sum(weight for weight, _ in own) for own in here])
        years = [sum(year for _, year in own) for own in here if own]
        keys = {key for key, own in zip(patients, here, strict=True) if own}
        mean = metrics.bootstrap(lambda w: [float(w.mean())], [weights], patients)[0]
        found.append(
            {
                "region": OTHER if members is rare else min(members),
                "scans": sum(bool(own) for own in here),
                "patients": len(keys),
                "weight": mean.value,
                "weight_low": mean.low,
                "weight_high": mean.high,
                "added_years": None if np.isnan(years).any() else float(np.mean(years)),
            }
        )
    return sorted(found, key=lambda row: (row["region"] == OTHER, -row["weight"]))


OTHER = "elsewhere"
"""Places of few people, together."""


def _of(panels: Sequence[RegionPanel]) -> dict[str, tuple[float, float]]:
    """Return weight and years (NaN where not known) of each named place of one scan."""
    found: dict[str, tuple[float, float]] = {}
    for box in (box for panel in panels for box in panel.boxes):
        if box.weight is not None and box.name is not None:
            weight, years = found.get(box.name, (0.0, 0.0))
            added = np.nan if box.years is None else box.years
            found[box.name] = (weight + box.weight, years + added)
    return found


def atlas_by_region(table: Sequence[Row]) -> Figure:
    """Draw each place's mean share of the answer, with its interval and the years it adds."""
    figure = Figure(figsize=(5.2, 0.9 + 0.24 * len(table)), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(table))
    shares = np.array([[row["weight_low"], row["weight"], row["weight_high"]] for row in table])
    spread = np.abs(shares[:, [0, 2]] - shares[:, [1]]).T * 100
    axis.barh(at, shares[:, 1] * 100, color=plots.BLUE, alpha=0.75, height=0.7)
    axis.errorbar(shares[:, 1] * 100, at, xerr=spread, fmt="none", ecolor="black", elinewidth=0.8)
    edge = float(shares[:, 2].max()) * 100
    for y, row in enumerate(table):
        if row["added_years"] is not None:
            # adding 0 makes a negative zero a plain one
            text = f"{round(row['added_years'], 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
            axis.text(edge * 1.22, y, text, fontsize=7, ha="right", va="center")
    axis.text(edge * 1.22, -0.95, "years", fontsize=7, ha="right", va="center")
    axis.set_xlim(0, edge * 1.25)
    axis.set_yticks(at, [row["region"] for row in table], fontsize=7)
    axis.set_ylim(len(table) - 0.4, -1.4)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("mean share of the answer, %; right: years added where it is seen", fontsize=7)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure

"""Ten scans with their regions, to be judged by eye.

``python -m tests.bench.regions_sheet --tables URI --model URI --out PNG``: held-out scans of both
sexes, young to old, anterior above posterior: heat, numbered boxes, and each scan's account.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bae.body import body_rows
from bae.evaluation import figure3
from bae.evaluation.panels import RegionPanel
from bae.evaluation.regions import examine
from bae.evaluation.regions.account import account
from bae.method.predictor import Predictor
from bae.scan import FEMALE, MALE
from bae.tables import connect

OF_EACH = 5


def chosen(tables_uri: str) -> dict[str, dict[str, Any]]:
    """Return rows of test scans by scan_id: of each sex some, evenly by age."""
    asked = connect(tables_uri, restricted=True)
    found = {}
    for sex in (FEMALE, MALE):
        rows = asked.sql(
            "SELECT DISTINCT ON (patient_key) scan_id, patient_key, sex, age_years FROM scans "
            "WHERE split = 'test' AND sex = $sex AND len(views) = 2 AND age_years IS NOT NULL "
            "ORDER BY patient_key, scan_id",
            params={"sex": sex},
        ).to_arrow_table()
        rows = sorted(rows.to_pylist(), key=lambda row: row["age_years"])
        at = np.linspace(0, len(rows) - 1, min(OF_EACH, len(rows))).round().astype(int)
        found |= {rows[i]["scan_id"]: rows[i] for i in at}
    return found


def draw(scans: Sequence[tuple[str, Sequence[RegionPanel]]]) -> Figure:
    """Draw scans side by side.

    Args:
        scans: of each its title, and its panels.
    """
    figure = Figure(figsize=(1.55 * len(scans), 8.6), layout="constrained")
    axes = figure.subplots(2, len(scans), squeeze=False)
    for column, (title, panels) in enumerate(scans):
        own = {panel.view: panel for panel in panels}
        for axis, view in zip(axes[:, column], ("anterior", "posterior"), strict=True):
            axis.set_axis_off()
            if view not in own:
                continue
            panel = own[view]
            figure3.overlay(axis, panel, panel.counts, figure3.scan_style(panel))
            figure3.frames(axis, panel, linewidth=0.8, fontsize=6)
            top, bottom = body_rows(panel.counts)
            axis.set_ylim(bottom, top)
        axes[0, column].set_title(title, fontsize=7)
        told = account([box for panel in panels for box in panel.boxes])
        axes[1, column].set_title(textwrap.fill(told, 24), fontsize=5.5)
    return figure


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--tables", "--model", "--out"):
        parser.add_argument(flag, required=True)
    options = parser.parse_args()
    rows = chosen(options.tables)
    predictor = Predictor.load(options.model)
    for row in rows.values():
        row["predicted_age_years"] = float("nan")
    seen = dict(examine.panels(options.tables, predictor, list(rows), rows))
    sheet = [
        (f"{rows[name]['sex']} {rows[name]['age_years']:.0f}", seen[name])
        for name in rows
        if name in seen
    ]
    draw(sheet).savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()

"""What recipe ``regional`` sees of one scan, as a row of pictures.

``python -m tests.bench.regional_steps --tables URI --model URI --out FILE``: a held-out scan as it
is stored, brought onto the cohort's mean body, the mean body itself, where a usual change of
uptake would move the answer, and what each place adds to or takes from it in years.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure

from bae.body import white_level
from bae.method import model
from bae.method.regional import uptake
from bae.method.regional.frame import blurred, body_level, lay, stack
from bae.method.regional.reader import Reader
from bae.pipeline import reread
from bae.scan import ANTERIOR, SEX_CODE, SEX_SINGULAR, Scan
from tests.bench.regions_sheet import chosen

OLDEST_YEARS = 80.0


def draw(reader: Reader, scan: Scan, kind: str = ANTERIOR) -> Figure:
    """Draw the steps of one view."""
    view = next(view for view in scan.views if view.name == kind)
    sheet = lay(view.counts, scan.pixel_mm)
    placed_YX = reader.templates[kind].register(stack([sheet])).density_NYX[0]
    linear, body_YH = reader.models[kind], reader.bodies[kind]
    male = np.array([SEX_CODE[scan.sex]])
    columns_1J = uptake.features(placed_YX[None], body_YH).numpy()
    years_YX = uptake.onto_body(torch.from_numpy(linear.account(columns_1J, male)[0]), body_YH)
    heat_YX = reader.importance(kind, float(male[0]))
    years = float(linear.predict(columns_1J, male)[0])
    shown_YX = (placed_YX / body_level(placed_YX[None])).clamp(0, 4).sqrt()
    mean_YX = reader.templates[kind].mean_PYX[0]
    body_YX = torch.cat([body_YH, body_YH.flip(-1)], dim=1).float()

    def smooth(map_YX: torch.Tensor) -> np.ndarray:
        return np.where(body_YX > 0, blurred(map_YX[None], 1.0)[0], np.nan)

    counts = np.sqrt(np.minimum(view.counts, white_level(view.counts)))
    most = float(np.nanmax(np.abs(smooth(years_YX))))
    pictures = (
        ("as stored", counts, "Greys", None),
        ("on the cohort's frame", shown_YX.numpy(), "Greys", None),
        ("the cohort's mean body", mean_YX.numpy(), "Greys", None),
        ("where a usual change\nmoves the answer", smooth(heat_YX), "magma_r", None),
        ("older (red), younger (blue)\nthan the mean age", smooth(years_YX), "RdBu_r", most),
    )
    figure = Figure(figsize=(8.6, 5.0), layout="constrained")
    for axis, (title, picture, colours, limit) in zip(
        figure.subplots(1, len(pictures)), pictures, strict=True
    ):
        axis.set_axis_off()
        aspect = "auto" if title == "as stored" else "equal"
        axis.imshow(
            picture, cmap=colours, aspect=aspect, vmax=limit, vmin=None if limit is None else -limit
        )
        axis.set_title(title, fontsize=8)
        if title == "as stored":
            axis.set_box_aspect(shown_YX.shape[0] / shown_YX.shape[1])
    who = SEX_SINGULAR.get(scan.sex or "", "person")
    figure.suptitle(
        f"{who} of {scan.age_years:.0f} years, read as {years:.0f} from this view alone "
        f"(cohort's mean age {linear.years:.0f})",
        fontsize=9,
    )
    return figure


def main() -> None:
    """Draw the oldest woman of the test split whose age the recipe's groups hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--tables", "--model", "--out"):
        parser.add_argument(flag, required=True)
    options = parser.parse_args()
    reader = model.load_regional(options.model, model.load_card(options.model))
    rows = list(chosen(options.tables).values())
    women = [row for row in rows if row["sex"] == "F" and row["age_years"] <= OLDEST_YEARS]
    oldest = max(women, key=lambda row: row["age_years"])
    ((_, scan),) = reread.scans(options.tables, [oldest["scan_id"]])
    draw(reader, scan).savefig(options.out, dpi=130)


if __name__ == "__main__":
    main()

"""What BoNet's deformation layer does to ten scans, to be judged by eye.

``python -m tests.bench.deformation --model URI --out FILE``: simulated scans of both sexes, young
to old, anterior above posterior. The blue frame is what the layer reads in place of the whole
picture, whose edge is grey; the lines within are evenly spaced in what the layer gives on. Above:
width and height of the frame as shares of the picture's, and how far its middle has moved, in
half pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bae.evaluation import figure3, plots
from bae.evaluation.panels import RegionPanel
from bae.method.networks import Regressor
from bae.method.predictor import Predictor, localize, regressor_inputs
from bae.method.trunks.named import Deformation, affine
from bae.phantom import people, scan
from bae.phantom.limits import PhantomConfig
from bae.scan import FEMALE, MALE, Box

OF_EACH, OUT_OF, COHORT = 5, 80, 77
LINES = 7
"""Lines each way, the frame's sides among them."""


def chosen() -> list[int]:
    """Return which scans of the cohort are shown: of each sex some, evenly by age."""
    everyone = [people.visit(k, COHORT, PhantomConfig()) for k in range(OUT_OF)]
    found = []
    for sex in (FEMALE, MALE):
        rows = sorted((who.age_years, who.index) for who in everyone if who.sex == sex)
        at = np.linspace(0, len(rows) - 1, OF_EACH).round().astype(int)
        found += [rows[i][1] for i in at]
    return found


def maps(regressor: Regressor, inputs_N1HW: torch.Tensor) -> NDArray[np.float64]:
    """Return the affine map (N, 2, 3) that the layer chooses for each picture."""
    (layer,) = [module for module in regressor.modules() if isinstance(module, Deformation)]
    told: list[torch.Tensor] = []
    hook = layer.change.register_forward_hook(lambda module, inputs, output: told.append(output))
    with torch.inference_mode():
        regressor.look(inputs_N1HW)
    hook.remove()
    return np.asarray(affine(told[0]).double().numpy())


def lattice(theta_23: NDArray[np.float64], box: Box) -> list[NDArray[np.float64]]:
    """Return lines (points, x and y in pixels of the view): the four sides last."""
    steps, along = np.linspace(-1, 1, LINES), np.linspace(-1, 1, 30)
    order = [*steps[1:-1], -1.0, 1.0]
    lines = []
    for at in order:
        for x, y in ((np.full(30, at), along), (along, np.full(30, at))):
            read = np.stack([x, y, np.ones(30)], axis=1) @ theta_23.T
            corner, size = (box.x0, box.y0), (box.x1 - box.x0, box.y1 - box.y0)
            lines.append(corner + (read + 1) / 2 * size - 0.5)
    return lines


def told(theta_23: NDArray[np.float64]) -> str:
    """Return size and shift of the frame in words."""
    width, height = np.linalg.norm(theta_23[:, :2], axis=0)
    return f"{width:.2f} x {height:.2f}\n{theta_23[0, 2]:+.2f}, {theta_23[1, 2]:+.2f}"


def draw(scans: Sequence[tuple[str, Sequence[tuple[RegionPanel, NDArray[np.float64]]]]]) -> Figure:
    """Draw scans side by side: of each its title, and its panels with their maps."""
    figure = Figure(figsize=(1.55 * len(scans), 8.6), layout="constrained")
    axes = figure.subplots(2, len(scans), squeeze=False)
    for column, (title, panels) in enumerate(scans):
        for axis, (panel, theta_23) in zip(axes[:, column], panels, strict=True):
            axis.set_axis_off()
            axis.imshow(panel.counts, **figure3.scan_style(panel))
            for line in lattice(np.eye(2, 3), panel.box)[-4:]:
                axis.plot(*line.T, color=plots.GREY, linewidth=0.6, linestyle="--")
            *inner, left, top, right, bottom = lattice(theta_23, panel.box)
            for line in inner:
                axis.plot(*line.T, color=plots.BLUE, linewidth=0.4)
            for line in (left, top, right, bottom):
                axis.plot(*line.T, color=plots.BLUE, linewidth=1.4)
            rows, columns = panel.counts.shape
            axis.set_xlim(-0.15 * columns, 1.15 * columns)
            axis.set_ylim(1.1 * rows, -0.1 * rows)
            axis.set_title(f"{title}\n{told(theta_23)}", fontsize=6)
    return figure


def main() -> None:
    """Draw the sheet; print what the layer does on average."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--model", "--out"):
        parser.add_argument(flag, required=True)
    options = parser.parse_args()
    predictor = Predictor.load(options.model, "cpu")
    sheet, every = [], []
    for k in chosen():
        made = scan.make(k, seed=COHORT)
        found = localize(None, predictor.recipe, made.views, "cpu")
        inputs = torch.stack(regressor_inputs(predictor.recipe, found))
        thetas = maps(predictor.regressor, inputs)
        every.append(thetas)
        pixel = (made.pixel_mm, made.pixel_mm)
        panels = [
            RegionPanel(
                title=view.name,
                view=view.name,
                counts=view.counts,
                heat=np.zeros((1, 1), np.uint8),
                boxes=own.boxes,
                pixel_mm=pixel,
            )
            for view, own in zip(made.views, found, strict=True)
        ]
        sheet.append((f"{made.sex} {made.age_years:.0f}", list(zip(panels, thetas, strict=True))))
    draw(sheet).savefig(options.out, dpi=150)
    stacked = np.concatenate(every)
    print(f"mean map\n{stacked.mean(axis=0).round(3)}\nspread\n{stacked.std(axis=0).round(3)}")


if __name__ == "__main__":
    main()

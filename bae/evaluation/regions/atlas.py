"""Where does age show? Heat maps of a cohort on one body, averaged by age group and sex.

Views are brought onto their own mean body as ``bae.method.regional`` does it: by outline,
then by a smooth field. Only counts are needed, no landmarks.

Shape suffixes: V, U rows and columns of a heat map, Y, X those of the frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from bae.body import Counts
from bae.method.regional import frame, template
from bae.method.regional.frame import CELL_MM, FRAME
from bae.scan import ANTERIOR, POSTERIOR, SEX_PLURAL

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """One view and how it lies on the frame.

    Attributes:
        size_mm: height and width of the whole view; of square millimetres where the pixel
            size is not known.
        affine: of its sheet, see ``frame.Sheet``.
        field_2YX: its displacement, see ``template.Registered``.
        density_YX: counts per mm^2 on the frame, NaN outside the view.
    """

    size_mm: tuple[float, float]
    affine: Floats
    field_2YX: Tensor
    density_YX: Tensor

    def onto_frame(self, picture: NDArray[np.generic]) -> Floats32:
        """Sample a picture that covers the whole view, of any resolution, on the frame.

        Args:
            picture: (rows, columns), as a heat map.

        Returns:
            (Y, X) float32, linear between cell middles; what lies outside the view has the
            value of its border.
        """
        cells_2YX = np.indices(FRAME) + 0.5 + self.field_2YX.numpy()
        turn, shift = self.affine[:, :2] * CELL_MM, self.affine[:, 2]
        view_mm = np.tensordot(turn, cells_2YX, 1) + shift[:, None, None]
        per_mm = np.array(picture.shape) / self.size_mm
        at_2YX = view_mm * per_mm[:, None, None] - 0.5
        values = np.asarray(picture, np.float32)
        seen_YX = ndimage.map_coordinates(values, at_2YX, order=1, mode="nearest")
        return np.asarray(seen_YX, np.float32)

    def to_frame(self, view_mm: Floats) -> Floats:
        """Return (points, 2) frame mm (y, x) of points given in mm from the view's corner."""
        cells = template.to_frame(torch.from_numpy(view_mm).float(), self.field_2YX, self.affine)
        return np.asarray(cells.numpy() * CELL_MM, np.float64)


def place(views: Sequence[tuple[Counts, tuple[float, float] | None]]) -> list[Placed]:
    """Bring views of one kind (all anterior, or all posterior) onto their mean body.

    Args:
        views: counts and (row, column) spacing in mm of each; None where it is not known.

    Returns:
        One per view, in the same order.
    """
    sheets = [frame.lay(counts, pixel_mm) for counts, pixel_mm in views]
    _, found = template.learn(frame.stack(sheets))
    return [
        Placed(
            size_mm=frame.size_mm(counts, pixel_mm),
            affine=sheet.affine,
            field_2YX=found.field_N2YX[i],
            density_YX=found.density_NYX[i],
        )
        for i, (sheet, (counts, pixel_mm)) in enumerate(zip(sheets, views, strict=True))
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mean:
    """The mean of some views on the frame.

    Attributes:
        heat: (Y, X) mean heat, 0-255.
        scan: (Y, X) mean picture, root counts in units of their mean over the body.
        scans: how many views.
    """

    heat: Floats32
    scan: Floats32
    scans: int


def average(placed: Sequence[Placed], heatmaps: Sequence[NDArray[np.uint8]]) -> Mean:
    """Average views and their heat maps on the frame.

    Args:
        placed: one or more views.
        heatmaps: (V, U) of each, 0-255.
    """
    heat = np.mean([view.onto_frame(own) for view, own in zip(placed, heatmaps, strict=True)], 0)
    density_NYX = torch.stack([view.density_YX for view in placed])
    relative_NYX = density_NYX / frame.body_level(density_NYX)[:, None, None]
    # bladders are tamed as where views are compared; a hand that a view cuts off is not faint
    roots_NYX = relative_NYX.clamp(0, template.BRIGHTEST).sqrt()
    scan = roots_NYX.nanmean(dim=0).nan_to_num().numpy()
    return Mean(heat=heat.astype(np.float32), scan=scan, scans=len(placed))


ATLAS_COLOURS = "YlOrRd"
"""ColorBrewer's: hotter is darker, so it stands out on white, prints, and any eye sees it."""


def atlas(means: Mapping[tuple[str, str, int], Mean], groups: Sequence[str]) -> Figure:
    """Draw where age shows: mean heat on the mean body, by age group and sex.

    The body is grey, the heat's upper half of the scale runs from light to dark red; the
    lines are its levels 128 and 192, so the picture also reads without any colour.

    Args:
        means: (view, sex, group) to mean, as ``bae.evaluation.regions.examine.means`` gives them.
        groups: what each age group is called, youngest first.
    """
    figure = Figure(figsize=(1.8 * len(groups) + 0.3, 6.6))
    # two views close together, then a gap
    widths = ([1, 1, 0.15] * len(groups))[:-1]
    margins = {"left": 0.04, "right": 0.99, "top": 0.92, "bottom": 0.12}
    grid = figure.add_gridspec(
        2, len(widths), width_ratios=widths, wspace=0.06, hspace=0.1, **margins
    )
    shown = None
    for row, (sex, word) in enumerate(SEX_PLURAL.items()):
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
                axis.annotate(
                    groups[group], (1.03, 1.07), xycoords="axes fraction", ha="center", fontsize=9
                )
            if mean is None:
                axis.set_aspect(FRAME[0] / FRAME[1], "box")
            else:
                shown = _mean(axis, mean)
    if shown is not None:
        axis = figure.add_axes((0.3, 0.065, 0.4, 0.015))
        bar = figure.colorbar(shown, cax=axis, orientation="horizontal", alpha=0.75)
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
            axis.contour(
                mean.heat, [level], colors="black", extent=extent, origin="upper", linewidths=width
            )
    return shown

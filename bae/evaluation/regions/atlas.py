"""Where does age show? Heat maps of a cohort on one body, averaged by age group and sex.

Each view is brought onto a frame by an affine map: a first guess from the body's outline
(crown, soles, middle of the trunk), then the six numbers that make its picture most like
the cohort's mean picture (least squares). Only counts are needed, no landmarks; pixel
sizes help, but an unknown one costs only the first guess.

Shape suffixes: R, C rows and columns of a stored view, V, U of a heat map, Y, X rows and
columns of the frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from scipy import ndimage, optimize

from bae.body import body_cells
from bae.scan import ANTERIOR, POSTERIOR, SEX_PLURAL

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

CELL_MM = 8.0
"""Side of the frame's cells: finer than any heat map, coarser than the body's noise."""
FRAME = (234, 80)
"""Rows and columns of the frame: 1872 x 640 mm."""
CROWN_MM, BODY_MM = 86.0, 1700.0
"""Where the crown lies on the frame, and how long the body is there, crown to toes."""
BLUR_CELLS = 1.5
"""Blur before fitting: bones of two people never lie within a cell."""
ROUNDS = 2
"""Fits of all scans to their mean; the mean gets sharper once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """One view and how it lies on the frame.

    Attributes:
        counts: (R, C) stored counts.
        pixel_mm: (row, column) spacing; (1, 1) where it is not known.
        affine: (2, 3) frame mm (y, x, 1) to view mm (y, x), both from the upper left corner.
    """

    counts: NDArray[np.uint16] | NDArray[np.float32]
    pixel_mm: tuple[float, float]
    affine: Floats

    def onto_frame(self, picture: NDArray[np.generic]) -> Floats32:
        """Sample a picture that covers the whole view, of any resolution, on the frame.

        Args:
            picture: (rows, columns): the counts, or a heat map.

        Returns:
            (Y, X) float32, linear between cell middles; what lies outside the view has the
            value of its border.
        """
        return _sampled(np.asarray(picture, np.float32), self._size_mm(), self.affine)

    def to_frame(self, column: Floats, row: Floats) -> Floats:
        """Return (points, 2) frame mm (y, x) of points given in pixels from the view's corner."""
        view = np.stack([row * self.pixel_mm[0], column * self.pixel_mm[1]], axis=-1)
        inverse = np.linalg.inv(self.affine[:, :2])
        return np.asarray((view - self.affine[:, 2]) @ inverse.T, np.float64)

    def _size_mm(self) -> Floats:
        return np.asarray(np.array(self.counts.shape) * np.array(self.pixel_mm), np.float64)


def place(
    views: Sequence[tuple[NDArray[np.uint16] | NDArray[np.float32], tuple[float, float] | None]],
) -> list[Placed]:
    """Bring views of one kind (all anterior, or all posterior) onto the frame.

    Args:
        views: counts and (row, column) spacing in mm of each.

    Returns:
        One per view, in the same order.
    """
    by_outline = [outline(counts, pixel_mm or (1.0, 1.0)) for counts, pixel_mm in views]
    roots = [_root(placed.counts) for placed in by_outline]
    fitted = by_outline
    for _ in range(ROUNDS):
        template = np.mean(
            [_blurred(p.onto_frame(root)) for p, root in zip(fitted, roots, strict=True)], axis=0
        )
        fitted = [_fit(placed, root, template) for placed, root in zip(fitted, roots, strict=True)]
    return fitted


def outline(
    counts: NDArray[np.uint16] | NDArray[np.float32], pixel_mm: tuple[float, float]
) -> Placed:
    """Place one view by its outline alone: crown, toes and the middle of the trunk."""
    size_mm = np.array(counts.shape) * np.array(pixel_mm)
    body = body_cells(counts)
    rows = np.flatnonzero(body.any(axis=1))
    if not rows.size:
        rows = np.arange(len(body))
    cell_mm = size_mm / body.shape
    top, bottom = rows[0] * cell_mm[0], (rows[-1] + 1) * cell_mm[0]
    trunk = body[rows[0] + len(rows) // 4 : rows[0] + len(rows) // 2]
    columns = np.nonzero(trunk)[1]
    middle = (columns.mean() + 0.5 if columns.size else body.shape[1] / 2) * cell_mm[1]
    scale = (bottom - top) / BODY_MM
    half_mm = FRAME[1] * CELL_MM / 2
    affine = np.array([[scale, 0, top - scale * CROWN_MM], [0, scale, middle - scale * half_mm]])
    return Placed(counts=counts, pixel_mm=pixel_mm, affine=affine)


def _fit(start: Placed, root: Floats32, template: Floats32) -> Placed:
    """Return the affine map near the start that makes the view most like the template."""
    size_mm, coarse = start._size_mm(), _coarse(root, start)
    middle = np.array([*np.array(FRAME) * CELL_MM / 2, 1.0])
    scale = start.affine[0, 0]
    # one unit of any parameter moves the edge of the body by about 10 mm of the frame
    units = scale * 10.0 * np.array([[1 / 850, 1 / 300, 1], [1 / 850, 1 / 300, 1]])
    centred = np.eye(3)
    centred[:2, 2] = -middle[:2]

    def affine(parameters: Floats) -> Floats:
        return np.asarray(start.affine + (units * parameters.reshape(2, 3)) @ centred)

    def difference(parameters: Floats) -> Floats:
        seen = _blurred(_sampled(coarse, size_mm, affine(parameters - 1.0)))
        return np.asarray((seen - template).ravel(), np.float64)

    # scipy takes its steps relative to the parameters: started at 1 they are about 1 mm
    best = optimize.least_squares(difference, np.ones(6), diff_step=[0.1], method="lm", max_nfev=60)
    return Placed(counts=start.counts, pixel_mm=start.pixel_mm, affine=affine(best.x - 1.0))


def _coarse(root: Floats32, placed: Placed) -> Floats32:
    """Return the picture on cells about half as large as the frame's: sampling gets faster."""
    cells = np.maximum(2 * placed._size_mm() / (placed.affine[0, 0] * CELL_MM), 8).astype(int)
    if (cells >= root.shape).any():
        return root
    tops, lefts = (np.arange(n) * m // n for n, m in zip(cells, root.shape, strict=True))
    sums = np.add.reduceat(np.add.reduceat(root, tops, axis=0), lefts, axis=1)
    heights, widths = np.diff(tops, append=root.shape[0]), np.diff(lefts, append=root.shape[1])
    return np.asarray(sums / np.outer(heights, widths), np.float32)


def _root(counts: NDArray[np.uint16] | NDArray[np.float32]) -> Floats32:
    """Return root counts in units of their mean over the body: noise even, bladders tamed."""
    held = np.asarray(counts, np.float32).clip(0)
    if not held.any():
        return held
    white = np.percentile(held[held > 0], 99.5)
    root = np.sqrt(np.minimum(held, white))
    return np.asarray(root / root[root > 0].mean(), np.float32)


def _blurred(picture: Floats32) -> Floats32:
    return np.asarray(ndimage.gaussian_filter(picture, BLUR_CELLS), np.float32)


def _sampled(picture: Floats32, size_mm: Floats, affine: Floats) -> Floats32:
    """Return the (Y, X) values of a picture of the whole view at the frame's cell middles."""
    per_mm = np.array(picture.shape) / size_mm
    matrix = per_mm[:, None] * affine[:, :2] * CELL_MM
    offset = per_mm * (affine[:, :2] @ [CELL_MM / 2, CELL_MM / 2] + affine[:, 2]) - 0.5
    return np.asarray(
        ndimage.affine_transform(picture, matrix, offset, FRAME, order=1, mode="nearest"),
        np.float32,
    )


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
    heat, scan = np.zeros(FRAME), np.zeros(FRAME)
    for view, own in zip(placed, heatmaps, strict=True):
        heat += view.onto_frame(own)
        scan += view.onto_frame(ndimage.gaussian_filter(_root(view.counts), 0.7))
    count = len(placed)
    return Mean(
        heat=(heat / count).astype(np.float32), scan=(scan / count).astype(np.float32), scans=count
    )


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

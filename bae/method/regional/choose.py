"""Which regions to look at: greedily by the heat they hold, each suppressing what it covers."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae.method.regional.frame import CELL_MM, FRAME
from bae.scan import Box

Corner = tuple[int, int]


def squares(heat_YX: NDArray[np.float32], count: int, size_mm: float) -> list[Corner]:
    """Return row and column of the upper left cells of squares on the frame, most heat first.

    Args:
        heat_YX: on the frame, not below 0; 0 where there is no body.
        count: how many squares at most; fewer where no heat is left.
        size_mm: side, in mm of the standard body.
    """
    left_YX = np.array(heat_YX, np.float64)
    side = round(size_mm / CELL_MM)
    found: list[Corner] = []
    for _ in range(count):
        summed = np.pad(left_YX.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        held = (
            summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side]
            + summed[:-side, :-side]
        )  # fmt: skip
        if not held.max() > 1e-9 * summed[-1, -1] or held.max() <= 0:
            break
        row, column = (int(i) for i in np.unravel_index(held.argmax(), held.shape))
        found.append((row, column))
        left_YX[row : row + side, column : column + side] = 0
    return found


def in_view(
    corner: Corner,
    size_mm: float,
    field_2YX: Tensor,
    affine: NDArray[np.float64],
    pixel_mm: tuple[float, float],
    size: Sequence[int],
    heat_share: float,
) -> Box | None:
    """Return a square of the frame as a box of stored pixels; None if it lies outside the view.

    Args:
        corner: see ``squares``.
        size_mm: side, in mm of the standard body; scaled to this body's length.
        field_2YX: displacement of the view, cells.
        affine: of the view's sheet.
        pixel_mm: (row, column) spacing; (1, 1) where not known, as in ``frame.lay``.
        size: rows and columns of the view.
        heat_share: see ``Box``.
    """
    middle = np.array(corner) + size_mm / CELL_MM / 2
    row, column = (min(int(at), n - 1) for at, n in zip(middle, FRAME, strict=True))
    moved = middle + field_2YX[:, row, column].numpy(force=True)
    at_mm = affine[:, :2] @ (moved * CELL_MM) + affine[:, 2]
    half_mm = size_mm / 2 * affine[0, 0]
    (y0, x0), (y1, x1) = (
        np.rint(np.clip((at_mm + way * half_mm) / np.array(pixel_mm), 0, size[:2])).astype(int)
        for way in (-1, 1)
    )
    if x1 <= x0 or y1 <= y0:
        return None
    return Box(int(x0), int(y0), int(x1), int(y1), heat_share)


def covered(corners: Sequence[Corner], size_mm: float) -> Tensor:
    """Return (K, Y, X) bool: the cells that each square has for itself, the first one first."""
    side = round(size_mm / CELL_MM)
    own = torch.zeros(len(corners), *FRAME, dtype=torch.bool)
    taken = torch.zeros(FRAME, dtype=torch.bool)
    for cells, (row, column) in zip(own, corners, strict=True):
        cells[row : row + side, column : column + side] = True
        cells &= ~taken
        taken |= cells
    return own

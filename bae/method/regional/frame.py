"""The frame that every body is brought onto, and how a view is first laid on it.

A frame of 8 mm cells holds a body of standard length. Only counts are needed, no landmarks:
crown, soles and the middle of the trunk. A pixel size makes the body's width true; an unknown
one costs no more than that.

Shape suffixes: N views, Y, X rows and columns of the frame, V, U those of a sheet (the frame
with its margins), C cells.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from bae.body import Counts, body_cells, cell_sums

CELL_MM = 8.0
"""Side of the frame's cells: finer than bones of two people ever agree."""
FRAME = (234, 80)
"""Rows and columns of the frame: 1872 x 640 mm."""
CROWN_MM, BODY_MM = 86.0, 1700.0
"""Where the crown lies on the frame, and how long the body is there, crown to toes."""
MARGIN = (16, 12)
"""Rows and columns of a sheet beyond the frame, each side: what displacements may reach for."""
SHEET = (FRAME[0] + 2 * MARGIN[0], FRAME[1] + 2 * MARGIN[1])
"""Rows and columns of a sheet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """One view laid on the frame by its outline.

    Attributes:
        density_VU: counts per mm^2 of each cell, NaN outside the view.
        affine: (2, 3) frame mm (y, x, 1) to view mm (y, x), both from the upper left corner.
    """

    density_VU: NDArray[np.float32]
    affine: NDArray[np.float64]


def size_mm(counts: Counts, pixel_mm: tuple[float, float] | None) -> tuple[float, float]:
    """Return height and width of a view; pixels of unknown size are taken for millimetres."""
    (rows, columns), (down, right) = counts.shape, pixel_mm or (1.0, 1.0)
    return rows * down, columns * right


def outline(counts: Counts, pixel_mm: tuple[float, float] | None) -> NDArray[np.float64]:
    """Return the (2, 3) map from frame mm to view mm that fits crown, soles and trunk.

    Args:
        counts: (rows, columns) of one view.
        pixel_mm: (row, column) spacing; None where unknown: the body's length makes up for it.
    """
    whole_mm = np.array(size_mm(counts, pixel_mm))
    body = body_cells(counts)
    rows = np.flatnonzero(body.any(axis=1))
    if not rows.size:
        rows = np.arange(len(body))
    cell_mm = whole_mm / body.shape
    top, bottom = rows[0] * cell_mm[0], (rows[-1] + 1) * cell_mm[0]
    trunk = body[rows[0] + len(rows) // 4 : rows[0] + len(rows) // 2]
    columns = np.nonzero(trunk)[1]
    middle = (columns.mean() + 0.5 if columns.size else body.shape[1] / 2) * cell_mm[1]
    scale = (bottom - top) / BODY_MM
    half_mm = FRAME[1] * CELL_MM / 2
    return np.array([[scale, 0, top - scale * CROWN_MM], [0, scale, middle - scale * half_mm]])


def lay(counts: Counts, pixel_mm: tuple[float, float] | None) -> Sheet:
    """Lay one view on the frame by its outline.

    Args:
        counts: (rows, columns).
        pixel_mm: (row, column) spacing; None where unknown.
    """
    affine = outline(counts, pixel_mm)
    whole_mm = np.array(size_mm(counts, pixel_mm))
    pixel_area_mm2 = np.float32((whole_mm / counts.shape).prod())
    # cells of half the frame's: what is finer is noise, and sampling it takes longer
    cells = np.maximum(np.ceil(2 * whole_mm / (affine[0, 0] * CELL_MM)), 8).astype(int)
    if (cells < counts.shape).all():
        sums, pixels = cell_sums(counts, (int(cells[0]), int(cells[1])))
        picture = (sums / pixels).astype(np.float32)
    else:
        picture = np.maximum(np.asarray(counts, np.float32), 0)
    picture = ndimage.gaussian_filter(picture, 0.8) / pixel_area_mm2
    per_mm = np.array(picture.shape) / whole_mm
    first_mm = (0.5 - np.array(MARGIN)) * CELL_MM
    density = ndimage.affine_transform(
        picture,
        per_mm[:, None] * affine[:, :2] * CELL_MM,
        per_mm * (affine[:, :2] @ first_mm + affine[:, 2]) - 0.5,
        SHEET,
        order=1,
        mode="constant",
        cval=np.nan,
    )
    return Sheet(density_VU=np.asarray(density, np.float32), affine=affine)


def stack(sheets: Sequence[Sheet]) -> Tensor:
    """Return the densities of sheets as one (N, V, U) tensor."""
    return torch.from_numpy(np.stack([sheet.density_VU for sheet in sheets]))


def body_coordinates(frame_cells: Tensor) -> Tensor:
    """Return (..., 2): 0 at the crown to 1 at the soles, and body lengths right of the midline."""
    down = (frame_cells[..., 0] * CELL_MM - CROWN_MM) / BODY_MM
    right = (frame_cells[..., 1] - FRAME[1] / 2) * CELL_MM / BODY_MM
    return torch.stack([down, right], dim=-1)


def body_level(density_NYX: Tensor) -> Tensor:
    """Return (N,) mean density over the body: cells above 0.12 of the 90th percentile."""
    cells_NC = density_NYX.nan_to_num().clamp_min(0).flatten(1)
    body_NC = cells_NC > 0.12 * cells_NC.quantile(0.9, dim=1, keepdim=True)
    mean_N = (cells_NC * body_NC).sum(1) / body_NC.sum(1).clamp_min(1)
    return mean_N.clamp_min(torch.finfo(torch.float32).tiny)


def blurred(picture_NYX: Tensor, sigma: float) -> Tensor:
    """Return pictures blurred by a Gaussian of ``sigma`` cells; edges are repeated."""
    down, right = (_blur(n, sigma).to(picture_NYX) for n in picture_NYX.shape[-2:])
    return down @ picture_NYX @ right.T


@functools.lru_cache(maxsize=32)
def _blur(cells: int, sigma: float) -> Tensor:
    """Return the (cells, cells) matrix that blurs a line; products beat convolutions here."""
    reach = int(3 * sigma + 0.5)
    away = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (away / sigma) ** 2)
    matrix = np.zeros((cells, cells))
    for step, weight in zip(away, bell / bell.sum(), strict=True):
        np.add.at(
            matrix, (np.arange(cells), np.clip(np.arange(cells) + step, 0, cells - 1)), weight
        )
    return torch.from_numpy(matrix.astype(np.float32))

"""Where in a view the body is, on means over a coarse grid: the same for every matrix.

All that asks for a body's place asks here: what may be a scan at all (``archive.body``), the
registration, and whatever draws or hides regions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Counts = NDArray[np.uint16] | NDArray[np.float32]

GRID_ROWS, GRID_COLUMNS = 128, 32

BODY_LEVEL = 0.12
"""A cell belongs to the body above this share of the 90th percentile of cells."""


@dataclass(frozen=True, eq=False)
class Shape:
    """What a coarse look at one view shows.

    Args:
        total: all counts, rounded.
        coherence: correlation of neighbouring cells.
        aspect: length over width of the body, in mm where the pixel size is known.
        upper_share: share of clipped counts in the upper half of the body.
        middle: counts of the middle columns over those of the fullest ones.
        distance: between the centres of counts of both halves, in widths of the picture.
        body: (GRID_ROWS, GRID_COLUMNS) cells of the body.
    """

    total: int
    coherence: float
    aspect: float
    upper_share: float
    middle: float
    distance: float
    body: NDArray[np.bool_]


def shape(counts: Counts, pixel_aspect: float = 1.0) -> Shape:
    """Measure one view.

    Args:
        counts: (rows, columns), at least as many as the grid has cells.
        pixel_aspect: height over width of a pixel.
    """
    rows, columns = counts.shape
    sums, areas = cell_sums(counts)
    total, cells = round(float(sums.sum())), (sums / areas).astype(np.float32)
    body = cells > BODY_LEVEL * max(float(np.percentile(cells, 90)), 1e-9)
    filled_rows = np.flatnonzero(body.sum(axis=1) >= 2)
    filled_columns = np.flatnonzero(body.sum(axis=0) >= 3)
    if not (filled_rows.size and filled_columns.size):
        return Shape(total, 0.0, 0.0, 0.0, 0.0, 0.0, np.zeros_like(body))
    top, bottom = filled_rows[0], filled_rows[-1] + 1
    left, right = filled_columns[0], filled_columns[-1] + 1
    length = (bottom - top) * rows / GRID_ROWS * pixel_aspect
    width = (right - left) * columns / GRID_COLUMNS
    # a bladder must not outweigh a skeleton
    clipped = np.minimum(cells, np.percentile(cells[body], 90))[top:bottom]
    profile = clipped.sum(axis=0)
    middle = GRID_COLUMNS // 2
    places = np.arange(GRID_COLUMNS)
    centres = [
        float((places[half] * profile[half]).sum() / max(profile[half].sum(), 1e-9))
        for half in (slice(None, middle), slice(middle, None))
    ]
    return Shape(
        total=total,
        coherence=_coherence(cells),
        aspect=float(length / width),
        upper_share=float(clipped[: len(clipped) // 2].sum() / clipped.sum()),
        middle=float(profile[middle - 1 : middle + 1].mean() / profile.max()),
        distance=(centres[1] - centres[0]) / GRID_COLUMNS,
        body=body,
    )


def cell_sums(
    counts: Counts, cells: tuple[int, int] = (GRID_ROWS, GRID_COLUMNS)
) -> tuple[NDArray[np.integer | np.floating], NDArray[np.intp]]:
    """Return sums and pixels of each of (rows, columns) cells; negative counts are artefacts: 0.

    Where a view has fewer pixels than cells, neighbouring cells share a pixel.
    """
    tops, lefts = (np.arange(n) * m // n for n, m in zip(cells, counts.shape, strict=True))
    values = counts if counts.dtype == np.uint16 else np.maximum(counts, 0)
    # 4096 x 4096 pixels of 65535 in 4096 cells stay below 2^32
    kind = np.uint32 if counts.dtype == np.uint16 else np.float64
    strips = np.add.reduceat(values, lefts, axis=1, dtype=kind)
    sums = np.add.reduceat(strips, tops, axis=0)
    heights, widths = (
        np.maximum(np.diff(edge, append=m), 1)
        for edge, m in zip((tops, lefts), counts.shape, strict=True)
    )
    return sums, np.outer(heights, widths)


def _coherence(cells: NDArray[np.float32]) -> float:
    """Return the correlation of each cell with the one below, on a root scale; 0 if all alike."""
    roots = np.sqrt(cells)
    with np.errstate(invalid="ignore"):
        return float(np.nan_to_num(np.corrcoef(roots[:-1].ravel(), roots[1:].ravel())[0, 1]))


def body_cells(counts: Counts) -> NDArray[np.bool_]:
    """Return (GRID_ROWS, GRID_COLUMNS) where the body is: the largest connected part.

    All that asks for a body's place asks here, so that it means the same everywhere.
    """
    parts, _ = ndimage.label(shape(counts).body, np.ones((3, 3), bool))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((parts == sizes.argmax()) & (parts > 0))


def only_body(counts: Counts) -> Counts:
    """Return the counts with all that lies over a cell away from the body set to 0."""
    cells = ndimage.binary_dilation(body_cells(counts), np.ones((3, 3), bool))
    return np.where(_pixels(cells, counts.shape), counts, 0)


def white_level(counts: Counts) -> float:
    """Return the count shown black: hot bladders and injection sites lie above it."""
    held = counts[counts > 0]
    return float(np.percentile(held, 99.5)) if held.size else 1.0


def body_rows(counts: Counts) -> tuple[int, int]:
    """Return the rows from head to toes with a small margin: first, and after the last."""
    rows = len(counts)
    held = np.flatnonzero(body_mask(counts).any(axis=1))
    if not held.size:
        return 0, rows
    margin = rows // 50
    return max(int(held[0]) - margin, 0), min(int(held[-1]) + 1 + margin, rows)


def extent(counts: Counts) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of the smallest box round all counts; all of a view without any."""
    rows, columns = (np.flatnonzero((counts > 0).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 0, 0, counts.shape[1], counts.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def body_mask(counts: Counts) -> NDArray[np.bool_]:
    """Return (R, C) which pixels show the body."""
    return _pixels(body_cells(counts), counts.shape)


def _pixels(cells: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which of (rows, columns) pixels lie in the grid's cells that are set."""
    down, right = (np.arange(n) * m // n for n, m in zip(size, cells.shape, strict=True))
    return np.asarray(cells[np.ix_(down, right)])

"""Do the counts show one whole body, head up? What decodes is not always a scan.

All measures are taken on means over a coarse grid, so that they mean the same for
counts, for grey values and for every matrix. The thresholds lie between what was
measured on simulated and real scans and on the same scans spoilt; the numbers are in
``bae/archive/NOTES.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bae.errors import ScanError
from bae.scan import View

Counts = NDArray[np.uint16] | NDArray[np.float32]

GRID_ROWS, GRID_COLUMNS = 128, 32

LEAST_COUNTS = 10_000
"""Counts in one view; the faintest simulated scan has 1.1 million, guidelines ask for more."""
LEAST_COHERENCE = 0.5
"""Correlation of neighbouring cells: 0.94 and more in scans, under 0.1 in noise."""
BODY_LEVEL = 0.12
"""A cell belongs to the body above this share of the 90th percentile of cells."""
LEAST_ASPECT, USUAL_ASPECT = 2.4, 2.6
"""Length over width of the body: 3.0-3.8 in whole bodies, 1.2-2.3 in halves."""
LEAST_UPPER_SHARE = 0.42
"""Share of counts in the upper half of the body: 0.62-0.70 head up (0.48 and more without
shins), 0.30-0.37 feet up."""
MOST_SATURATED, USUAL_SATURATED = 0.3, 0.02
"""Share of the body's pixels at the largest value; under 0.001 in unclipped scans."""
BRIGHT_BORDER = 0.5
"""Median of the border over the maximum: under 0.05 in counts, over 0.9 in inverted greys."""
SPLIT_MIDDLE = 0.3
"""Counts in the middle columns over the fullest: 0.48 and more with one body, to 0.25 with two."""
SPLIT_DISTANCE = 0.45
"""Between the counts' centres left and right, in widths: 0.28-0.42 with one body, 0.48-0.52
with two."""


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


def examine(
    views: Sequence[View], pixel_mm: tuple[float, float] | None
) -> tuple[list[View], set[str]]:
    """Refuse views that show no whole body, and flag what is odd.

    Grey values on a bright background are turned round first: in counts, nothing is
    near zero everywhere but the air around the body. Photometric Interpretation cannot
    tell, since archives use it for counts that are merely to be shown dark.

    Args:
        views: of one scan.
        pixel_mm: (row, column) spacing, None where not known.

    Returns:
        The views, and flags.

    Raises:
        ScanError: empty, constant, noise, saturated, half a body, two, or upside down.
    """
    flags: set[str] = set()
    upright = [_upright_grey(view, flags) for view in views]
    for view in upright:
        _examine(view, pixel_mm, flags)
    return upright, flags


def _upright_grey(view: View, flags: set[str]) -> View:
    counts = view.counts
    low, high = counts.min(), counts.max()
    if high <= 0:
        raise ScanError("image_empty", "no pixel has any counts")
    if low == high:
        raise ScanError("image_constant", "every pixel is the same")
    border = np.concatenate([counts[0], counts[-1], counts[:, 0], counts[:, -1]])
    if np.median(border) <= low + BRIGHT_BORDER * (float(high) - float(low)):
        return view
    flags.add("grey_inverted")
    return View(name=view.name, counts=high - counts)


def _examine(view: View, pixel_mm: tuple[float, float] | None, flags: set[str]) -> None:
    counts = view.counts
    row_mm, column_mm = pixel_mm or (1.0, 1.0)
    seen = shape(counts, row_mm / column_mm)
    if counts.dtype == np.uint16 and seen.total < LEAST_COUNTS:
        raise ScanError("image_empty", f"{seen.total} counts in a view, expected {LEAST_COUNTS}")
    if seen.coherence < LEAST_COHERENCE or not seen.body.any():
        raise ScanError(
            "image_noise", f"neighbours correlate by {seen.coherence:.2f}: {LEAST_COHERENCE} needed"
        )
    saturated = _saturated(counts, seen.body)
    if saturated > MOST_SATURATED:
        raise ScanError("image_saturated", f"{saturated:.0%} of the body at the largest value")
    if saturated > USUAL_SATURATED:
        flags.add("clipped")
    if seen.middle < SPLIT_MIDDLE and seen.distance > SPLIT_DISTANCE:
        raise ScanError("two_bodies", "the middle columns are empty and both sides are full")
    if seen.aspect < LEAST_ASPECT:
        raise ScanError(
            "half_body",
            f"the body is {seen.aspect:.1f} times as long as wide, expected {LEAST_ASPECT}",
        )
    if seen.aspect < USUAL_ASPECT:
        flags.add("body_short")
    if seen.upper_share < LEAST_UPPER_SHARE:
        raise ScanError(
            "upside_down", f"{seen.upper_share:.0%} of the counts in the upper half of the body"
        )


def shape(counts: Counts, pixel_aspect: float = 1.0) -> Shape:
    """Measure one view.

    Args:
        counts: (rows, columns), at least as many as the grid has cells.
        pixel_aspect: height over width of a pixel.
    """
    rows, columns = counts.shape
    sums, areas = _cell_sums(counts)
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


def _cell_sums(
    counts: Counts,
) -> tuple[NDArray[np.integer | np.floating], NDArray[np.intp]]:
    """Return (GRID_ROWS, GRID_COLUMNS) sums and pixels; negative counts are artefacts: 0."""
    rows, columns = counts.shape
    tops, lefts = (np.arange(n) * m // n for n, m in ((GRID_ROWS, rows), (GRID_COLUMNS, columns)))
    values = counts if counts.dtype == np.uint16 else np.maximum(counts, 0)
    # 4096 x 4096 pixels of 65535 in 4096 cells stay below 2^32
    kind = np.uint32 if counts.dtype == np.uint16 else np.float64
    strips = np.add.reduceat(values, lefts, axis=1, dtype=kind)
    sums = np.add.reduceat(strips, tops, axis=0)
    areas = np.outer(np.diff(tops, append=rows), np.diff(lefts, append=columns))
    return sums, areas


def _coherence(cells: NDArray[np.float32]) -> float:
    """Return the correlation of each cell with the one below, on a root scale; 0 if all alike."""
    roots = np.sqrt(cells)
    with np.errstate(invalid="ignore"):
        return float(np.nan_to_num(np.corrcoef(roots[:-1].ravel(), roots[1:].ravel())[0, 1]))


def _saturated(counts: Counts, body: NDArray[np.bool_]) -> float:
    """Return the share of the body's pixels that have the largest value."""
    at_top = int(np.count_nonzero(counts == counts.max()))
    return at_top / max(float(body.mean()) * counts.size, 1.0)


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


def body_mask(counts: Counts) -> NDArray[np.bool_]:
    """Return (R, C) which pixels show the body."""
    return _pixels(body_cells(counts), counts.shape)


def _pixels(cells: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which of (rows, columns) pixels lie in the grid's cells that are set."""
    down, right = (np.arange(n) * m // n for n, m in zip(size, cells.shape, strict=True))
    return np.asarray(cells[np.ix_(down, right)])

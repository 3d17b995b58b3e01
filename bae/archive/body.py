"""Do the counts show one whole body, head up? What decodes is not always a scan.

All measures are taken on means over a coarse grid, so that they mean the same for
counts, for grey values and for every matrix. The thresholds lie between what was
measured on simulated and real scans and on the same scans spoilt; the numbers are in
``bae/archive/NOTES.md``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bae.body import Counts, shape
from bae.errors import ScanError
from bae.scan import View

LEAST_COUNTS = 10_000
"""Counts in one view; the faintest simulated scan has 1.1 million, guidelines ask for more."""
LEAST_COHERENCE = 0.5
"""Correlation of neighbouring cells: 0.94 and more in scans, under 0.1 in noise."""
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

EDGE = 25
"""A drawn frame lies within this part of the rows and columns of an edge."""


def examine(
    views: Sequence[View], pixel_mm: tuple[float, float] | None
) -> tuple[list[View], set[str]]:
    """Refuse views that show no whole body, and flag what is odd.

    A frame that an export drew is blanked (``_unframed``). Then grey values on a bright
    background are turned round: in counts, nothing is
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
    upright = [_upright_grey(_unframed(view, flags), flags) for view in views]
    for view in upright:
        _examine(view, pixel_mm, flags)
    return upright, flags


def _unframed(view: View, flags: set[str]) -> View:
    """Blank lines along the edges whose pixels all have one value above 0, as no counts have.

    A frame would count as body, and as the brightest of it. Where most lines of an edge are of
    one value, they are a background and no frame: a padding, or white paper.
    """
    kept = view.counts
    for turned in (False, True):
        for at_end in (False, True):
            lines = kept.T if turned else kept
            lines = lines[::-1] if at_end else lines
            # corners aside, since a frame may lie a little inwards
            near, corner = lines[: len(lines) // EDGE], lines.shape[1] // 10
            middle = near[:, corner : lines.shape[1] - corner]
            drawn = (middle[:, 0] > 0) & (middle == middle[:, :1]).all(axis=1)
            if 0 < drawn.sum() <= len(near) // 2:
                kept = kept.copy()
                lines = kept.T if turned else kept
                (lines[::-1] if at_end else lines)[np.flatnonzero(drawn)] = 0
                flags.add("frame_blanked")
    return view if kept is view.counts else View(name=view.name, counts=kept)


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


def _saturated(counts: Counts, body: NDArray[np.bool_]) -> float:
    """Return the share of the body's pixels that have the largest value."""
    at_top = int(np.count_nonzero(counts == counts.max()))
    return at_top / max(float(body.mean()) * counts.size, 1.0)

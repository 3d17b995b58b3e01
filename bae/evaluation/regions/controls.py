"""What a choice of regions is compared with: other boxes, and how alike two choices are.

Shape suffixes: R, C rows and columns of a stored view, Y, X cells of the body's own frame.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bae.evaluation.panels import RegionPanel
from bae.method.boxes import elsewhere
from bae.method.regional import frame
from bae.scan import Box

Mask = NDArray[np.bool_]

ANATOMICAL = (
    (0.06, 0.0),  # skull
    (0.23, 0.0),  # thoracic spine and sternum
    (0.43, 0.0),  # pelvis
    (0.66, 0.0),  # knees
    (0.35, 0.0),  # lumbar spine
    (0.17, 0.09),  # left shoulder
    (0.17, -0.09),  # right shoulder
    (0.92, 0.0),  # feet
)
"""The fixed choice: where a reader would look for age, (crown to sole, midline) of the middles."""

TRIES = 12
"""Draws before a set of boxes counts as one that finds no room."""


def scattered(
    boxes: Sequence[Box], body_RC: Mask, rng: np.random.Generator, *, away: bool
) -> list[Box] | None:
    """Draw as many boxes of the same sizes that show about as much of the body.

    Args:
        boxes: the regions of one view.
        body_RC: which pixels of the view are body.
        rng: draws.
        away: whether the drawn ones must not lie on the regions; each shares at most a
            quarter of its area with those drawn before it.

    Returns:
        One box for each of ``boxes``; None where no draw found room for all.
    """
    for _ in range(TRIES):
        drawn: list[Box] = []
        for box in boxes:
            avoid = [(other, 0.25) for other in drawn]
            avoid += [(other, 0.0) for other in boxes if away]
            found = elsewhere(box, body_RC, rng, 1, avoid)
            if not found:
                break
            drawn += found
        else:
            return drawn
    return None


def anatomical(panel: RegionPanel) -> list[Box]:
    """Return as many boxes of the same sizes at the places of ``ANATOMICAL``, in its order.

    The body's frame is laid by its outline alone, as for somebody who has no method.
    """
    affine = frame.outline(panel.counts, panel.pixel_mm)
    rows, columns = panel.counts.shape
    boxes = []
    for box, (down, across) in zip(panel.boxes, ANATOMICAL, strict=False):
        y_mm = frame.CROWN_MM + down * frame.BODY_MM
        x_mm = frame.FRAME[1] * frame.CELL_MM / 2 + across * frame.BODY_MM
        middle = (affine @ [y_mm, x_mm, 1.0]) / (panel.pixel_mm or (1.0, 1.0))
        high, wide = box.y1 - box.y0, box.x1 - box.x0
        y0 = min(max(round(middle[0] - high / 2), 0), rows - high)
        x0 = min(max(round(middle[1] - wide / 2), 0), columns - wide)
        boxes.append(Box(x0, y0, x0 + wide, y0 + high, float("nan")))
    return boxes


def covered(boxes: Sequence[Box], size: tuple[int, ...]) -> Mask:
    """Return (R, C) which pixels of a view lie in any of the boxes."""
    mask_RC = np.zeros(size, bool)
    for box in boxes:
        mask_RC[box.y0 : box.y1, box.x0 : box.x1] = True
    return mask_RC


def alike(one: Mask, two: Mask) -> float:
    """Return intersection over union of two choices' areas, 0 to 1; 0 where both are empty."""
    union = int((one | two).sum())
    return int((one & two).sum()) / union if union else 0.0


CELLS = 200
"""Cells from crown to soles of the frame on which two visits are compared."""


def on_body(panel: RegionPanel) -> Mask | None:
    """Return (Y, X) which places of the body the boxes cover, by their body coordinates.

    Two views of different sizes, people or days are comparable there.

    Returns:
        None where a box does not say where on the body it lies.
    """
    affine = frame.outline(panel.counts, panel.pixel_mm)
    body_mm = affine[0, 0] * frame.BODY_MM
    row_mm, column_mm = panel.pixel_mm or (1.0, 1.0)
    mask_YX = np.zeros((CELLS * 3 // 2, CELLS), bool)
    for box in panel.boxes:
        if box.crown_sole is None or box.midline is None:
            return None
        middle = np.array([box.crown_sole + 0.25, box.midline + 0.5]) * CELLS
        half = np.array([(box.y1 - box.y0) * row_mm, (box.x1 - box.x0) * column_mm])
        half = half / body_mm * CELLS / 2
        top, left = np.maximum(np.rint(middle - half), 0).astype(int)
        bottom, right = np.maximum(np.rint(middle + half), 0).astype(int)
        mask_YX[top:bottom, left:right] = True
    return mask_YX

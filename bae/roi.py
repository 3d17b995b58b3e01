"""Heat map to mask to boxes to crop: Eq. (3), in the stored scan's own pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bae.recipes import Region


@dataclass(frozen=True)
class Box:
    """A rectangle of stored pixels, half-open: columns x0..x1-1, rows y0..y1-1.

    ``heat_share`` is the part of the view's summed 0-255 heat that lies inside, 0 to 1.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    heat_share: float


def enlarge(heat_VU: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Resize a heat map to the stored view, bilinear, outer edges aligned.

    Args:
        heat_VU: 0-255 map as the tables hold it.
        size: (rows, columns) of the stored view.

    Returns:
        (rows, columns) float32 on the 0-255 scale.
    """
    blend_y, blend_x = (_blend(*pair) for pair in zip(heat_VU.shape, size, strict=True))
    return (blend_y @ heat_VU.astype(np.float32)) @ blend_x.T


def _blend(small: int, large: int) -> NDArray[np.float32]:
    """Return the (large, small) matrix of linear interpolation between pixel centres."""
    at = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    low = np.minimum(at.astype(np.int64), max(small - 2, 0))
    part = (at - low).astype(np.float32)
    blend = np.zeros((large, small), np.float32)
    blend[np.arange(large), low] = 1 - part
    blend[np.arange(large), np.minimum(low + 1, small - 1)] += part
    return blend


def find_boxes(heat_VU: NDArray[np.uint8], size: tuple[int, ...], config: Region) -> list[Box]:
    """Find the region of interest by Eq. (3): the enlarged map at or above γ.

    Args:
        heat_VU: 0-255 map of one view.
        size: (rows, columns) of the stored view.
        config: γ, and what to do with a mask of several parts.

    Returns:
        The boxes, the one to crop first. ``parts="hottest"``: one box for each connected
        part (neighbours share an edge), highest heat first. ``parts="largest"``: the same,
        largest area of mask first. ``parts="all"``: one box round all parts. Where nothing
        reaches γ (a map without contrast), the whole view.
    """
    rows, columns = size
    heat_RC = enlarge(heat_VU, size)
    mask_RC = heat_RC >= config.gamma
    total = float(heat_RC.sum(dtype=np.float64))
    if not mask_RC.any():
        return [Box(0, 0, columns, rows, 1.0)]
    if config.parts == "all":
        slices = ndimage.find_objects(mask_RC.astype(np.int8))
    else:
        parts_RC, count = ndimage.label(mask_RC)
        peaks = ndimage.maximum(heat_RC, parts_RC, np.arange(1, count + 1))
        areas = np.bincount(parts_RC.ravel())[1:]
        rank = np.asarray(peaks if config.parts == "hottest" else areas, np.float64)
        found = ndimage.find_objects(parts_RC)
        slices = [found[i] for i in np.argsort(-rank, kind="stable")]
    return [
        Box(
            s[1].start,
            s[0].start,
            s[1].stop,
            s[0].stop,
            float(heat_RC[s].sum(dtype=np.float64)) / total if total > 0 else 0.0,
        )
        for s in slices
    ]


def overlap(one: Box, two: Box) -> float:
    """Return intersection over union of two boxes' areas, 0 to 1."""
    wide = max(min(one.x1, two.x1) - max(one.x0, two.x0), 0)
    high = max(min(one.y1, two.y1) - max(one.y0, two.y0), 0)
    union = sum((box.x1 - box.x0) * (box.y1 - box.y0) for box in (one, two)) - wide * high
    return wide * high / union


def elsewhere(
    box: Box, body_RC: NDArray[np.bool_], rng: np.random.Generator, count: int
) -> list[Box]:
    """Draw other boxes of the same size that show about as much of the body.

    Args:
        box: the region.
        body_RC: which pixels of the view are body.
        rng: draws among the places that qualify: those that share at most a quarter of
            the box's area with it and hold at least 0.8 times as many pixels of the body.
        count: how many at most.

    Returns:
        None or more boxes, in no order; places are tried in steps of an eighth of the box.
    """
    rows, columns = body_RC.shape
    high, wide = box.y1 - box.y0, box.x1 - box.x0
    tops = np.arange(0, rows - high + 1, max(high // 8, 1))
    lefts = np.arange(0, columns - wide + 1, max(wide // 8, 1))
    summed = np.pad(body_RC.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

    def held(top: NDArray[np.int64] | int, left: NDArray[np.int64] | int) -> NDArray[np.int64]:
        return np.asarray(
            summed[top + high, left + wide]
            - summed[top, left + wide]
            - summed[top + high, left]
            + summed[top, left]
        )

    top, left = (places.ravel() for places in np.meshgrid(tops, lefts, indexing="ij"))
    shared = np.maximum(high - abs(top - box.y0), 0) * np.maximum(wide - abs(left - box.x0), 0)
    fits = (shared <= high * wide / 4) & (held(top, left) >= 0.8 * held(box.y0, box.x0))
    chosen = rng.permutation(np.flatnonzero(fits))[:count]
    return [Box(int(x), int(y), int(x) + wide, int(y) + high, float("nan")) for y, x in
            zip(top[chosen], left[chosen], strict=True)]  # fmt: skip

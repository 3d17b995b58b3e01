"""Heat map to mask to boxes to crop: Eq. (3), in the stored scan's own pixels."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from bae.recipes import Region
from bae.scan import Box


def enlarge(
    heat_VU: NDArray[np.uint8] | NDArray[np.float32], size: tuple[int, ...]
) -> NDArray[np.float32]:
    """Resize a heat map to the stored view, bilinear, outer edges aligned.

    Args:
        heat_VU: 0-255 map as the tables hold it.
        size: (rows, columns) of the stored view.

    Returns:
        (rows, columns) float32 on the 0-255 scale.
    """
    blend_y, blend_x = (_blend(*pair) for pair in zip(heat_VU.shape, size, strict=True))
    return (blend_y @ heat_VU.astype(np.float32)) @ blend_x.T


@functools.lru_cache(maxsize=64)  # an archive has few sizes
def _blend(small: int, large: int) -> NDArray[np.float32]:
    """Return the (large, small) matrix of linear interpolation between pixel centres."""
    at = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    low = np.minimum(at.astype(np.int64), max(small - 2, 0))
    part = (at - low).astype(np.float32)
    blend = np.zeros((large, small), np.float32)
    blend[np.arange(large), low] = 1 - part
    blend[np.arange(large), np.minimum(low + 1, small - 1)] += part
    blend.flags.writeable = False
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
    if config.parts == "all":
        edges = _extent(heat_VU, size, config.gamma)
    else:
        edges = _parts(enlarge(heat_VU, size), config)
    if not len(edges):
        return [Box(0, 0, size[1], size[0], 1.0)]
    shares = heat_shares(heat_VU, size, edges).tolist()
    return [
        Box(x0, y0, x1, y1, share)
        for (x0, y0, x1, y1), share in zip(edges.tolist(), shares, strict=True)
    ]


def overlap(one: Box, two: Box) -> float:
    """Return intersection over union of two boxes' areas, 0 to 1."""
    wide = max(min(one.x1, two.x1) - max(one.x0, two.x0), 0)
    high = max(min(one.y1, two.y1) - max(one.y0, two.y0), 0)
    union = sum((box.x1 - box.x0) * (box.y1 - box.y0) for box in (one, two)) - wide * high
    return wide * high / union


def elsewhere(
    box: Box,
    body_RC: NDArray[np.bool_],
    rng: np.random.Generator,
    count: int,
    avoid: Sequence[tuple[Box, float]] | None = None,
) -> list[Box]:
    """Draw other boxes of the same size that show about as much of the body.

    Args:
        box: the region.
        body_RC: which pixels of the view are body.
        rng: draws among the places that qualify: those that avoid what they must and hold at
            least 0.8 times as many pixels of the body.
        count: how many at most.
        avoid: boxes, each with the largest share of the box's area that a place may have in
            common with it; by default the box itself, a quarter.

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
    fits = held(top, left) >= 0.8 * held(box.y0, box.x0)
    for other, most in [(box, 0.25)] if avoid is None else avoid:
        deep = np.minimum(top + high, other.y1) - np.maximum(top, other.y0)
        broad = np.minimum(left + wide, other.x1) - np.maximum(left, other.x0)
        fits &= np.maximum(deep, 0) * np.maximum(broad, 0) <= most * high * wide
    chosen = rng.permutation(np.flatnonzero(fits))[:count]
    places = zip(left[chosen].tolist(), top[chosen].tolist(), strict=True)
    return [Box(x, y, x + wide, y + high, float("nan")) for x, y in places]


def _extent(heat_VU: NDArray[np.uint8], size: tuple[int, ...], gamma: float) -> NDArray[np.int64]:
    """Return (1, 4) x0, y0, x1, y1 round all of the enlarged map that reaches γ, or (0, 4).

    Only lines of pixels near the four edges are computed, a twentieth of the map.
    """
    heat = heat_VU.astype(np.float32)
    blend_y, blend_x = (_blend(*pair) for pair in zip(heat_VU.shape, size, strict=True))
    y, x = _ends(blend_y @ heat, blend_x, gamma), _ends(blend_x @ heat.T, blend_y, gamma)
    if y is None or x is None:
        return np.empty((0, 4), np.int64)
    return np.array([[x[0], y[0], x[1], y[1]]])


def _ends(
    across: NDArray[np.float32], blend: NDArray[np.float32], gamma: float
) -> tuple[int, int] | None:
    """Return the first line of ``across @ blend.T`` that reaches γ anywhere, and behind the last.

    Blending never exceeds what it blends, so only lines whose largest value in ``across``
    reaches γ may; nearly always the outermost of these does.
    """
    maybe = np.flatnonzero(across.max(axis=1) >= gamma)
    found = []
    for lines in (maybe, maybe[::-1]):
        for at in range(0, len(lines), _LINES):
            some = lines[at : at + _LINES]
            hit = (across[some] @ blend.T >= gamma).any(axis=1)
            if hit.any():
                found.append(int(some[hit.argmax()]))
                break
    return (found[0], found[1] + 1) if found else None


_LINES = 16
"""Computed at once."""


def _parts(heat_RC: NDArray[np.float32], config: Region) -> NDArray[np.int64]:
    """Return (parts, 4) x0, y0, x1, y1 of the mask's connected parts, the first to crop first."""
    part_RC, count = ndimage.label(heat_RC >= config.gamma)
    rank: ArrayLike
    if config.parts == "hottest":
        rank = ndimage.maximum(heat_RC, part_RC, np.arange(1, count + 1))
    else:
        rank = np.bincount(part_RC.ravel())[1:]
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(part_RC)]
    return np.array(corners, np.int64).reshape(-1, 4)[np.argsort(np.negative(rank), kind="stable")]


def heat_shares(
    heat_VU: NDArray[np.uint8], size: tuple[int, ...], edges: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the part of the enlarged map's heat inside each box.

    The enlarged map is By H Bx', so its sum over a box is (sum of rows of By) H (sum of rows
    of Bx)': no pixel is touched.
    """
    sums_y, sums_x = (
        np.concatenate([np.zeros((1, pair[0])), _blend(*pair).cumsum(axis=0, dtype=np.float64)])
        for pair in zip(heat_VU.shape, size, strict=True)
    )
    heat = heat_VU.astype(np.float64)
    total = float(sums_y[-1] @ heat @ sums_x[-1])
    x0, y0, x1, y1 = edges.T
    inside = np.einsum("nv,vu,nu->n", sums_y[y1] - sums_y[y0], heat, sums_x[x1] - sums_x[x0])
    return inside / total if total > 0 else np.zeros(len(edges))

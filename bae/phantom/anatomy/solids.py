"""Simple solids filled with evenly spread points, the stuff that the skeleton is made of.

A bone is a cloud of points, each standing for a little volume, since points move
freely with pose and build and are projected all at once. The points follow a
low-discrepancy sequence (Roberts 2018, the R-sequence, after Kronecker), so a
cloud looks as smooth as one of several times as many random points.

Coordinates are in mm: x to the patient's left, y to the front, z to the head.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

Floats = NDArray[np.float64]
Cloud = tuple[Floats, float]
"""Points (n, 3) in mm and the volume in mm^3 that all of them stand for."""

Parts = dict[str, tuple[str, Cloud, float]]
"""Part name -> the segment it moves with, its points, its uptake per volume."""

POINT_AREA_MM2 = 2.0
"""About how much projected area one point covers."""


def _sequence(count: int, dimensions: int = 3) -> Floats:
    """Return ``count`` evenly spread points in the unit cube."""
    root = 2.0
    for _ in range(60):
        root = (1.0 + root) ** (1.0 / (dimensions + 1.0))
    steps = root ** -np.arange(1.0, dimensions + 1.0)
    return (0.5 + np.outer(np.arange(1.0, count + 1.0), steps)) % 1.0


def _count(area_mm2: float) -> int:
    return int(np.clip(area_mm2 / POINT_AREA_MM2, 24, 40000))


def ellipsoid(center: ArrayLike, half: ArrayLike, *, hollow: float = 0.0) -> Cloud:
    """Fill an upright ellipsoid, or its shell.

    Args:
        center: (3,) mm.
        half: (3,) half axes, mm.
        hollow: share of the radius that stays empty; 0.9 leaves a thin shell.
    """
    size = np.asarray(half, dtype=float)
    count = _count(np.pi * size[0] * size[2] * (1.0 + hollow))
    radius, height, turn = _sequence(count).T
    radius = (hollow**3 + radius * (1.0 - hollow**3)) ** (1.0 / 3.0)
    cosine = 2.0 * height - 1.0
    sine = np.sqrt(1.0 - cosine**2)
    angle = 2.0 * np.pi * turn
    ball = np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)
    volume = 4.0 / 3.0 * np.pi * float(np.prod(size)) * (1.0 - hollow**3)
    return np.asarray(center, dtype=float) + ball * radius[:, None] * size, volume


def disc(center: ArrayLike, half: ArrayLike, *, hollow: float = 0.0) -> Cloud:
    """Fill an upright elliptic cylinder, such as a vertebral body or an end-plate.

    Args:
        center: (3,) mm.
        half: half width, half depth, half height, mm.
        hollow: share of the radius that stays empty.
    """
    size = np.asarray(half, dtype=float)
    count = _count(4.0 * size[0] * max(size[2], 4.0) * (1.0 + hollow))
    radius, height, turn = _sequence(count).T
    radius = np.sqrt(hollow**2 + radius * (1.0 - hollow**2))
    angle = 2.0 * np.pi * turn
    unit = np.stack([radius * np.cos(angle), radius * np.sin(angle), 2.0 * height - 1.0], axis=1)
    volume = 2.0 * np.pi * float(np.prod(size)) * (1.0 - hollow**2)
    return np.asarray(center, dtype=float) + unit * size, volume


def tube(
    course: ArrayLike, radius: float | Sequence[float], *, flat: float = 1.0, hollow: float = 0.0
) -> Cloud:
    """Fill a curved tube through given places.

    Args:
        course: (k, 3) places on its axis, mm; three or more are joined by a spline.
        radius: one, or one per place, mm.
        flat: depth (y) as a share of the radius, 1 for a round tube.
        hollow: share of the radius that stays empty.
    """
    knots = np.asarray(course, dtype=float)
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    radii = np.broadcast_to(np.asarray(radius, dtype=float), steps.shape)
    axis: Callable[[Floats], Floats]
    if len(knots) > 2:
        axis = CubicSpline(steps, knots, axis=0)
    else:

        def axis(where: Floats) -> Floats:
            return np.asarray(knots[0] + (where / steps[-1])[:, None] * (knots[1] - knots[0]))

    fine = np.linspace(0.0, steps[-1], 200)
    area = np.interp(fine, steps, radii) ** 2
    total = np.concatenate([[0.0], np.cumsum((area[1:] + area[:-1]) / 2.0)])
    width = float(np.mean(np.interp(fine, steps, radii)))
    count = _count(2.0 * steps[-1] * width)
    along, out, turn = _sequence(count).T
    where = np.interp(along * total[-1], total, fine)
    places = axis(where)
    ahead = axis(np.minimum(where + 0.5, steps[-1])) - axis(np.maximum(where - 0.5, 0.0))
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    # two directions across: one as sideways as can be, one perpendicular to both
    helper = np.where(np.abs(ahead[:, 1:2]) > 0.9, [[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]])
    side = np.cross(ahead, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    front = np.cross(side, ahead)
    out = np.sqrt(hollow**2 + out * (1.0 - hollow**2)) * np.interp(where, steps, radii)
    angle = 2.0 * np.pi * turn
    points = (
        places
        + side * (out * np.cos(angle))[:, None]
        + front * (flat * out * np.sin(angle))[:, None]
    )
    volume = np.pi * flat * (1.0 - hollow**2) * float(np.mean(area)) * float(steps[-1])
    return points, volume


def sheet(edge: ArrayLike, other: ArrayLike, thick: float) -> Cloud:
    """Fill the sheet between two curves, such as the wing of the ilium.

    Args:
        edge, other: (k, 3) places along the two edges, mm.
        thick: thickness in mm, spread along y and x alike.
    """
    one, two = np.asarray(edge, dtype=float), np.asarray(other, dtype=float)
    steps = np.linspace(0.0, 1.0, len(one))
    first, second = CubicSpline(steps, one, axis=0), CubicSpline(steps, two, axis=0)
    length = float(np.linalg.norm(np.diff(one, axis=0), axis=1).sum())
    length = (length + float(np.linalg.norm(np.diff(two, axis=0), axis=1).sum())) / 2.0
    breadth = float(np.linalg.norm(one - two, axis=1).mean())
    along, across, depth = _sequence(_count(length * breadth)).T
    points = first(along) * (1.0 - across)[:, None] + second(along) * across[:, None]
    points = points + ((depth - 0.5) * thick)[:, None] * np.array([0.6, 0.8, 0.0])
    return points, length * breadth * thick

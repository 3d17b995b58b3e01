"""The skeleton of one upright adult of 1700 mm, part by part, as clouds of points.

Places and sizes are those of ordinary anatomy atlases and anthropometry
(segment lengths after Drillis and Contini 1966), rounded to what a gamma camera
can see. Density is uptake per volume relative to muscle, at latent age 60, set
so that the counts over each bone relative to the thigh match the real scan that
pydicom-data carries; ``bae.phantom.ageing`` changes it part by part.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bae.phantom.anatomy import bones_axial, bones_limbs
from bae.phantom.anatomy.solids import Parts

HEIGHT_MM = 1700.0

LIMBS = {
    "arm": ("shoulder", "trunk"),
    "forearm": ("elbow", "arm"),
    "hand": ("wrist", "forearm"),
    "thigh": ("hip", "trunk"),
    "leg": ("knee", "thigh"),
    "foot": ("ankle", "leg"),
}
"""Segment -> (the joint it turns in, the segment it hangs on)."""

SEGMENTS = ("trunk", "head", *(f"{side} {limb}" for side in ("left", "right") for limb in LIMBS))
"""What moves as one piece."""

JOINTS = {
    "neck": (0.0, -25.0, 1480.0),
    "shoulder": (165.0, -10.0, 1406.0),
    "elbow": (195.0, -15.0, 1108.0),
    "wrist": (205.0, -5.0, 868.0),
    "hip": (88.0, 0.0, 890.0),
    "knee": (84.0, 0.0, 484.0),
    "ankle": (82.0, 0.0, 68.0),
}
"""Pivots of the left side, mm; the right side is mirrored in x."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Skeleton:
    """All points, grouped by part, the parts grouped by segment.

    Attributes:
        names: name of each part, such as ``L3 body`` or ``left rib 5``.
        segment: (parts,) index into ``SEGMENTS``, rising.
        part: (points,) index of the part that a point belongs to, rising.
        points: (points, 3) float32, mm: x to the left, y to the front, z to the head.
        weight: (points,) float32, mm^3 times uptake relative to muscle.
    """

    names: tuple[str, ...]
    segment: NDArray[np.int64]
    part: NDArray[np.int64]
    points: NDArray[np.float32]
    weight: NDArray[np.float32]


@functools.cache
def skeleton() -> Skeleton:
    """Build the reference skeleton, once per process."""
    axial, limbs = bones_axial, bones_limbs
    left = axial.spine() | axial.head() | axial.thorax() | axial.organs()
    left |= limbs.shoulder() | limbs.arm() | limbs.hip_bone() | limbs.leg()
    parts: Parts = {}
    for name, (segment, (points, volume), density) in left.items():
        parts[name] = (segment, (points, volume), density)
        if name.startswith("left "):
            mirrored = (points * [-1.0, 1.0, 1.0], volume)
            twin = name.replace("left ", "right ", 1)
            parts[twin] = (segment.replace("left ", "right ", 1), mirrored, density)
    parts = dict(sorted(parts.items(), key=lambda item: SEGMENTS.index(item[1][0])))
    clouds = [cloud for _, cloud, _ in parts.values()]
    sizes = [len(points) for points, _ in clouds]
    weights = [
        np.full(len(points), volume * density / len(points))
        for _, (points, volume), density in parts.values()
    ]
    return Skeleton(
        names=tuple(parts),
        segment=np.array([SEGMENTS.index(segment) for segment, _, _ in parts.values()]),
        part=np.repeat(np.arange(len(parts)), sizes),
        points=np.concatenate([points for points, _ in clouds]).astype(np.float32),
        weight=np.concatenate(weights).astype(np.float32),
    )

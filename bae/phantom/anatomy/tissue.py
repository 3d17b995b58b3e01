"""Soft tissue: the skin's two surfaces over the table and the activity between them."""

import numpy as np
from numpy.typing import NDArray

from bae.phantom.anatomy.body import TRUNK_PROFILE, Build, Placed
from bae.phantom.anatomy.skeleton import HEIGHT_MM

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


def _limbs(placed: Placed, build: Build) -> list[tuple[Floats, Floats, float, float]]:
    """Return every limb as capsules: two ends and two radii, mm."""
    scale = build.height_mm / HEIGHT_MM
    thick = scale * (0.55 + 0.45 * build.girth)

    def at(segment: str, *place: float) -> Floats:
        return np.asarray((placed.matrices[segment] @ [*place, 1.0])[:3])

    capsules = []
    for side, sign in (("left", 1.0), ("right", -1.0)):
        arm, forearm, hand = (f"{side} {name}" for name in ("arm", "forearm", "hand"))
        thigh, leg, foot = (f"{side} {name}" for name in ("thigh", "leg", "foot"))
        chain = [
            (at(arm, sign * 158, -10, 1400), 50, at(arm, sign * 178, -12, 1318), 47),
            (at(arm, sign * 178, -12, 1318), 47, at(arm, sign * 195, -15, 1118), 40),
            (at(forearm, sign * 195, -15, 1113), 41, at(forearm, sign * 200, -10, 1038), 42),
            (at(forearm, sign * 200, -10, 1038), 42, at(forearm, sign * 205, -4, 878), 27),
            (at(hand, sign * 205, -2, 868), 27, at(hand, sign * 206, 0, 788), 34),
            (at(hand, sign * 206, 0, 788), 34, at(hand, sign * 206, 0, 700), 24),
            (at(hand, sign * 184, 4, 840), 14, at(hand, sign * 164, 14, 768), 10),
            (at(thigh, sign * 96, -4, 880), 88, at(thigh, sign * 96, -2, 740), 84),
            (at(thigh, sign * 96, -2, 740), 84, at(thigh, sign * 86, 0, 500), 58),
            (at(leg, sign * 86, 0, 500), 58, at(leg, sign * 88, -14, 350), 57),
            (at(leg, sign * 88, -14, 350), 57, at(leg, sign * 84, -4, 90), 38),
            (at(foot, sign * 82, -8, 66), 38, at(foot, sign * 84, -34, 32), 32),
            (at(foot, sign * 82, -4, 60), 38, at(foot, sign * 84, 100, 30), 32),
            (at(foot, sign * 84, 100, 30), 34, at(foot, sign * 85, 178, 14), 26),
        ]
        for start, r0, end, r1 in chain:
            capsules.append((start, end, r0 * thick, r1 * thick))
    return capsules


def surfaces(placed: Placed, build: Build, xs: Floats, zs: Floats) -> tuple[Floats32, Floats32]:
    """Return where the skin is over each pixel.

    Args:
        xs: (columns,) table x of the pixels' middles, mm.
        zs: (rows,) table z of the pixels' middles, mm, falling.

    Returns:
        y of the front and of the back, both (rows, columns) mm; outside the body
        both are zero.
    """
    front = np.full((len(zs), len(xs)), -1e6, dtype=np.float32)
    back = np.full_like(front, 1e6)

    def put(rows: slice, columns: slice, middle: NDArray[np.floating], half2: Floats) -> None:
        inside = half2 > 0
        half = np.sqrt(np.where(inside, half2, 0.0))
        high = np.where(inside, middle + half, -1e6).astype(np.float32)
        low = np.where(inside, middle - half, 1e6).astype(np.float32)
        np.maximum(front[rows, columns], high, out=front[rows, columns])
        np.minimum(back[rows, columns], low, out=back[rows, columns])

    def window(x0: float, x1: float, z0: float, z1: float) -> tuple[slice, slice]:
        left, right = np.searchsorted(xs, [x0, x1])
        top, bottom = np.searchsorted(-zs, [-z1, -z0])
        return slice(int(top), int(bottom)), slice(int(left), int(right))

    frame = placed.matrices["trunk"]
    z, wide, deep, middle = TRUNK_PROFILE.T
    ends = [frame @ [0.0, 0.0, height, 1.0] for height in (z[0], z[-1])]
    rows, columns = window(-400, 400, ends[1][2], ends[0][2])
    height = np.interp(zs[rows], [ends[1][2], ends[0][2]], [z[-1], z[0]])
    center = np.interp(zs[rows], [ends[1][2], ends[0][2]], [ends[1][0], ends[0][0]])
    order = slice(None, None, -1)
    broad = np.interp(height, [950.0, 1250.0], [build.hips, build.shoulders])
    belly = np.interp(height, [800, 900, 1060, 1200, 1350], [0.5, 0.9, 1.1, 0.8, 0.4])
    fat = 1.0 + (build.girth - 1.0) * belly
    scale = build.height_mm / HEIGHT_MM
    w = np.interp(height, z[order], wide[order]) * broad * fat * scale
    d = np.interp(height, z[order], deep[order]) * fat * scale
    m = np.interp(height, z[order], middle[order]) * scale
    across = np.abs(xs[None, columns] - center[:, None]) / w[:, None]
    put(rows, columns, m[:, None] + 0.0 * across, d[:, None] ** 2 * (1.0 - across**2.6))

    head = placed.matrices["head"]
    for spot, (a, b, c) in (((0, -4, 1606), (80, 100, 100)), ((0, 34, 1512), (60, 62, 56))):
        x0, y0, z0 = (head @ [*spot, 1.0])[:3]
        rows, columns = window(x0 - a, x0 + a, z0 - c, z0 + c)
        u = ((xs[None, columns] - x0) / (a * scale)) ** 2
        v = ((zs[rows, None] - z0) / (c * scale)) ** 2
        put(rows, columns, np.full((), y0), (b * scale) ** 2 * (1.0 - u - v))

    for start, end, r0, r1 in _limbs(placed, build):
        big = max(r0, r1)
        rows, columns = window(
            min(start[0], end[0]) - big,
            max(start[0], end[0]) + big,
            min(start[2], end[2]) - big,
            max(start[2], end[2]) + big,
        )
        along = np.array([end[0] - start[0], end[2] - start[2]])
        length2 = float(along @ along)
        px, pz = xs[None, columns] - start[0], zs[rows, None] - start[2]
        share = np.clip((px * along[0] + pz * along[1]) / length2, 0.0, 1.0)
        off2 = (px - share * along[0]) ** 2 + (pz - share * along[1]) ** 2
        radius = r0 + share * (r1 - r0)
        put(rows, columns, start[1] + share * (end[1] - start[1]), radius**2 - off2)
    outside = front < -1e5
    front[outside] = back[outside] = 0.0
    return front, back

"""One person on the table: build, pose, and where that puts bones and skin.

Table coordinates, mm: x to the patient's left from the middle of the table, y
up from the middle of the body, z towards the head from the soles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bae.phantom.anatomy.skeleton import HEIGHT_MM, JOINTS, LIMBS, SEGMENTS, Skeleton

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

TRUNK_PROFILE = np.array(
    [  # z, half width, half depth, y of the middle
        (1490, 56, 60, -6), (1470, 58, 60, -14), (1448, 72, 62, -20), (1428, 118, 72, -20),
        (1408, 160, 84, -18), (1375, 176, 94, -14), (1310, 170, 106, -6), (1230, 158, 114, 0),
        (1130, 148, 110, 4), (1050, 146, 110, 4), (970, 164, 112, 0), (900, 176, 112, -4),
        (850, 172, 104, -6), (815, 160, 80, -6), (800, 150, 4, -6),
    ], dtype=float,
)  # fmt: skip
"""Outline of the trunk without limbs."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """Body size. Lengths follow the height; widths also follow weight and sex.

    Attributes:
        height_mm: stature.
        girth: soft tissue round the trunk relative to the reference, unitless.
        shoulders, hips: widths relative to the reference, unitless.
    """

    height_mm: float
    girth: float
    shoulders: float
    hips: float


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the person lies. Angles in degrees, places in mm.

    Attributes:
        turns: segment -> (abduction, flexion, outward rotation) of limbs.
        roll: of the whole body about its long axis; tilt: in the table's plane.
        shift_x, sole_z: place on the table.
        bend_mm: sideways bend of the spine (scoliosis), half the height of its S.
        nod: of the head, forwards; head_turn: to the left.
    """

    turns: dict[str, tuple[float, float, float]]
    roll: float = 0.0
    tilt: float = 0.0
    shift_x: float = 0.0
    sole_z: float = 150.0
    bend_mm: float = 0.0
    nod: float = 0.0
    head_turn: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A person on the table.

    Attributes:
        points: (points, 3) float32 table coordinates of all bone points.
        joints: name, such as ``left knee`` or ``neck`` -> (3,) table coordinates.
        matrices: segment -> (3, 4), reference to table coordinates (without the bend).
    """

    points: Floats32
    joints: dict[str, Floats]
    matrices: dict[str, Floats]


def _turn(axis: int, degrees: float) -> Floats:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(4)
    matrix[a, a] = matrix[b, b] = c
    matrix[a, b], matrix[b, a] = -s, s
    return matrix


def _move(vector: Floats) -> Floats:
    matrix = np.eye(4)
    matrix[:3, 3] = vector
    return matrix


def _about(pivot: Floats, turn: Floats) -> Floats:
    return np.asarray(_move(pivot) @ turn @ _move(-pivot))


def matrices(build: Build, pose: Pose) -> dict[str, Floats]:
    """Return how each segment goes from the reference skeleton to the table.

    Returns:
        segment -> (4, 4) affine matrix on homogeneous mm.
    """
    scale = build.height_mm / HEIGHT_MM
    depth = scale * (0.6 + 0.4 * build.girth)
    table = (
        _move(np.array([pose.shift_x, 0.0, pose.sole_z]))
        @ _about(np.array([0.0, 0.0, 900.0 * scale]), _turn(1, pose.tilt))
        @ _turn(2, pose.roll)
    )
    result = {"trunk": table @ np.diag([scale, depth, scale, 1.0])}
    neck = np.array(JOINTS["neck"])
    sunk = _move(np.array([0.0, 0.0, -12.0]))
    turned = _about(neck, _turn(0, pose.nod) @ _turn(2, pose.head_turn))
    result["head"] = table @ np.diag([scale, scale, scale, 1.0]) @ sunk @ turned
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for limb, (joint, parent) in LIMBS.items():
            name = f"{side} {limb}"
            pivot = np.array(JOINTS[joint]) * [sign, 1.0, 1.0]
            out, flex, outward = pose.turns.get(name, (0.0, 0.0, 0.0))
            turn = _turn(1, -sign * out) @ _turn(0, flex) @ _turn(2, -sign * outward)
            if parent == "trunk":
                wide = build.shoulders if joint == "shoulder" else build.hips
                anchor = pivot * [wide * scale, depth, scale]
                base = table @ _move(anchor - pivot * scale) @ np.diag([scale] * 3 + [1.0])
            else:
                base = result[f"{side} {parent}"]
            result[name] = base @ _about(pivot, turn)
    return result


def place(skeleton: Skeleton, build: Build, pose: Pose) -> Placed:
    """Lay the reference skeleton on the table as one person in one pose."""
    frames = matrices(build, pose)
    points = np.empty_like(skeleton.points)
    owner = skeleton.segment[skeleton.part]
    edges = np.searchsorted(owner, np.arange(len(SEGMENTS) + 1))
    for i, name in enumerate(SEGMENTS):
        chosen = slice(edges[i], edges[i + 1])
        source = skeleton.points[chosen]
        if name == "trunk":
            source = source.copy()
            z = source[:, 2].astype(float)
            wide = np.interp(z, [950.0, 1250.0], [build.hips, build.shoulders])
            source[:, 0] *= wide.astype(np.float32)
            source[:, 0] += bend(z, pose.bend_mm).astype(np.float32)
        matrix = frames[name].astype(np.float32)
        points[chosen] = source @ matrix[:3, :3].T + matrix[:3, 3]
    joints = {"neck": (frames["trunk"] @ [*JOINTS["neck"], 1.0])[:3]}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for limb, (joint, _) in LIMBS.items():
            pivot = np.array([*JOINTS[joint], 1.0]) * [sign, 1.0, 1.0, 1.0]
            joints[f"{side} {joint}"] = (frames[f"{side} {limb}"] @ pivot)[:3]
    return Placed(points=points, joints=joints, matrices=frames)


def bend(z: Floats | Floats32, height_mm: float) -> Floats:
    """Return the sideways shift of a scoliotic spine at reference height z, mm."""
    share = np.clip((np.asarray(z, dtype=float) - 960.0) / (1440.0 - 960.0), 0.0, 1.0)
    return np.asarray(height_mm * np.sin(2.0 * np.pi * share) * np.sin(np.pi * share))

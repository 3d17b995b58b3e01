"""Scan k of a cohort as values: what the camera counts of one visit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bae.method import boxes
from bae.phantom.anatomy.body import Placed, place
from bae.phantom.anatomy.skeleton import Skeleton, skeleton
from bae.phantom.anatomy.tissue import surfaces
from bae.phantom.camera import Camera, project
from bae.phantom.lesions import points_of
from bae.phantom.people import PhantomConfig, Visit, camera_for, generator, visit
from bae.scan import ANTERIOR, POSTERIOR, View

Floats32 = NDArray[np.float32]

BACKGROUND = 0.004
"""Counts per pixel where nobody lies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PhantomScan(Visit):
    """One visit and what the camera counted, with everything that is known about it.

    Attributes:
        views: anterior and posterior counts, (rows, columns) uint16.
        pixel_mm: side of a pixel.
        landmarks: part -> (column, row) of its middle in the anterior view, from the
            image's corner; the posterior view is mirrored.
    """

    views: tuple[View, View]
    pixel_mm: float
    landmarks: dict[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """What shines in one visit, before the camera looks.

    Attributes:
        placed: where the bones lie.
        points, weights: of bones, then of foci; mm, and uptake relative to muscle.
        front, back: depth of the body's surfaces, mm, (rows, columns).
        activity, slope: of soft tissue, see ``soft_tissue``.
    """

    placed: Placed
    points: Floats32
    weights: Floats32
    front: Floats32
    back: Floats32
    activity: Floats32
    slope: Floats32


def sources(who: Visit, camera: Camera) -> Sources:
    """Place one visit's bones, foci and soft tissue before the camera."""
    bones = skeleton()
    placed = place(bones, who.build, who.pose)
    front, back = surfaces(placed, who.build, camera.xs, camera.zs)
    weight = bones.weight * who.factors.astype(np.float32)[bones.part]
    anchor, offset, extra = points_of(list(who.foci), bones)
    activity, slope = soft_tissue(camera, placed)
    activity *= np.float32(who.world.tissue)
    return Sources(
        placed=placed,
        points=np.concatenate([placed.points, placed.points[anchor] + offset]),
        weights=np.concatenate([weight, extra]),
        front=front,
        back=back,
        activity=activity,
        slope=slope,
    )


def rates(
    who: Visit, camera: Camera, rng: np.random.Generator
) -> tuple[Floats32, Floats32, Placed]:
    """Return the expected counts of both views, and where the bones lie.

    Args:
        who: the visit.
        camera: detector and matrix.
        rng: draws the unevenness of soft tissue.
    """
    s = sources(who, camera)
    uneven = s.activity * _texture(camera, rng, who.world.unevenness)
    views = project(camera, s.points, s.weights, s.front, s.back, uneven, s.slope)
    scale = np.float32(2.0 * who.counts / float(views[0].sum() + views[1].sum()))
    return views[0] * scale, views[1] * scale, s.placed


def make(
    k: int, *, seed: int = 0, config: PhantomConfig | None = None, noise: int = 0
) -> PhantomScan:
    """Simulate scan k of a cohort.

    Args:
        k: which scan, from 0.
        seed: which cohort.
        config: what the cohort is made of.
        noise: which realisation of the counts; 0 is the one that archives hold.
    """
    config = config or PhantomConfig()
    who = visit(k, seed, config)
    seed = config.stream(seed)
    camera, enlarge = camera_for(config)
    rng = generator(seed, 3, k)
    anterior, posterior, placed = rates(who, camera, rng)
    if noise:
        rng = generator(seed, 3, k, noise)
    views = []
    for name, rate in ((ANTERIOR, anterior), (POSTERIOR, posterior)):
        counts = rng.poisson(np.maximum(rate, 0.0) + BACKGROUND)
        views.append(View(name=name, counts=_exported(counts, enlarge, config)))
    return PhantomScan(
        **vars(who),
        views=(views[0], views[1]),
        pixel_mm=camera.pixel_mm / enlarge,
        landmarks=_landmarks(skeleton(), placed, camera, enlarge),
    )


def soft_tissue(camera: Camera, placed: Placed) -> tuple[Floats32, Floats32]:
    """Return soft tissue's activity and its attenuation along the body, both (rows, 1).

    The chest has less of both: air. The head's is thin over bone, and the thighs'
    muscle is the unit.
    """
    frame = placed.matrices["trunk"]
    z = (camera.zs - frame[2, 3]) / frame[2, 2]
    heights = [0, 500, 850, 950, 1150, 1250, 1380, 1480, 1520]
    activity = np.interp(z, heights, [0.95, 1.1, 1.05, 0.95, 0.9, 0.62, 0.75, 0.85, 0.6])
    slope = np.interp(z, [1130, 1200, 1360, 1400], [1.0, 0.7, 0.7, 1.0])
    return activity[:, None].astype(np.float32), slope[:, None].astype(np.float32)


def _texture(camera: Camera, rng: np.random.Generator, times: float) -> Floats32:
    """Return smooth, small unevenness of soft tissue (muscles, bowel), about one."""
    total = np.zeros((camera.rows, camera.columns), dtype=np.float32)
    for size, spread in ((32, 0.06), (12, 0.04)):
        shape = (camera.rows // size + 1, camera.columns // size + 1)
        coarse = (times * spread * rng.standard_normal(shape)).astype(np.float32)
        total += boxes.enlarge(coarse, (camera.rows, camera.columns))
    return np.asarray(np.exp(total))


def _exported(counts: NDArray[np.int64], enlarge: int, config: PhantomConfig) -> NDArray[np.uint16]:
    if enlarge > 1:
        rows, columns = counts.shape
        smooth = boxes.enlarge(counts.astype(np.float32), (rows * enlarge, columns * enlarge))
        counts = np.rint(smooth).astype(np.int64)
    kept = counts[: config.rows, : config.columns].clip(0, 65535)
    return np.ascontiguousarray(kept.astype(np.uint16))


def _landmarks(
    bones: Skeleton, placed: Placed, camera: Camera, enlarge: int
) -> dict[str, tuple[float, float]]:
    sums = np.bincount(bones.part, bones.weight)
    x = np.bincount(bones.part, bones.weight * placed.points[:, 0]) / sums
    z = np.bincount(bones.part, bones.weight * placed.points[:, 2]) / sums
    columns = (x / camera.pixel_mm + camera.columns / 2) * enlarge
    rows = (camera.rows - z / camera.pixel_mm) * enlarge
    return {
        name: (float(column), float(row))
        for name, column, row in zip(bones.names, columns, rows, strict=True)
    }

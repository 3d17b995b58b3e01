"""The camera obeys the physics it claims, on sources simple enough to work out by hand."""

import numpy as np
import pytest

from bae.method import boxes
from bae.phantom.anatomy import solids
from bae.phantom.camera import Camera, project

CAMERA = Camera(scatter=0.0)
SHAPE = (CAMERA.rows, CAMERA.columns)


def _slab(half_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the surfaces of a wide slab of tissue that fills the middle of the field."""
    front = np.zeros(SHAPE, dtype=np.float32)
    front[100:900, 30:226] = half_mm
    return front, -front


def _views(point: tuple[float, float, float], half_mm: float) -> tuple[np.ndarray, np.ndarray]:
    front, back = _slab(half_mm)
    nothing, one = np.zeros(SHAPE, dtype=np.float32), np.ones(SHAPE, dtype=np.float32)
    points = np.array([point], dtype=np.float32)
    weight = np.full(1, CAMERA.pixel_mm**2, dtype=np.float32)
    return project(CAMERA, points, weight, front, back, nothing, one)


@pytest.mark.parametrize("depth_mm", [10.0, 50.0, 90.0])
def test_a_source_is_dimmed_by_the_tissue_above_it(depth_mm: float) -> None:
    """Each view counts exp(-mu d) of a source under d mm of tissue."""
    anterior, posterior = _views((0.0, 50.0 - depth_mm, 1157.0), 50.0)
    assert anterior.sum() == pytest.approx(np.exp(-0.015 * depth_mm), rel=1e-3)
    assert posterior.sum() == pytest.approx(np.exp(-0.015 * (100.0 - depth_mm)), rel=1e-3)


@pytest.mark.parametrize("y", [-40.0, 0.0, 40.0])
def test_blur_grows_with_distance_from_the_collimator(y: float) -> None:
    """The spread of a point is that of hole, length and distance, within one slab's width."""
    anterior, _ = _views((1.0, y, 1157.0), 50.0)
    profile = anterior.sum(axis=1)
    rows = np.arange(len(profile))
    mean = (profile * rows).sum() / profile.sum()
    spread_mm = CAMERA.pixel_mm * np.sqrt((profile * (rows - mean) ** 2).sum() / profile.sum())
    distance = 50.0 - y + CAMERA.gap_mm
    full_width = np.hypot(1.5 * (distance + 24.0) / 24.0, 3.8)
    assert spread_mm * 2.355 == pytest.approx(full_width, rel=0.08)


def test_soft_tissue_shines_as_far_as_attenuation_lets_it() -> None:
    """A slab of thickness T counts (1 - exp(-mu T)) / mu of its activity."""
    front, back = _slab(60.0)
    one = np.ones(SHAPE, dtype=np.float32)
    no_points = np.zeros((0, 3), dtype=np.float32)
    views = project(CAMERA, no_points, np.zeros(0, np.float32), front, back, one, one)
    expected = (1.0 - np.exp(-0.015 * 120.0)) / 0.015
    assert views[0][500, 128] == pytest.approx(expected, rel=1e-4)
    assert views[1][500, 128] == pytest.approx(expected, rel=1e-4)


def test_the_posterior_view_is_mirrored() -> None:
    """A source at the patient's left is right in the anterior view, left in the posterior."""
    anterior, posterior = _views((100.0, 0.0, 1157.0), 50.0)
    right = anterior.sum(axis=0).argmax()
    left = posterior.sum(axis=0).argmax()
    assert right == pytest.approx(128 + 100 / CAMERA.pixel_mm, abs=1)
    assert left == pytest.approx(128 - 100 / CAMERA.pixel_mm, abs=1)


def test_scatter_moves_counts_without_making_any() -> None:
    """With scatter a source keeps its counts but spreads a share of them."""
    front, back = _slab(50.0)
    nothing, one = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    points, weight = np.zeros((1, 3), np.float32), np.ones(1, np.float32)
    points[0, 2] = 1157.0
    with_scatter, _ = project(Camera(), points, weight, front, back, nothing, one)
    without, _ = project(CAMERA, points, weight, front, back, nothing, one)
    assert with_scatter.sum() == pytest.approx(without.sum(), rel=1e-3)
    assert with_scatter.max() < 0.95 * without.max()


def test_enlarging_is_linear_between_pixel_middles() -> None:
    """A ramp stays a ramp."""
    ramp = np.add.outer(np.arange(8.0), 2 * np.arange(6.0)).astype(np.float32)
    large = boxes.enlarge(ramp, (32, 24))
    assert np.diff(large[4:-4, 10]) == pytest.approx(0.25, abs=1e-5)
    assert np.diff(large[10, 4:-4]) == pytest.approx(0.5, abs=1e-5)


def test_an_ellipsoid_of_points_has_the_moments_of_one() -> None:
    """Mean, variance (a^2 / 5 along each axis) and volume of a solid ellipsoid."""
    points, volume = solids.ellipsoid((10, -20, 30), (40, 30, 50))
    assert points.mean(axis=0) == pytest.approx([10, -20, 30], abs=0.5)
    assert points.var(axis=0) == pytest.approx([320, 180, 500], rel=0.03)
    assert volume == pytest.approx(4 / 3 * np.pi * 40 * 30 * 50)


def test_a_disc_of_points_has_the_moments_of_one() -> None:
    """Variance a^2 / 4 across and h^2 / 3 along, volume of an elliptic cylinder."""
    points, volume = solids.disc((0, 0, 0), (40, 20, 30))
    assert points.var(axis=0) == pytest.approx([400, 100, 300], rel=0.03)
    assert volume == pytest.approx(np.pi * 40 * 20 * 60)


def test_a_straight_tube_is_a_cylinder() -> None:
    """Points stay within the radius, fill the length evenly, and stand for its volume."""
    points, volume = solids.tube([(0, 0, 0), (0, 0, 100)], 10.0)
    assert np.hypot(points[:, 0], points[:, 1]).max() <= 10.0
    assert points.mean(axis=0) == pytest.approx([0, 0, 50], abs=0.7)
    assert points.var(axis=0) == pytest.approx([25, 25, 100**2 / 12], rel=0.05)
    assert volume == pytest.approx(np.pi * 100 * 100, rel=1e-6)

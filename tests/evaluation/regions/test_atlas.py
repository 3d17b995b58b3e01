"""The atlas: bodies come to lie on each other, heat stays where it was on the body."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from bae.evaluation.regions import atlas
from bae.phantom.people import PhantomConfig
from bae.phantom.scan import PhantomScan, make

ORGANS = ("bladder", "genitals", "larynx", "injection", "kidney")
LIMBS = re.compile(
    "humer|elbow|ulna|radius|wrist|thumb|metac|finger|femur|condyle|patella|tibia|fibula|knee|"
    "ankle|heel|midfoot|toe|metatars|greater"
)


def spread_mm(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each point lies from its mean over the cohort, mm of the frame.

    Args:
        points: (scans, points, 2) places on the frame.

    Returns:
        (points,) root mean square distance: what registration should make small.
    """
    return np.asarray(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)))


@pytest.fixture(scope="module")
def scans() -> list[PhantomScan]:
    """Eight people on small matrices, as a camera of 4.5 mm pixels would store them."""
    return [make(k, seed=5, config=PhantomConfig(columns=128, rows=512)) for k in range(8)]


def _views(
    scans: list[PhantomScan], view: int
) -> list[tuple[NDArray[np.uint16], tuple[float, float]]]:
    return [(s.views[view].counts, (s.pixel_mm, s.pixel_mm)) for s in scans]  # type: ignore[misc]


def _error_mm(scans: list[PhantomScan], placed: list[atlas.Placed], view: int, part: str) -> float:
    """Return how far landmarks lie from their mean, root mean square over parts."""
    names = [n for n in scans[0].landmarks if not any(word in n for word in ORGANS)]
    limb = [bool(LIMBS.search(n)) for n in names]
    points = []
    for scan, where in zip(scans, placed, strict=True):
        place = np.array([scan.landmarks[name] for name in names])
        width = scan.views[0].counts.shape[1]
        column = place[:, 0] if view == 0 else width - place[:, 0]
        points.append(where.to_frame(column, place[:, 1]))
    spread = spread_mm(np.array(points))[np.array(limb) == (part == "limbs")]
    return float(np.sqrt((spread**2).mean()))


@pytest.mark.slow
@pytest.mark.parametrize("view", [0, 1])
def test_bones_of_a_cohort_come_to_lie_on_each_other(scans: list[PhantomScan], view: int) -> None:
    """By the landmarks that only the simulation knows, which the fit never sees."""
    views = _views(scans, view)
    unplaced = [
        atlas.Placed(counts=counts, pixel_mm=mm, affine=np.eye(3)[:2]) for counts, mm in views
    ]
    by_outline = [atlas.outline(counts, mm) for counts, mm in views]
    fitted = atlas.place(views)
    trunk = [_error_mm(scans, p, view, "trunk") for p in (unplaced, by_outline, fitted)]
    assert trunk[0] > 30 > trunk[1] > trunk[2]
    assert trunk[1] < 20
    assert trunk[2] < 7
    assert _error_mm(scans, fitted, view, "limbs") < 30


def test_pixel_sizes_that_are_not_known_do_not_matter(scans: list[PhantomScan]) -> None:
    """Square pixels of unknown size give the same place on the frame."""
    counts, mm = _views(scans, 0)[2]
    known, unknown = atlas.outline(counts, mm), atlas.outline(counts, (1.0, 1.0))
    where = np.array([[10.0, 30.0], [60.0, 200.0], [100.0, 500.0]])
    np.testing.assert_allclose(known.to_frame(*where.T), unknown.to_frame(*where.T), atol=1e-6)


def test_sampling_and_points_are_inverse_to_each_other() -> None:
    """A spot drawn in the view appears on the frame where ``to_frame`` says, heat alike."""
    rows, columns = np.mgrid[:400, :100] + 0.5
    affine = np.array([[0.9, 0.05, 30.0], [-0.03, 1.1, 12.0]])
    view = atlas.Placed(counts=np.zeros((400, 100), np.uint16), pixel_mm=(5.0, 7.0), affine=affine)
    for column, row in ((50.0, 100.0), (70.0, 250.0)):
        spot = np.exp(-(((rows - row) * 5) ** 2 + ((columns - column) * 7) ** 2) / (2 * 30**2))
        expected = view.to_frame(np.array([column]), np.array([row]))[0]
        for picture in (spot, spot.reshape(100, 4, 50, 2).mean(axis=(1, 3))):  # a coarser map
            seen = view.onto_frame(picture)
            y, x = (np.mgrid[: atlas.FRAME[0], : atlas.FRAME[1]] + 0.5) * atlas.CELL_MM
            centre = [(y * seen).sum() / seen.sum(), (x * seen).sum() / seen.sum()]
            np.testing.assert_allclose(centre, expected, atol=1.0)


def test_average_is_the_mean_and_heat_follows_the_body(scans: list[PhantomScan]) -> None:
    """Heat drawn at everyone's pelvis is at the mean body's pelvis; even heat stays even."""
    views = _views(scans, 0)
    placed = [atlas.outline(counts, mm) for counts, mm in views]
    even = atlas.average(placed, [np.full((20, 6), 77, np.uint8)] * len(placed))
    np.testing.assert_allclose(even.heat, 77, atol=1e-3)
    assert even.scans == len(scans)
    heats, there = [], []
    for scan, where in zip(scans, placed, strict=True):
        column, row = scan.landmarks["S1 body"]
        heat = np.zeros((64, 16), np.uint8)
        heat[int(row * 64 / 512), int(column * 16 / 128)] = 255
        heats.append(heat)
        there.append(where.to_frame(np.array([column]), np.array([row]))[0])
    mean = atlas.average(placed, heats)
    y, x = (np.mgrid[: atlas.FRAME[0], : atlas.FRAME[1]] + 0.5) * atlas.CELL_MM
    centre = [(y * mean.heat).sum() / mean.heat.sum(), (x * mean.heat).sum() / mean.heat.sum()]
    np.testing.assert_allclose(centre, np.mean(there, axis=0), atol=20)


def test_a_view_without_counts_is_placed_all_the_same() -> None:
    """Nothing to fit, nothing breaks."""
    placed = atlas.outline(np.zeros((512, 128), np.uint16), (2.0, 2.0))
    assert np.isfinite(placed.affine).all()
    assert np.isfinite(placed.onto_frame(placed.counts)).all()


def test_spread_is_the_root_mean_square_distance() -> None:
    """Two scans 6 mm apart at one point and at the same place at another."""
    points = np.array([[[0.0, 0.0], [5.0, 5.0]], [[6.0, 0.0], [5.0, 5.0]]])
    np.testing.assert_allclose(spread_mm(points), [3.0, 0.0])

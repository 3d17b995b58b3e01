"""The atlas: bodies come to lie on each other, heat stays where it was on the body."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bae.evaluation.regions import atlas
from bae.method.regional import frame
from bae.phantom.people import PhantomConfig
from bae.phantom.scan import PhantomScan, make
from tests.method.regional.bodies import LIMBS, bones, landmarks_mm, spread_mm


def unfitted(
    counts: NDArray[np.uint16], mm: tuple[float, float] | None, affine: NDArray[np.float64]
) -> atlas.Placed:
    """Return a view as an affine map alone lays it on the frame."""
    density = atlas.Placed(
        size_mm=frame.size_mm(counts, mm),
        affine=affine,
        field_2YX=torch.zeros(2, *frame.FRAME),
        density_YX=torch.zeros(frame.FRAME),
    ).onto_frame(counts)
    return atlas.Placed(
        size_mm=frame.size_mm(counts, mm),
        affine=affine,
        field_2YX=torch.zeros(2, *frame.FRAME),
        density_YX=torch.from_numpy(density),
    )


def by_outline(
    views: list[tuple[NDArray[np.uint16], tuple[float, float]]],
) -> list[atlas.Placed]:
    """Return views as their outlines lay them."""
    return [unfitted(counts, mm, frame.outline(counts, mm)) for counts, mm in views]


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
    names = bones(scans[0])
    limb = [bool(LIMBS.search(n)) for n in names]
    points = [
        where.to_frame(landmarks_mm(scan, names, view))
        for scan, where in zip(scans, placed, strict=True)
    ]
    spread = spread_mm(np.array(points))[np.array(limb) == (part == "limbs")]
    return float(np.sqrt((spread**2).mean()))


@pytest.mark.slow
@pytest.mark.parametrize("view", [0, 1])
def test_bones_of_a_cohort_come_to_lie_on_each_other(scans: list[PhantomScan], view: int) -> None:
    """By the landmarks that only the simulation knows, which the fit never sees."""
    views = _views(scans, view)
    unplaced = [unfitted(counts, mm, np.eye(3)[:2]) for counts, mm in views]
    fitted = atlas.place(views)
    trunk = [_error_mm(scans, p, view, "trunk") for p in (unplaced, by_outline(views), fitted)]
    assert trunk[0] > 30 > trunk[1] > trunk[2]
    assert trunk[1] < 20
    assert trunk[2] < 6
    assert _error_mm(scans, fitted, view, "limbs") < 30


def test_pixel_sizes_that_are_not_known_do_not_matter(scans: list[PhantomScan]) -> None:
    """Square pixels of unknown size give the same place on the frame."""
    counts, mm = _views(scans, 0)[2]
    known, unknown = (unfitted(counts, one, frame.outline(counts, one)) for one in (mm, None))
    where = np.array([[30.0, 10.0], [200.0, 60.0], [500.0, 100.0]])
    known_mm = known.to_frame(where * mm)
    np.testing.assert_allclose(known_mm, unknown.to_frame(where), atol=1e-2)


def test_sampling_and_points_are_inverse_to_each_other() -> None:
    """A spot drawn in the view appears on the frame where ``to_frame`` says, heat alike."""
    rows, columns = np.mgrid[:400, :100] + 0.5
    affine = np.array([[0.9, 0.05, 30.0], [-0.03, 1.1, 12.0]])
    down, right = np.mgrid[: frame.FRAME[0], : frame.FRAME[1]] / 20.0
    field = torch.from_numpy(np.stack([2 * np.sin(right + 1) + 3, 3 * np.cos(down / 2)])).float()
    view = atlas.Placed(
        size_mm=(2000.0, 700.0),
        affine=affine,
        field_2YX=field,
        density_YX=torch.zeros(frame.FRAME),
    )
    for column, row in ((50.0, 100.0), (70.0, 250.0)):
        spot = np.exp(-(((rows - row) * 5) ** 2 + ((columns - column) * 7) ** 2) / (2 * 30**2))
        expected = view.to_frame(np.array([[row * 5, column * 7]]))[0]
        for picture in (spot, spot.reshape(100, 4, 50, 2).mean(axis=(1, 3))):  # a coarser map
            seen = view.onto_frame(picture)
            y, x = (np.mgrid[: atlas.FRAME[0], : atlas.FRAME[1]] + 0.5) * atlas.CELL_MM
            centre = [(y * seen).sum() / seen.sum(), (x * seen).sum() / seen.sum()]
            np.testing.assert_allclose(centre, expected, atol=2.0)


def test_average_is_the_mean_and_heat_follows_the_body(scans: list[PhantomScan]) -> None:
    """Heat drawn at everyone's pelvis is at the mean body's pelvis; even heat stays even."""
    placed = by_outline(_views(scans, 0))
    even = atlas.average(placed, [np.full((20, 6), 77, np.uint8)] * len(placed))
    np.testing.assert_allclose(even.heat, 77, atol=1e-3)
    assert even.scans == len(scans)
    heats, there = [], []
    for scan, where in zip(scans, placed, strict=True):
        column, row = scan.landmarks["S1 body"]
        heat = np.zeros((64, 16), np.uint8)
        heat[int(row * 64 / 512), int(column * 16 / 128)] = 255
        heats.append(heat)
        there.append(where.to_frame(landmarks_mm(scan, ["S1 body"], 0))[0])
    mean = atlas.average(placed, heats)
    y, x = (np.mgrid[: atlas.FRAME[0], : atlas.FRAME[1]] + 0.5) * atlas.CELL_MM
    centre = [(y * mean.heat).sum() / mean.heat.sum(), (x * mean.heat).sum() / mean.heat.sum()]
    np.testing.assert_allclose(centre, np.mean(there, axis=0), atol=20)


def test_views_without_counts_are_placed_all_the_same(scans: list[PhantomScan]) -> None:
    """Nothing to fit, nothing breaks, and the others' mean stays a picture."""
    views = [*_views(scans, 0)[:2], (np.zeros((512, 128), np.uint16), (2.0, 2.0))]
    placed = atlas.place(views)
    mean = atlas.average(placed, [np.zeros((20, 6), np.uint8)] * 3)
    assert all(torch.isfinite(one.field_2YX).all() for one in placed)
    assert np.isfinite(mean.scan).all()
    assert mean.scan.max() > 0.5


def test_what_some_views_cut_off_the_mean_takes_from_the_others(scans: list[PhantomScan]) -> None:
    """Half the cohort without its right side: the mean's right side is as dark as ever."""
    whole = by_outline(_views(scans, 0))
    half = [
        atlas.Placed(
            size_mm=one.size_mm,
            affine=one.affine,
            field_2YX=one.field_2YX,
            density_YX=one.density_YX.index_fill(1, torch.arange(64, 80), torch.nan),
        )
        for one in whole
    ]
    heats = [np.zeros((20, 6), np.uint8)] * len(whole)
    mean, mixed, none = (
        atlas.average(some, heats).scan for some in (whole, [*whole[:4], *half[4:]], half)
    )
    there = np.s_[60:140, 64:70]
    assert mixed[there].mean() == pytest.approx(mean[there].mean(), rel=0.15)
    assert (none[there] == 0).all()


def test_spread_is_the_root_mean_square_distance() -> None:
    """Two scans 6 mm apart at one point and at the same place at another."""
    points = np.array([[[0.0, 0.0], [5.0, 5.0]], [[6.0, 0.0], [5.0, 5.0]]])
    np.testing.assert_allclose(spread_mm(points), [3.0, 0.0])

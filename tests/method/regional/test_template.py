"""Bodies come to lie on the cohort's mean, by landmarks that no fit sees."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import BSpline
from torch import Tensor

from bae.method.regional import frame, template
from bae.phantom.scan import PhantomScan
from tests.method.regional.bodies import HANDS, LIMBS, bones, landmarks_mm, people, spread_mm

Floats = NDArray[np.float64]
Counts = NDArray[np.uint16]

TRUNK = np.s_[20:120, 25:55]
"""Head to pelvis on the frame, without arms."""


def _sheets(scans: list[PhantomScan], view: int) -> list[frame.Sheet]:
    return [frame.lay(s.views[view].counts, (s.pixel_mm, s.pixel_mm)) for s in scans]


def _learned(
    scans: int, world: int, view: int, rows: int = 0
) -> tuple[list[frame.Sheet], template.Template, template.Registered]:
    sheets = _sheets(people(scans, world, rows), view)
    return sheets, *template.learn(frame.stack(sheets))


@pytest.fixture(scope="module")
def cohort() -> tuple[list[frame.Sheet], template.Template, template.Registered]:
    """Eight anterior views on small matrices."""
    return _learned(8, 0, 0, rows=512)


def _on_frame(points_mm: Floats, field: Tensor, affine: Floats) -> Floats:
    """Return (points, 2) mm on the frame."""
    at = template.to_frame(torch.from_numpy(points_mm).float(), field, affine)
    return at.double().numpy() * frame.CELL_MM


def _errors_mm(
    scans: list[PhantomScan], sheets: list[frame.Sheet], fields: Tensor, view: int
) -> dict[str, float]:
    """Return root mean square distances of landmarks in the picture from their mean."""
    names = bones(scans[0])
    points = []
    for scan, sheet, field in zip(scans, sheets, fields, strict=True):
        place = landmarks_mm(scan, names, view)
        size = np.array(scan.views[view].counts.shape) * scan.pixel_mm
        inside = ((place > 0) & (place < size)).all(axis=1, keepdims=True)
        points.append(np.where(inside, _on_frame(place, field, sheet.affine), np.nan))
    spread = spread_mm(np.array(points))
    hand = np.array([bool(HANDS.search(name)) for name in names])
    limb = np.array([bool(LIMBS.search(name)) for name in names])
    parts = {"trunk": ~limb, "limbs": limb & ~hand, "hands": hand}
    return {part: float(np.sqrt(np.nanmean(spread[of] ** 2))) for part, of in parts.items()}


WORLDS_MM = {0: (6, 10), 1: (8, 13), 2: (10, 18), 3: (35, 65), 4: (8, 35)}
"""World to the most that is allowed in the trunk and the limbs. Legs are cut off in world 3."""


@pytest.mark.slow
@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("world", WORLDS_MM)
def test_bones_of_a_cohort_come_to_lie_on_each_other(world: int, view: int) -> None:
    """In worlds that no one chose by hand; hands are left out, they lie as people please."""
    scans = people(24, world)
    sheets, _, registered = _learned(24, world, view)
    laid = _errors_mm(scans, sheets, torch.zeros_like(registered.field_N2YX), view)
    fitted = _errors_mm(scans, sheets, registered.field_N2YX, view)
    assert fitted["trunk"] < min(0.8 * laid["trunk"], WORLDS_MM[world][0])
    assert fitted["limbs"] < min(laid["limbs"], WORLDS_MM[world][1])


def test_trunk_of_a_small_cohort_comes_within_7_mm(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """The same for the edit loop."""
    sheets, _, registered = cohort
    scans = people(8, 0, 512)
    laid = _errors_mm(scans, sheets, torch.zeros_like(registered.field_N2YX), 0)
    fitted = _errors_mm(scans, sheets, registered.field_N2YX, 0)
    assert fitted["trunk"] < min(0.6 * laid["trunk"], 7)
    assert fitted["limbs"] < 0.6 * laid["limbs"]


def _shifted(counts: Counts) -> Counts:
    return np.pad(counts, ((30, 40), (11, 5)))


@pytest.mark.parametrize("way", ["unknown pixel", "shifted", "coarser", "brighter"])
def test_the_same_body_comes_to_the_same_place(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered], way: str
) -> None:
    """However its picture was stored: another field of view, matrix, or no pixel size."""
    sheets, mean, registered = cohort
    scan = people(8, 0, 512)[3]
    counts, mm = scan.views[0].counts, scan.pixel_mm
    place = landmarks_mm(scan, bones(scan), 0)
    expected = _on_frame(place, registered.field_N2YX[3], sheets[3].affine)
    pixel_mm: tuple[float, float] | None = (mm, mm)
    if way == "unknown pixel":
        pixel_mm, place = None, place / mm
    elif way == "shifted":
        counts, place = _shifted(counts), place + np.array([30, 11]) * mm
    elif way == "coarser":
        counts = counts.reshape(256, 2, 64, 2).sum(axis=(1, 3)).astype(np.uint16)
        pixel_mm = (2 * mm, 2 * mm)
    else:
        counts = 3 * counts
    sheet = frame.lay(counts, pixel_mm)
    found = mean.register(frame.stack([sheet]))
    away = np.hypot(*(_on_frame(place, found.field_N2YX[0], sheet.affine) - expected).T)
    most = {"unknown pixel": 0.1, "shifted": 1.0, "coarser": 2.0, "brighter": 0.1}[way]
    limb = np.array([bool(LIMBS.search(name)) for name in bones(scan)])
    assert np.sqrt((away[~limb] ** 2).mean()) < most


@pytest.mark.parametrize("share", [0.05, 0.2, 0.3])
def test_legs_beyond_the_picture_move_nothing_above_them(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered], share: float
) -> None:
    """The picture ends on the shins or knees: the trunk stays, and what is not seen is NaN."""
    sheets, mean, registered = cohort
    moved, missing = [], []
    for i, scan in enumerate(people(8, 0, 512)):
        counts, mm = scan.views[0].counts, scan.pixel_mm
        affine = sheets[i].affine
        crown, soles = (affine[0, 0] * y + affine[0, 2] for y in (86.0, 1786.0))
        shown = counts[: int((soles - share * (soles - crown)) / mm)]
        sheet = frame.lay(shown, (mm, mm))
        found = mean.register(frame.stack([sheet]))
        place = landmarks_mm(scan, bones(scan), 0)
        before = _on_frame(place, registered.field_N2YX[i], affine)
        away = np.hypot(*(_on_frame(place, found.field_N2YX[0], sheet.affine) - before).T)
        limb = np.array([bool(LIMBS.search(name)) for name in bones(scan)])
        moved.append(float(np.sqrt((away[~limb] ** 2).mean())))
        missing.append(float(found.density_NYX.isnan().float().mean()))
    assert np.median(moved) < 5
    assert np.mean(missing) > float(registered.density_NYX.isnan().float().mean()) + share / 2


def test_a_leg_that_is_cut_off_is_nan_there_and_nowhere_else(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """And it moves nothing in the trunk."""
    sheets, mean, registered = cohort
    whole = frame.stack(sheets[3:4])
    cut = whole.clone()
    last = frame.MARGIN[0] + 180
    cut[:, last:, : frame.MARGIN[1] + 40] = torch.nan
    found = mean.register(cut)
    down, right = torch.meshgrid(*(torch.arange(n) + 0.5 for n in frame.FRAME), indexing="ij")
    at = found.field_N2YX[0] + torch.stack([down, right])
    # a cell's middle within one cell of the hole is sampled from it
    gone, near = ((at[0] > 180 + by) & (at[1] < 40 - by) for by in (0.5, -0.6))
    missing, before = found.density_NYX[0].isnan(), registered.density_NYX[3].isnan()
    assert missing[gone].all()
    # the outermost columns lie beyond the picture, which has nothing to do with the leg
    inside = ~ndimage.binary_dilation(before, iterations=2)
    assert not missing[~near.numpy() & inside].any()
    assert (gone.numpy() & inside).sum() > 1000
    moved = (found.field_N2YX[0] - registered.field_N2YX[3])[:, *TRUNK]
    assert moved.abs().max() * frame.CELL_MM < 2.0


def test_feet_beyond_the_picture_move_the_trunk_by_millimetres(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """The outline takes shins for feet, 30 mm off in the trunk; the field puts that right."""
    sheets, mean, registered = cohort
    scans = people(8, 0, 512)
    names = [name for name in bones(scans[0]) if not LIMBS.search(name)]
    moved = []
    for i, scan in enumerate(scans):
        rows = [row for _, row in scan.landmarks.values()]
        last = int(max(rows) - 0.05 * (max(rows) - min(rows)))
        sheet = frame.lay(scan.views[0].counts[:last], (scan.pixel_mm, scan.pixel_mm))
        found = mean.register(frame.stack([sheet]))
        place = landmarks_mm(scan, names, 0)
        before = _on_frame(place, registered.field_N2YX[i], sheets[i].affine)
        moved.append(_on_frame(place, found.field_N2YX[0], sheet.affine) - before)
    assert np.sqrt((np.array(moved) ** 2).sum(axis=2).mean()) < 4.0


def test_a_displacement_that_is_known_is_found(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """A body bent by up to 20 mm comes back to a few mm, where there are bones."""
    _, _, registered = cohort
    straight = registered.density_NYX[2:3].nan_to_num()
    mean, own = template.learn(_sheet(straight))
    down, right = torch.meshgrid(*(torch.arange(n) / n for n in frame.FRAME), indexing="ij")
    bend = torch.stack([1.5 * torch.sin(3 * down + 2 * right), 2.5 * torch.cos(4 * down)])[None]
    bent = template._sampled(_sheet(straight)[:, None], bend)[:, 0]
    found = mean.register(_sheet(bent))
    # the bent body shows at p what lay at p + bend, so at p + field(p) + bend lies p again
    back = template._sampled(
        torch.nn.functional.pad(bend, _PAD, mode="replicate"), found.field_N2YX
    )
    left = (found.field_N2YX + back - own.field_N2YX)[0][:, *TRUNK]
    before = bend[0][:, *TRUNK]
    assert left.square().mean().sqrt() * frame.CELL_MM < 4.0
    assert before.square().mean().sqrt() * frame.CELL_MM > 10.0


_PAD = (frame.MARGIN[1],) * 2 + (frame.MARGIN[0],) * 2


def _sheet(density: Tensor) -> Tensor:
    return torch.nn.functional.pad(density, _PAD)


def test_the_template_itself_stays_where_it_is(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """A cohort of one is its own mean."""
    sheets, _, _ = cohort
    _, own = template.learn(frame.stack(sheets[:1]))
    assert own.field_N2YX.abs().max() < 0.05
    assert own.misfit_N.max() < 1e-5


def test_one_view_alone_is_registered_as_among_seventy(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """Batches are cut at 64."""
    sheets, mean, _ = cohort
    many = frame.stack(sheets).repeat(9, 1, 1)[:70]
    together = mean.register(many)
    for i in (0, 63, 64, 69):
        alone = mean.register(many[i : i + 1])
        for name in ("density_NYX", "field_N2YX", "misfit_N"):
            one, among = getattr(alone, name)[0], getattr(together, name)[i]
            torch.testing.assert_close(one, among, atol=2e-3, rtol=1e-3, equal_nan=True)


def test_views_without_a_body_get_a_field_all_the_same(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """No counts, nothing within the view, one hot pixel: finite, and no harm to the others."""
    sheets, mean, registered = cohort
    odd = frame.stack(sheets[:1]).repeat(4, 1, 1)
    odd[0], odd[1], odd[2] = 0, torch.nan, 0
    odd[2, 100, 50] = 1e6
    found = mean.register(odd)
    assert torch.isfinite(found.field_N2YX).all()
    assert found.density_NYX[1].isnan().all()
    assert not found.density_NYX[0].isnan().any()
    torch.testing.assert_close(found.field_N2YX[3], registered.field_N2YX[0], atol=1e-3, rtol=1e-3)
    again, fitted = template.learn(odd)
    assert torch.isfinite(again.mean_PYX).all()
    assert torch.isfinite(fitted.field_N2YX).all()


def test_a_cohort_of_nobody_has_no_template() -> None:
    """It says so."""
    with pytest.raises(ValueError, match="needs a view"):
        template.learn(torch.zeros(0, 266, 104))


@pytest.mark.slow
def test_misfit_tells_anterior_from_posterior() -> None:
    """For each of sixteen people, by templates of eight of them."""
    scans = people(16, 0, 512)
    means = [_learned(8, 0, view, rows=512)[1] for view in (0, 1)]
    for view in (0, 1):
        sheets = frame.stack(_sheets(scans, view))
        own, other = (means[v].register(sheets).misfit_N for v in (view, 1 - view))
        assert (own < other).all()


def test_maps_return_to_the_view_they_came_from(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """A spot on the frame is drawn in the view where ``to_frame`` finds it again."""
    sheets, _, registered = cohort
    affine, field = sheets[5].affine, registered.field_N2YX[5]
    down, right = np.mgrid[: frame.FRAME[0], : frame.FRAME[1]] + 0.5
    scan = people(8, 0, 512)[5]
    size_mm = frame.size_mm(scan.views[0].counts, (scan.pixel_mm,) * 2)
    for row, column in ((40.0, 40.0), (100.0, 33.0), (160.0, 47.0)):
        spot = torch.from_numpy(np.exp(-((down - row) ** 2 + (right - column) ** 2) / 8)).float()
        drawn = template.onto_view(spot, field, affine, size_mm, (512, 128)).double().numpy()
        y, x = np.mgrid[:512, :128] + 0.5
        middle = np.array([(y * drawn).sum(), (x * drawn).sum()]) / drawn.sum() * scan.pixel_mm
        found = _on_frame(middle[None], field, affine)[0]
        np.testing.assert_allclose(found, np.array([row, column]) * frame.CELL_MM, atol=3.0)


def test_points_go_to_the_frame_as_the_field_says(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """The middle of each cell, moved by the field and the affine map, comes back to itself."""
    sheets, _, registered = cohort
    cells = np.stack(np.mgrid[: frame.FRAME[0], : frame.FRAME[1]] + 0.5)
    for sheet, field in zip(sheets, registered.field_N2YX, strict=True):
        laid_mm = (cells + field.numpy()) * frame.CELL_MM
        view_mm = np.tensordot(sheet.affine[:, :2], laid_mm, 1) + sheet.affine[:, 2, None, None]
        found = _on_frame(view_mm[:, *TRUNK].reshape(2, -1).T, field, sheet.affine)
        expected = cells[:, *TRUNK].reshape(2, -1).T * frame.CELL_MM
        assert np.abs(found - expected).max() < 1.0


def test_splines_are_those_of_scipy_and_bending_is_none_for_straight_fields() -> None:
    """Uniform cubic B-splines; constant and linear coefficients bend nothing."""
    seen = template._splines(50, 9)
    knots = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    away = np.linspace(0, 6, 50)[:, None] - (np.arange(9) - 1)
    np.testing.assert_allclose(seen, np.nan_to_num(knots(away)), atol=1e-6)
    np.testing.assert_allclose(seen.sum(axis=1), 1, atol=1e-6)
    form = template._bending(5, 4)
    for flat in (np.ones((5, 4)), np.mgrid[:5, :4][0], np.mgrid[:5, :4][1]):
        weight = flat.ravel().astype(float)
        assert weight @ form @ weight == pytest.approx(0.005 * (weight**2).sum(), rel=1e-4)
    twist = np.prod(np.mgrid[:5, :4], axis=0).ravel().astype(float)
    assert twist @ form @ twist > 2 * 12


def test_products_of_bases_are_those_written_out(
    cohort: tuple[list[frame.Sheet], template.Template, template.Registered],
) -> None:
    """A hundred entries of the normal matrix, summed over cells one by one."""
    _, mean, _ = cohort
    rng = np.random.default_rng(0)
    weight = rng.random(frame.FRAME).astype(np.float32)
    normal = mean._normal(torch.from_numpy(weight)).numpy()
    down, right = (
        template._splines(n, k) for n, k in zip(frame.FRAME, template.SPLINES, strict=True)
    )
    for a, b in zip(rng.integers(0, 560, 100), rng.integers(0, 560, 100), strict=True):
        one, two = (
            np.outer(down[:, k // template.SPLINES[1]], right[:, k % template.SPLINES[1]])
            for k in (a, b)
        )
        assert normal[a, b] == pytest.approx(float((one * two * weight).sum()), abs=1e-4)

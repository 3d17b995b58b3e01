"""How a view is laid on the frame by its outline, against pictures whose places are known."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from bae.method.regional import frame


def _figure(
    top: int = 64, bottom: int = 448, left: int = 40, right: int = 80
) -> NDArray[np.uint16]:
    """A body of one block, its edges on the cells of the coarse grid."""
    counts = np.zeros((512, 128), np.uint16)
    counts[top:bottom, left:right] = 50
    return counts


@pytest.mark.parametrize("pixel_mm", [(4.0, 4.0), (3.0, 5.0), None])
def test_crown_soles_and_middle_lie_where_the_frame_has_them(
    pixel_mm: tuple[float, float] | None,
) -> None:
    """In any pixels; what is across is to scale with what is down."""
    affine = frame.outline(_figure(), pixel_mm)
    down, right = pixel_mm or (1.0, 1.0)
    middle = frame.FRAME[1] * frame.CELL_MM / 2
    crown = affine @ [frame.CROWN_MM, middle, 1]
    soles = affine @ [frame.CROWN_MM + frame.BODY_MM, middle, 1]
    np.testing.assert_allclose(crown, [64 * down, 60 * right], atol=1e-9)
    np.testing.assert_allclose(soles, [448 * down, 60 * right], atol=1e-9)
    assert affine[0, 0] == affine[1, 1] == pytest.approx(384 * down / frame.BODY_MM)
    assert affine[0, 1] == affine[1, 0] == 0


@pytest.mark.parametrize("times", [1, 4])
def test_a_spot_lies_where_the_map_says_and_keeps_its_counts(times: int) -> None:
    """Density is counts over mm^2, whatever the matrix: fine ones are summed first."""
    figure = np.kron(_figure(), np.ones((times, times), np.uint16))
    rows, columns = (np.mgrid[: 512 * times, : 128 * times] + 0.5) / times
    spot = 5e3 * np.exp(-((rows - 250) ** 2 + (columns - 66) ** 2) / (2 * 4**2))
    pixel_mm = (4.0 / times, 5.0 / times)
    with_spot, without = (
        frame.lay((figure + more).astype(np.float32), pixel_mm) for more in (spot, 0 * spot)
    )
    np.testing.assert_array_equal(with_spot.affine, without.affine)
    added = np.nan_to_num(with_spot.density_VU - without.density_VU).astype(float)
    down, right = (np.mgrid[: added.shape[0], : added.shape[1]] + 0.5) * frame.CELL_MM
    at = np.array([(down * added).sum(), (right * added).sum()]) / added.sum()
    at -= np.array(frame.MARGIN) * frame.CELL_MM
    np.testing.assert_allclose(with_spot.affine @ [*at, 1], [250 * 4, 66 * 5], atol=2.0)
    cell_mm2 = (frame.CELL_MM * with_spot.affine[0, 0]) ** 2
    assert added.sum() * cell_mm2 == pytest.approx(spot.sum(), rel=0.01)


def test_nan_is_what_lies_outside_the_view_and_nothing_else() -> None:
    """To a cell; the body fills the whole height here, so the frame reaches beyond it."""
    counts = _figure(0, 512)
    sheet = frame.lay(counts, (4.0, 4.0))
    down, right = (
        (np.arange(n + 2 * m) + 0.5 - m) * frame.CELL_MM
        for n, m in zip(frame.FRAME, frame.MARGIN, strict=True)
    )
    y_mm = sheet.affine[0, 0] * down + sheet.affine[0, 2]
    x_mm = sheet.affine[1, 1] * right + sheet.affine[1, 2]
    cell_mm = frame.CELL_MM * sheet.affine[0, 0]
    inner, outer = (
        np.outer((y_mm > edge) & (y_mm < 512 * 4 - edge), (x_mm > edge) & (x_mm < 128 * 4 - edge))
        for edge in (cell_mm / 2, 0.0)
    )
    held = ~np.isnan(sheet.density_VU)
    assert held[inner].all()
    assert not held[~outer].any()
    assert 0 < inner.sum() < inner.size


def test_negative_counts_are_none() -> None:
    """Artefacts of filtered images, as everywhere."""
    counts = _figure().astype(np.float32)
    counts[:60] = -7
    np.testing.assert_array_equal(
        frame.lay(counts, None).density_VU, frame.lay(counts.clip(0), None).density_VU
    )


@pytest.mark.parametrize("counts", [np.zeros((512, 128), np.uint16), np.ones((300, 64), np.uint16)])
def test_a_view_without_a_body_is_laid_all_the_same(counts: NDArray[np.uint16]) -> None:
    """Nothing to see, nothing breaks."""
    sheet = frame.lay(counts, (2.0, 2.0))
    assert np.isfinite(sheet.affine).all()
    assert sheet.affine[0, 0] > 0
    assert np.isfinite(sheet.density_VU).any()
    assert torch.isfinite(frame.body_level(frame.stack([sheet]))).all()


def test_blur_is_that_of_scipy() -> None:
    """The same Gaussian, the edges repeated, several pictures at once."""
    pictures = np.random.default_rng(0).random((3, 50, 31)).astype(np.float32)
    for sigma in (0.5, 1.2, 4.0):
        expected = ndimage.gaussian_filter(
            pictures, (0, sigma, sigma), mode="nearest", truncate=3.0
        )
        seen = frame.blurred(torch.from_numpy(pictures), sigma)
        np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_level_of_the_body_is_the_mean_of_its_cells() -> None:
    """Whatever lies around it: air, or nothing at all."""
    density = torch.full((3, *frame.FRAME), 0.01)
    density[:, 20:200, 30:50] = torch.tensor([1.0, 5.0, 1.0])[:, None, None]
    density[2, :, :20] = torch.nan
    np.testing.assert_allclose(frame.body_level(density), [1.0, 5.0, 1.0], rtol=1e-5)
    nothing = torch.stack([torch.zeros(frame.FRAME), torch.full(frame.FRAME, torch.nan)])
    assert (frame.body_level(nothing) > 0).all()


def test_body_coordinates_run_from_crown_to_soles() -> None:
    """0 and 1 where ``outline`` puts both, 0 on the midline, right is positive."""
    cells = torch.tensor([[frame.CROWN_MM, 320.0], [frame.CROWN_MM + frame.BODY_MM, 490.0]]) / 8
    expected = [[0.0, 0.0], [1.0, 0.1]]
    np.testing.assert_allclose(frame.body_coordinates(cells), expected, atol=1e-6)

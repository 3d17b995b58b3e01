"""What the linear model reads of a body on the frame."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from bae.method.regional import frame, template, uptake
from tests.method.regional.bodies import people


@pytest.fixture(scope="module")
def bodies() -> tuple[Tensor, Tensor]:
    """Six bodies on the frame, and where the template has its body."""
    sheets = [frame.lay(s.views[0].counts, (s.pixel_mm,) * 2) for s in people(6, rows=512)]
    mean, registered = template.learn(frame.stack(sheets))
    return registered.density_NYX, uptake.body_half(mean.mean_PYX[0])


def test_the_body_is_half_of_what_is_brighter_than_air(bodies: tuple[Tensor, Tensor]) -> None:
    """It holds head and spine, no corner of the frame."""
    _, body = bodies
    assert body.shape == (frame.FRAME[0], uptake.HALF)
    assert body[15:110, -1].all(), "the midline, from crown to pelvis"
    assert not body[:5].any()
    assert not body[:, :3].any()
    assert 0.3 < body.float().mean() < 0.7


def test_both_sides_count_alike(bodies: tuple[Tensor, Tensor]) -> None:
    """A mirrored body, with whatever it lacks, has the same features."""
    density, body = bodies
    density = density.clone()
    density[0, 150:, 60:] = torch.nan
    one, two = uptake.features(density, body), uptake.features(density.flip(-1), body)
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0, equal_nan=True)


def test_neither_dose_nor_time_matters(bodies: tuple[Tensor, Tensor]) -> None:
    """Three times the counts are the same; a third of them differ by their noise alone."""
    density, body = bodies
    one = uptake.features(density, body)
    torch.testing.assert_close(
        one, uptake.features(3 * density, body), atol=1e-4, rtol=0, equal_nan=True
    )
    rng = np.random.default_rng(0)
    thinned = []
    for scan in people(6, rows=512):
        counts = rng.binomial(scan.views[0].counts, 1 / 3).astype(np.uint16)
        sheets = frame.stack(
            [frame.lay(c, (scan.pixel_mm,) * 2) for c in (scan.views[0].counts, counts)]
        )
        whole, third = (uptake.features(template._inner(sheet)[None], body)[0] for sheet in sheets)
        thinned.append(third - whole)
    away = torch.stack(thinned)
    coarse = away[:, 2 * int(body.sum()) :]
    spread = float(np.nanstd(one.numpy(), axis=0).mean())
    assert abs(float(away.nanmean())) < 0.1 * spread
    assert float(coarse.nan_to_num().square().mean().sqrt()) < spread


def test_bands_are_differences_of_blurred_logarithms(bodies: tuple[Tensor, Tensor]) -> None:
    """Their sum is the finest less the coarsest logarithm, both sides averaged."""
    density, body = bodies
    whole = density.nan_to_num()
    bands = uptake.features(whole, body).view(len(whole), 3, -1).sum(dim=1)
    relative = (whole / frame.body_level(whole)[:, None, None]).numpy()
    fine, coarse = (
        np.log(
            ndimage.gaussian_filter(relative, (0, s, s), mode="nearest", truncate=3)
            + uptake.FAINTEST
        )
        for s in (uptake.SCALES[0], uptake.SCALES[-1])
    )
    both = ((fine - coarse) + (fine - coarse)[..., ::-1]) / 2
    expected = both[..., : uptake.HALF][:, body.numpy()]
    np.testing.assert_allclose(bands, expected, atol=1e-3)


def test_nan_is_where_both_sides_lack_a_place_and_nowhere_else(
    bodies: tuple[Tensor, Tensor],
) -> None:
    """Legs that are cut off, to a cell; a side alone stands for both."""
    density, body = bodies
    whole = density.nan_to_num()
    one_side, cut = whole.clone(), whole.clone()
    one_side[:, :, :30] = torch.nan
    cut[:, 180:] = torch.nan
    assert not uptake.features(one_side, body).isnan().any()
    missing = uptake.features(cut, body).isnan()
    below = (torch.arange(frame.FRAME[0])[:, None] >= 180).expand(-1, uptake.HALF)[body]
    assert (missing == below.repeat(3)).all()
    assert below.any()


def test_a_blank_view_has_features_that_are_all_alike(bodies: tuple[Tensor, Tensor]) -> None:
    """No counts: no contrast, and no NaN."""
    blank = uptake.features(torch.zeros(1, *frame.FRAME), bodies[1])
    np.testing.assert_allclose(blank, 0, atol=1e-5)


def test_values_return_to_the_places_they_were_read_at(bodies: tuple[Tensor, Tensor]) -> None:
    """Bright knees are drawn as knees, half on either side; sums stay."""
    _, body = bodies
    spot = torch.zeros(frame.FRAME)
    spot[160:170, 30:36] = 1.0
    lit = uptake.features(1 + spot[None], body)[0]
    drawn = uptake.onto_body(lit, body)
    torch.testing.assert_close(drawn, drawn.flip(-1))
    assert float(drawn.sum()) == pytest.approx(float(lit.sum()), abs=1e-3)
    row, column = divmod(int(drawn[:, : uptake.HALF].argmax()), uptake.HALF)
    assert 160 <= row < 170
    assert 30 <= column < 36


def test_agreement_of_sides_is_the_share_of_people_in_a_column() -> None:
    """Made of people and noise in known parts, some of them missing; noise alone has none."""
    rng = np.random.default_rng(3)
    people = rng.standard_normal((20_000, 4))
    noise = np.array([0.0, 0.5, 1.0, 1e6])
    one, two = (
        (7 + people + noise * rng.standard_normal(people.shape)).astype(np.float32)
        for _ in range(2)
    )
    one[::7, 1] = np.nan
    found = uptake.agreement(one, two)
    # variance of people over that of the mean of both sides
    np.testing.assert_allclose(found, 1 / (1 + noise**2 / 2), atol=0.02)
    nothing = np.full((3, 2), np.nan, np.float32)
    assert (uptake.agreement(nothing, nothing) == 0).all()

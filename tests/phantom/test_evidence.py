"""What a part of a phantom's picture says about its age."""

from dataclasses import replace

import numpy as np
import pytest

from bae.phantom import ageing, evidence
from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.camera import Camera
from bae.phantom.people import PhantomConfig, generator, visit
from bae.phantom.scan import camera_for, make, rates
from bae.scan import Box

CONFIG = PhantomConfig()
WHOLE = Box(0, 0, 256, 1024, 1.0)


@pytest.fixture(scope="module")
def scan3() -> evidence.Evidence:
    """The evidence in one scan."""
    return evidence.of(3, seed=5, config=CONFIG)


def test_information_is_what_the_dense_inverse_gives() -> None:
    """g' (diag(expected / seen) + J J')^-1 g, pixel by pixel, for made-up numbers."""
    rng = np.random.default_rng(0)
    shape = (2, 4, 5)
    some = evidence.Evidence(
        expected_vYX=rng.uniform(1, 9, shape),
        change_vYX=rng.normal(size=shape),
        causes_PN=rng.normal(size=(40, 7)).astype(np.float32),
        pixel=4.0,
        top=0.0,
    )
    seen = rng.choice([0.0, 0.3, 1.0], shape)
    used = seen.ravel() > 0
    covariance = np.diag((some.expected_vYX.ravel() / np.maximum(seen.ravel(), 1e-9))[used])
    covariance += some.causes_PN[used].astype(float) @ some.causes_PN[used].T
    change = some.change_vYX.ravel()[used]
    expected = change @ np.linalg.inv(covariance) @ change
    assert some.information(seen) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("number", "least"), [(0, 0.98), (3, 0.965), (6, 0.98), (8, 0.98)])
def test_change_with_age_is_what_the_simulation_does(number: int, least: float) -> None:
    """The same person, one year older and one younger, counted by the whole camera.

    World 3 has a coarse collimator far away, where one depth for every bone's blur fits least.
    """
    config = PhantomConfig(world=number)
    truth = evidence.of(3, seed=5, config=config)
    who = visit(3, 5, config)
    who = replace(who, foci=())
    older, younger = (
        ageing.uptake(
            who.latent_years + step, who.sex, generator(1), generator(2), who.world.effects
        )[0]
        for step in (1.0, -1.0)
    )
    fine, _ = camera_for(config)
    factor = fine.columns // 64
    camera = replace(fine, columns=64, rows=fine.rows // factor, pixel_mm=fine.pixel_mm * factor)
    half = np.sqrt(older / younger)
    counted = [
        np.stack(rates(replace(who, factors=who.factors * f), camera, generator(0))[:2])
        for f in (half, 1.0 / half)
    ]
    simulated = ((counted[0] - counted[1]) / 2.0).ravel()
    expected = truth.expected_vYX
    # the camera counts to a fixed total: what is gained here is lost everywhere
    claimed = (truth.change_vYX - expected * (truth.change_vYX.sum() / expected.sum())).ravel()
    assert np.corrcoef(simulated, claimed)[0, 1] > least
    # scattered photons' change is left out of the claim, half of which falls where bones change
    sharp = 1.0 - 0.5 * fine.scatter
    assert float(claimed @ simulated / (simulated @ simulated)) == pytest.approx(sharp, abs=0.06)


def test_evidence_lies_where_a_world_says() -> None:
    """World 1 ages legs and skull, world 2 chest and arms: the lower half says so."""
    shares = []
    for number in (1, 2):
        config = PhantomConfig(world=number, columns=256, rows=1024)
        truth = evidence.of(3, seed=5, config=config)
        row = int(make(3, seed=5, config=config).landmarks["left trochanter"][1])
        legs = Box(0, row, 256, 1024, 1.0)
        kept = truth.information(truth.shares({"anterior": [legs], "posterior": [legs]}))
        shares.append(kept / truth.information())
    assert shares[0] > 0.5
    assert shares[1] < 0.35


def test_parts_lie_where_the_landmarks_say() -> None:
    """In stored pixels of both views, to half a pixel of the coarse picture."""
    scan = make(3, seed=5)
    fine, _ = camera_for(CONFIG)
    camera = Camera(columns=64, rows=256, pixel_mm=fine.pixel_mm * 4)
    _, parts = evidence.pictures(visit(3, 5, CONFIG), camera)
    names = list(skeleton().names)
    for name in ("left patella", "skull vault", "right thumb base", "L3 body"):
        for view, picture in enumerate(parts[names.index(name)]):
            rows, columns = np.mgrid[:256, :64] + 0.5
            row = float((rows * picture).sum() / picture.sum()) * 4
            column = float((columns * picture).sum() / picture.sum()) * 4
            there = scan.landmarks[name]
            assert row == pytest.approx(there[1], abs=2.5)
            assert column == pytest.approx(there[0] if view == 0 else 256 - there[0], abs=2.5)


@pytest.mark.parametrize(
    "own",
    [
        [Box(17, 101, 90, 333, 1.0)],
        [Box(17, 101, 90, 333, 1.0), Box(60, 90, 131, 207, 1.0), Box(60, 150, 75, 160, 1.0)],
        [Box(3, 9, 10, 30, 1.0), Box(200, 900, 256, 1024, 1.0)],
    ],
    ids=["one", "three that overlap", "two apart"],
)
def test_share_of_pixels_is_what_counting_stored_pixels_gives(
    scan3: evidence.Evidence, own: list[Box]
) -> None:
    """Each coarse pixel is 4 x 4 stored ones, none counts twice; a view without box is dark."""
    mask = np.zeros((1024, 256))
    for box in own:
        mask[box.y0 : box.y1, box.x0 : box.x1] = 1
    expected = mask.reshape(256, 4, 64, 4).mean(axis=(1, 3))
    found = scan3.shares({"posterior": own})
    np.testing.assert_allclose(found[1], expected, atol=1e-9)
    assert not found[0].any()


def test_other_matrices_give_the_same_box_the_same_information(scan3: evidence.Evidence) -> None:
    """An export with pixels of half the side, box scaled alike."""
    large = evidence.of(3, seed=5, config=PhantomConfig(columns=512, rows=2048))
    box, twice = Box(60, 250, 196, 560, 1.0), Box(120, 500, 392, 1120, 1.0)
    one, two = (
        e.information(e.shares({"anterior": [b], "posterior": [b]}))
        for e, b in ((scan3, box), (large, twice))
    )
    assert one == pytest.approx(two, rel=0.02)


def test_a_part_of_the_picture_never_has_more_information_than_the_whole(
    scan3: evidence.Evidence,
) -> None:
    """More pixels, more information; all pixels, all of it; legs say less than the trunk."""
    whole = scan3.information()
    assert scan3.information(scan3.shares({"anterior": [WHOLE], "posterior": [WHOLE]})) == (
        pytest.approx(whole, rel=1e-6)
    )
    assert scan3.information(scan3.shares({})) == 0.0
    trunk, legs = (
        scan3.information(scan3.shares({"anterior": [b], "posterior": [b]}))
        for b in (Box(60, 250, 196, 560, 1.0), Box(0, 600, 256, 1024, 1.0))
    )
    anterior = scan3.information(scan3.shares({"anterior": [WHOLE]}))
    assert 0 < legs < trunk < whole
    assert 0.5 * whole < anterior < whole


def test_whole_scan_allows_about_what_a_linear_reader_reached(scan3: evidence.Evidence) -> None:
    """Ridge regression on the counts at every bone came to 3.05 years (bae/phantom/NOTES.md)."""
    error = ageing.limit_mae_years(
        (40, 80), float(np.hypot(CONFIG.latent_sd_years, scan3.information() ** -0.5))
    )
    assert ageing.limit_mae_years((40, 80)) < error < 3.05

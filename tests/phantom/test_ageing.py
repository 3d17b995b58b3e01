"""Age shows in the pictures as claimed, and the limit of any method is what is stated."""

from dataclasses import replace

import numpy as np
import pytest

from bae.phantom import ageing, lesions
from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.people import PhantomConfig, Visit, generator, visit
from bae.phantom.scan import camera_for, make, rates
from bae.phantom.world import World
from bae.scan import FEMALE, MALE

CONFIG = PhantomConfig()
CAMERA, _ = camera_for(CONFIG)
NAMES = list(skeleton().names)
EFFECTS, CLOCKS, LATENT_SD_YEARS = World().effects, World().clocks, World().latent_sd_years


def test_the_limit_is_what_numeric_integration_gives() -> None:
    """Plain sums over a grid of age and latent age, median read off the cumulated density."""
    sd, step = 2.6, 0.02
    age = np.arange(40 + step / 2, 80, step)
    latent = np.arange(40 - 5 * sd, 80 + 5 * sd, 0.05)[:, None]
    joint = np.exp(-0.5 * ((latent - age) / sd) ** 2)
    share = np.cumsum(joint, axis=1) / joint.sum(axis=1, keepdims=True)
    median = age[(share < 0.5).sum(axis=1)][:, None]
    error = (np.abs(age - median) * joint).sum() / joint.sum()
    assert ageing.limit_mae_years((40, 80), sd) == pytest.approx(error, abs=0.005)


def test_the_known_limit_agrees_with_simulated_people() -> None:
    """Two hundred thousand people, each guessed at the median of those of like latent age."""
    rng = np.random.default_rng(0)
    age = rng.uniform(40, 80, 200_000)
    latent = age + LATENT_SD_YEARS * rng.standard_normal(age.size)
    order = np.argsort(latent)
    groups = age[order].reshape(400, 500)
    error = np.abs(groups - np.median(groups, axis=1, keepdims=True)).mean()
    assert ageing.limit_mae_years((40, 80)) == pytest.approx(error, abs=0.02)


def test_the_limit_lies_near_two_years() -> None:
    """On ages 40-80, and it grows with the noise."""
    assert 1.8 < ageing.limit_mae_years((40, 80)) < 2.2
    assert ageing.limit_mae_years((40, 80), 4.0) > 2.5


def test_every_effect_names_parts_of_the_skeleton_and_says_what_it_stands_for() -> None:
    """No pattern is void; what has no source is listed as an assumption here."""
    for effect, members in zip(EFFECTS, ageing.effect_parts(EFFECTS), strict=True):
        assert members.any(), effect.name
    assumed = {effect.name for effect in EFFECTS if not effect.source}
    assert assumed == {"jaw", "shafts", "contrast"}


def _at(who: Visit, latent: float, sex: str) -> Visit:
    """Return the same person on the same day with another latent age."""
    factors, _ = ageing.uptake(latent, sex, generator(5, 1), generator(5, 2), EFFECTS)
    return replace(who, factors=factors, foci=())


def _net_counts(who: Visit, parts: tuple[str, ...], view: int) -> tuple[float, float]:
    """Return counts of some parts (with and without them) and of thigh muscle, same pictures."""
    *pictures, placed = rates(who, CAMERA, generator(0))
    picture = pictures[view]
    without = who.factors.copy()
    for part in parts:
        without[NAMES.index(part)] = 0.0
    hollow = replace(who, factors=without)
    bare = rates(hollow, CAMERA, generator(0))[view]
    knee, hip = placed.joints["left knee"], placed.joints["left hip"]
    row = int(CAMERA.rows - (0.6 * hip[2] + 0.4 * knee[2]) / CAMERA.pixel_mm)
    x = 0.35 * (hip[0] + knee[0]) / 2.0 * (1 if view == 0 else -1)
    column = int(CAMERA.columns / 2 + x / CAMERA.pixel_mm)
    box = (slice(row - 6, row + 7), slice(column - 2, column + 3))
    # the two pictures are scaled to the same total: undo it with the thigh
    thigh = float(picture[box].mean())
    return float((picture - bare * (thigh / bare[box].mean())).sum()), thigh


CONTRAST = {MALE: -0.14, FEMALE: -0.18}
"""Claimed change in 20 years of every bone's log uptake against soft tissue."""


@pytest.mark.parametrize(
    ("parts", "view", "men", "women"),
    [
        (("skull vault",), 0, 0.24, 0.38),
        (("sternum body",), 0, -0.40, -0.40),
        (("L3 body", "L4 body"), 1, -0.26, -0.32),
        (("L2 lower plate", "L3 upper plate"), 1, 0.48, 0.48),
        (("left sacroiliac",), 1, -0.36, -0.42),
        (("left hip roof",), 0, 0.32, 0.32),
        (("left medial knee",), 0, 0.40, 0.48),
        (("left acromion",), 0, 0.36, 0.36),
    ],
)
@pytest.mark.parametrize("sex", [FEMALE, MALE])
def test_uptake_changes_in_the_pictures_as_claimed(
    parts: tuple[str, ...], view: int, men: float, women: float, sex: str
) -> None:
    """Counts of a bone over the thigh's, at latent 75 against 45, follow the claimed slope."""
    who = visit(3, 0, CONFIG)
    logs = []
    for latent in (45.0, 75.0):
        bone, thigh = _net_counts(_at(who, latent, sex), parts, view)
        logs.append(np.log(bone / thigh))
    claimed = 1.5 * ((men if sex == MALE else women) + CONTRAST[sex])
    assert logs[1] - logs[0] == pytest.approx(claimed, abs=0.05)


def test_noise_of_uptake_has_the_stated_spread() -> None:
    """Over many people the shared change of each effect has its standard deviation."""
    changes = [
        ageing.uptake(60.0, MALE, generator(1, i), generator(2, i), EFFECTS)[1] for i in range(400)
    ]
    for effect in EFFECTS:
        spread = np.std([change[effect.name] for change in changes])
        assert spread == pytest.approx(effect.sd, rel=0.15), effect.name


def test_degenerative_foci_become_more_and_larger_with_age() -> None:
    """Mean number as stated at 45 and 75; the radius of the oldest foci grows."""
    people = range(300)
    young = [lesions.degenerative(45.0, MALE, generator(1, i), CLOCKS) for i in people]
    old = [lesions.degenerative(75.0, MALE, generator(1, i), CLOCKS) for i in people]
    for foci, latent in ((young, 45.0), (old, 75.0)):
        assert np.mean([len(f) for f in foci]) == pytest.approx(
            CLOCKS[0].expected(latent), rel=0.15
        )
    for before, after in zip(young, old, strict=True):
        assert len(after) >= len(before)
        for first, then in zip(before, after, strict=False):
            assert then.part == first.part
            assert then.radius_mm >= first.radius_mm


def test_distractors_say_nothing_about_age() -> None:
    """They are drawn without the age: the same day brings the same ones to anyone."""
    young = visit(6, 0, PhantomConfig(ages=(40, 45)))
    old = visit(6, 0, PhantomConfig(ages=(75, 80)))
    seen = []
    for who in (young, old):
        seen.append([(f.kind, f.part, f.radius_mm) for f in who.foci if f.kind != "degenerative"])
    assert seen[0] == seen[1]


def test_fine_evidence_is_lost_in_small_pictures() -> None:
    """Averaging to a thumbnail loses far more of the end-plates' change than of the skull's."""
    who = replace(visit(3, 0, CONFIG), foci=())

    def lost(names: tuple[str, ...], block: int) -> float:
        pictures = []
        for sign in (-1.0, 1.0):
            change = np.zeros(len(NAMES))
            for effect, members in zip(EFFECTS, ageing.effect_parts(EFFECTS), strict=True):
                change += members * (effect.name in names) * effect.per_20_years * 0.75 * sign
            older = replace(who, factors=who.factors * np.exp(change))
            pictures.append(rates(older, CAMERA, generator(0))[1])
        signal = (pictures[1] - pictures[0]) / np.sqrt(pictures[0] + pictures[1] + 0.01)
        shape = (1024 // block, block, 256 // block, block)
        small = signal.reshape(shape).mean(axis=(1, 3))
        back = np.repeat(np.repeat(small, block, axis=0), block, axis=1)
        return float(((signal - back) ** 2).sum() / (signal**2).sum())

    fine = lost(("end-plates", "spine bodies"), 4)
    coarse = lost(("skull",), 4)
    assert fine > 0.15
    assert fine > 2.5 * coarse


@pytest.mark.slow
def test_old_and_young_cohorts_differ_as_published() -> None:
    """From noisy counts alone: skull and knee over thigh rise from 42 to 78, sternum falls."""
    logs = []
    for ages in ((40.0, 44.0), (76.0, 80.0)):
        people = []
        for k in range(16):
            scan = make(k, seed=9, config=PhantomConfig(ages=ages))
            counts = scan.views[0].counts
            left, right = scan.landmarks["left femur"], scan.landmarks["right femur"]
            places = {
                "thigh": ((left[0] + right[0]) / 2 + 0.22 * (left[0] - right[0]), left[1]),
                "skull": scan.landmarks["skull vault"],
                "sternum": scan.landmarks["sternum body"],
                "knee": scan.landmarks["right medial knee"],
            }
            means = {
                name: counts[int(r) - 3 : int(r) + 4, int(c) - 2 : int(c) + 3].mean()
                for name, (c, r) in places.items()
            }
            people.append(
                [np.log(means[name] / means["thigh"]) for name in ("skull", "sternum", "knee")]
            )
        logs.append(np.array(people))
    change = logs[1].mean(axis=0) - logs[0].mean(axis=0)
    error = np.sqrt(sum(log.var(axis=0) / len(log) for log in logs))
    assert (change / error > [3.0, -np.inf, 2.0]).all()
    assert change[1] / error[1] < -3.0

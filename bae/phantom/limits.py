"""What the best reader can reach in a cohort: from the latent age, and from regional uptake.

A reader of a picture never sees the latent age. The most that a picture can show of it is
the true uptake of every bone in the field of view, without the camera's noise, and where
degenerative foci lie. Given latent age the log uptakes are Gaussian: the known change of
each effect, noise that its parts share, noise of each part. So the likelihood of a latent
age is exact, the posterior of the chronological age is a sum over a grid, and its median is
the answer of least mean absolute error. The foci's number is a Poisson variable for each
clock; sizes and sites say nothing more, see ``bae.phantom.lesions``.

For the likelihood parts count only through b = M' D^-1 x (M: which effects move a part, D:
noise of the parts, x: log uptakes), which has K numbers for K effects. Left out: artificial
joints, which hide a part of the evidence in a few people.

Shape suffixes: N people, P parts, K effects, G latent ages, A chronological ages.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bae.phantom import ageing, lesions
from bae.phantom.anatomy.body import place
from bae.phantom.anatomy.skeleton import Skeleton, skeleton
from bae.phantom.people import PhantomConfig, age_at, camera_for, generator, visit
from bae.phantom.world import World, world
from bae.scan import FEMALE, MALE

Floats = NDArray[np.float64]

PEOPLE = 20_000
"""Simulated for the regional limit; its standard error is then about 0.01 years."""
FIELDS = 80
"""Visits whose field of view is looked up; people share them."""
AGES = 400
"""Chronological ages of the grid, equally likely."""
LATENT_STEP_YEARS = 0.2


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Least mean absolute errors in years, for a reader who knows the sex.

    Attributes:
        latent: knowing the latent age exactly.
        regional: knowing the true uptake of every bone in the field and every focus.
        women, men: the regional one in each sex.
    """

    latent: float
    regional: float
    women: float
    men: float


@functools.cache
def limits(config: PhantomConfig) -> Limits:
    """Return what can be reached at best in a cohort."""
    women, men = (_regional(config, sex) for sex in (FEMALE, MALE))
    share = world(config.world).women_share
    return Limits(
        latent=latent_mae_years(config),
        regional=share * women + (1.0 - share) * men,
        women=women,
        men=men,
    )


def latent_mae_years(config: PhantomConfig, reader_sd: float = 0.0) -> float:
    """Return the least error of who knows the latent age, or reads it with some noise.

    Args:
        config: of the cohort.
        reader_sd: standard deviation of the reading, years.
    """
    assumed = world(config.world)
    sd = float(np.hypot(config.latent_sd_years, reader_sd))
    if assumed.age_sd_years == 0.0:
        return ageing.limit_mae_years(config.ages, sd)
    found = []
    for sex in (FEMALE, MALE):
        age_A = _ages(config, sex, 4 * AGES)
        latent_G = np.arange(age_A[0] - 6.0 * sd, age_A[-1] + 6.0 * sd, 0.05)
        joint_GA = np.exp(-0.5 * ((latent_G[:, None] - age_A) / sd) ** 2)
        found.append(float(_errors(joint_GA, age_A) @ joint_GA.sum(axis=1) / joint_GA.sum()))
    return assumed.women_share * found[0] + (1.0 - assumed.women_share) * found[1]


def _ages(config: PhantomConfig, sex: str, count: int) -> Floats:
    """Return equally likely ages, rising."""
    low, high = config.ages
    even = low + (high - low) * (np.arange(count) + 0.5) / count
    return np.asarray(age_at(even, sex, config.ages, world(config.world)))


def _errors(weight_NA: Floats, age_A: Floats) -> Floats:
    """Return each row's mean distance from its median."""
    share_NA = weight_NA / weight_NA.sum(axis=1, keepdims=True)
    below_NA = share_NA.cumsum(axis=1)
    after = np.minimum((below_NA < 0.5).sum(axis=1), len(age_A) - 1)
    # within a step of the grid the place of the median changes the mean distance hardly at all
    return np.asarray((share_NA * np.abs(age_A - age_A[after][:, None])).sum(axis=1))


def in_field(config: PhantomConfig, seed: int, visits: int) -> NDArray[np.bool_]:
    """Return which parts lie in the picture, (visits, P), for the first visits of a cohort."""
    bones = skeleton()
    sums = np.bincount(bones.part, bones.weight)
    middles = [np.bincount(bones.part, bones.weight * axis) / sums for axis in bones.points.T]
    dots = one_point_each(bones, np.stack(middles, axis=1).astype(np.float32))
    camera, _ = camera_for(config)
    wide, high = camera.columns * camera.pixel_mm, camera.rows * camera.pixel_mm
    seen = []
    for k in range(visits):
        who = visit(k, seed, config)
        x, _, z = place(dots, who.build, who.pose).points.T
        seen.append((np.abs(x) < wide / 2.0) & (z > 0.0) & (z < high))
    return np.array(seen)


def one_point_each(bones: Skeleton, middles: NDArray[np.float32]) -> Skeleton:
    """Return the skeleton with one point in place of each part."""
    one = np.arange(len(middles))
    return replace(bones, points=middles, part=one, weight=np.ones(len(one), np.float32))


def _regional(config: PhantomConfig, sex: str) -> float:
    assumed, rng = world(config.world), generator(11, config.world, int(sex == MALE))
    age_A = _ages(config, sex, AGES)
    reach = 5.0 * config.latent_sd_years
    latent_G = np.arange(age_A[0] - reach, age_A[-1] + reach, LATENT_STEP_YEARS)
    apart_GA = (latent_G[:, None] - age_A) / config.latent_sd_years
    latent_GA = np.exp(-0.5 * apart_GA**2)
    change_GK = np.stack([effect.change(latent_G, sex) for effect in assumed.effects], axis=1)
    people = PEOPLE // (2 * FIELDS)
    errors = []
    for seen_P in in_field(config, 0, FIELDS):
        even = rng.uniform(*config.ages, size=people)
        age_N = np.asarray(age_at(even, sex, config.ages, assumed))
        latent_N = age_N + config.latent_sd_years * rng.standard_normal(people)
        log_NG = _bones(assumed, sex, seen_P, latent_N, change_GK, rng)
        log_NG += _foci(assumed, sex, seen_P, latent_N, latent_G, rng)
        likely_NG = np.exp(log_NG - log_NG.max(axis=1, keepdims=True))
        errors.append(_errors(likely_NG @ latent_GA, age_A))
    return float(np.mean(errors))


def _bones(
    assumed: World,
    sex: str,
    seen_P: NDArray[np.bool_],
    latent_N: Floats,
    change_GK: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Return the log likelihood (N, G) of latent ages by the uptakes of simulated people."""
    effects = assumed.effects
    member_KP = np.array(ageing.effect_parts(effects)) & seen_P
    noise_P = np.array([effect.part_sd for effect in effects]) ** 2 @ member_KP
    bone_P = noise_P > 0
    member_PK = member_KP[:, bone_P].T.astype(float)
    inner_KK = member_PK.T @ (member_PK / noise_P[bone_P, None])
    sd_K = np.array([effect.sd for effect in effects])
    change_NK = np.stack([effect.change(latent_N, sex) for effect in effects], axis=1)
    change_NK += sd_K * rng.standard_normal(change_NK.shape)
    values, vectors = np.linalg.eigh(inner_KK)
    root_KK = vectors * np.sqrt(np.maximum(values, 0.0))
    seen_NK = change_NK @ inner_KK + rng.standard_normal(change_NK.shape) @ root_KK.T
    # Woodbury: what the shared noise takes away from what the parts' own noise leaves
    shared_KK = np.eye(len(sd_K)) + sd_K[:, None] * inner_KK * sd_K
    taken_KK = (inner_KK * sd_K) @ np.linalg.inv(shared_KK) * sd_K
    left_KK, left_NK = inner_KK - taken_KK @ inner_KK, seen_NK - seen_NK @ taken_KK.T
    squares_G = np.einsum("gk,kl,gl->g", change_GK, left_KK, change_GK)
    return np.asarray(left_NK @ change_GK.T - 0.5 * squares_G)


def _foci(
    assumed: World,
    sex: str,
    seen_P: NDArray[np.bool_],
    latent_N: Floats,
    latent_G: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Return the log likelihood (N, G) of latent ages by the number of degenerative foci."""
    names = skeleton().names
    seen = {name for name, there in zip(names, seen_P, strict=True) if there}
    total = np.zeros((len(latent_N), len(latent_G)))
    for clock in assumed.clocks:
        weights = lesions.site_weights(clock, sex)
        shares = [np.mean([part in seen for part in parts]) for parts, _ in clock.sites]
        visible = float(weights @ shares / weights.sum())
        if visible > 0:
            counts_N = rng.poisson(visible * clock.expected(latent_N))
            expected_G = visible * clock.expected(latent_G)
            total += counts_N[:, None] * np.log(expected_G) - expected_G
    return total

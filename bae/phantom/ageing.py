"""What age does to the skeleton's uptake, and how well any method can read it back.

Every effect is driven by one latent skeletal age, chronological age plus
person-to-person noise, so no picture can say more about the age than the
latent age does: ``limit_mae_years`` is the least mean absolute error of any
method. Each region's uptake has noise of its own, so regions must be combined.
"""

import fnmatch
import functools

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.world import Effect, World

Floats = NDArray[np.float64]

NOT_BONE = ("bladder", "genitals", "larynx", "* kidney", "* injection")


@functools.cache
def effect_parts(effects: tuple[Effect, ...]) -> tuple[NDArray[np.bool_], ...]:
    """Return for each effect which parts it moves, (parts,)."""
    names = skeleton().names
    bone = np.array([not any(fnmatch.fnmatch(n, p) for p in NOT_BONE) for n in names])
    return tuple(
        bone & np.array([any(fnmatch.fnmatch(name, p) for p in effect.parts) for name in names])
        for effect in effects
    )


def uptake(
    latent_years: float,
    sex: str,
    person: np.random.Generator,
    scan: np.random.Generator,
    effects: tuple[Effect, ...],
) -> tuple[Floats, dict[str, float]]:
    """Return the uptake of every part relative to the reference skeleton.

    Args:
        latent_years: latent skeletal age.
        sex: ``F`` or ``M``.
        person: noise that stays with the person.
        scan: noise of this day.
        effects: a world's.

    Returns:
        (parts,) factors, and the shared log change of each effect by name.
    """
    log_uptake = np.zeros(len(skeleton().names))
    shared = {}
    for effect, members in zip(effects, effect_parts(effects), strict=True):
        change = effect.change(latent_years, sex) + effect.sd * (
            0.9 * person.standard_normal() + 0.436 * scan.standard_normal()
        )
        own = effect.part_sd * person.standard_normal(len(log_uptake))
        log_uptake += members * (change + own)
        shared[effect.name] = float(change)
    return np.exp(log_uptake), shared


def limit_mae_years(ages: tuple[float, float], latent_sd: float = World().latent_sd_years) -> float:
    """Return the least mean absolute error that any method can reach.

    Given the latent age L of a person whose age is uniform on [a, b], the age is
    normal around L with the noise's s, cut to [a, b]. The best answer is its median
    m(L), where the normal distribution of (m - L) / s lies midway between those of
    (a - L) / s and (b - L) / s. The halves below and above the median have means in
    closed form, and averaging their distance over all L leaves

        s / (b - a) * (2 * integral of phi((m(L) - L) / s) dL - 2 s)

    Args:
        ages: youngest and oldest age, years.
        latent_sd: standard deviation of latent age minus age, years.
    """
    low, high = ages
    # symmetric about the middle; the upper half is the one where small tails stay exact
    latent = np.linspace((low + high) / 2.0, high + 8.0 * latent_sd, 20001)
    below, above = (special.ndtr((age - latent) / latent_sd) for age in (low, high))
    median = special.ndtri((below + above) / 2.0)
    density = np.exp(-0.5 * median**2) / np.sqrt(2.0 * np.pi)
    half = float(np.trapezoid(density, latent))
    return latent_sd / (high - low) * (4.0 * half - 2.0 * latent_sd)

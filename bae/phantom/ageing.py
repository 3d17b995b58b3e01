"""What age does to the skeleton's uptake, and how well any method can read it back.

Every effect is driven by one latent skeletal age, chronological age plus
person-to-person noise, so no picture can say more about the age than the
latent age does: ``limit_mae_years`` is the least mean absolute error of any
method. Each region's uptake has noise of its own, so regions must be combined.

The direction of each effect stands for published findings (``Effect.source``):

- skull rises, in women from the menopause on and more than in men: Suematsu et
  al., Kaku Igaku 1992;29:599-605; Kigami et al., J Nucl Med 1996;37:815-8;
  Sadeghi et al., Nucl Med Rev 2008;11:67-9
- the sternum's parts stand out with age, joints against body: Syed et al., Nucl
  Med Commun 2005;26:253-7; Kakhki and Zakavi, Clin Nucl Med 2006;31:63-7
- lower spine falls after 50 in both sexes: Sundkvist et al., Nuklearmedizin
  1997;36:52-5
- end-plates and facets become active: Makki et al., Spine J 2010;10:58-62
- sacroiliac joints against sacrum fall, more steadily in women: Lin and Wang, J
  Nucl Med 1998;39:1269-72; Vyas et al., AJR 1981;136:589-92
- knees, hips, shoulders and feet rise: a survey of 289 scans, Indian J Nucl Med
  2012;27:73-80 (IJNM 2012); thumb base, finger joints and patella, more in women: Jónsson et
  al., J Rheumatol 1999;26:1550-6

All sizes, the noise of each region, and that the change is exponential in age,
are assumptions, chosen so that combining all regions comes close to the limit
while no single one does. So are the jaw (against the teeth's loss) and the shafts,
and "contrast", bone against soft tissue, which falls here as soft tissue retains
more with weaker kidneys; whole-body uptake itself is reported to rise in women
over 55 (Brenner et al., Nuklearmedizin 2000;39:127-32).
"""

import fnmatch
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bae.phantom.anatomy.skeleton import skeleton

Floats = NDArray[np.float64]

LATENT_SD_YEARS = 2.6
"""Person-to-person noise; ours, so that the limit lies near 2 years on ages 40-80."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Uptake of some parts against latent age.

    Attributes:
        name: what the truth table calls it.
        parts: patterns of part names, as in ``fnmatch``.
        per_20_years: change of the log uptake in 20 years in men, zero at 60.
        women: added for women.
        sd: person-to-person noise of the log uptake, shared by all its parts.
        part_sd: noise of the log uptake of each part on its own.
        source: what the direction stands for; empty where it is an assumption.
    """

    name: str
    parts: tuple[str, ...]
    per_20_years: float
    women: float = 0.0
    sd: float = 0.12
    part_sd: float = 0.0
    source: str = ""


EFFECTS = (
    Effect(name="skull", parts=("skull *", "occiput"), per_20_years=0.24, women=0.14,
           source="Suematsu 1992, Kigami 1996, Sadeghi 2008"),
    Effect(name="jaw", parts=("*jaw", "maxilla"), per_20_years=0.10, sd=0.25),
    Effect(name="sternum", parts=("manubrium", "sternum body"), per_20_years=-0.40,
           source="Syed 2005, Kakhki 2006"),
    Effect(name="sternal joints", parts=("sternal angle", "* sternoclavicular", "* rib * end"),
           per_20_years=0.34, part_sd=0.18, source="Syed 2005, Kakhki 2006"),
    Effect(name="spine bodies", parts=("C? body", "T? body", "T?? body", "L? body"),
           per_20_years=-0.26, women=-0.06, source="Sundkvist 1997"),
    Effect(name="end-plates", parts=("* plate",), per_20_years=0.48, sd=0.1, part_sd=0.25,
           source="Makki 2010"),
    Effect(name="facets", parts=("* facet",), per_20_years=0.48, sd=0.1, part_sd=0.3,
           source="Makki 2010"),
    Effect(name="sacroiliac", parts=("* sacroiliac",), per_20_years=-0.36, women=-0.06,
           source="Lin 1998, Vyas 1981"),
    Effect(name="hips", parts=("* hip roof", "* acetabulum", "* trochanter"), per_20_years=0.32,
           source="IJNM 2012"),
    Effect(name="knees", parts=("* knee", "* patella", "* tibial plateau"), per_20_years=0.40,
           women=0.08, part_sd=0.12, source="IJNM 2012, Jónsson 1999"),
    Effect(name="shoulders", parts=("* acromion", "* glenoid", "* greater tubercle"),
           per_20_years=0.36, part_sd=0.12, source="IJNM 2012"),
    Effect(name="hands", parts=("* finger joint *", "* thumb base"), per_20_years=0.42,
           women=0.08, part_sd=0.3, source="Jónsson 1999"),
    Effect(name="feet", parts=("* big toe joint", "* midfoot"), per_20_years=0.32, part_sd=0.2,
           source="IJNM 2012"),
    Effect(name="shafts", parts=("* femur", "* tibia", "* humerus", "* radius", "* ulna"),
           per_20_years=-0.18),
    Effect(name="contrast", parts=("*",), per_20_years=-0.14, women=-0.04, sd=0.10, part_sd=0.04),
)  # fmt: skip

NOT_BONE = ("bladder", "genitals", "larynx", "* kidney", "* injection")


@functools.cache
def effect_parts() -> tuple[NDArray[np.bool_], ...]:
    """Return for each effect which parts it moves, (parts,)."""
    names = skeleton().names
    bone = np.array([not any(fnmatch.fnmatch(n, p) for p in NOT_BONE) for n in names])
    return tuple(
        bone & np.array([any(fnmatch.fnmatch(name, p) for p in effect.parts) for name in names])
        for effect in EFFECTS
    )


def uptake(
    latent_years: float, sex: str, person: np.random.Generator, scan: np.random.Generator
) -> tuple[Floats, dict[str, float]]:
    """Return the uptake of every part relative to the reference skeleton.

    Args:
        latent_years: latent skeletal age.
        sex: ``F`` or ``M``.
        person: noise that stays with the person.
        scan: noise of this day.

    Returns:
        (parts,) factors, and the shared log change of each effect by name.
    """
    decades = (latent_years - 60.0) / 20.0
    log_uptake = np.zeros(len(skeleton().names))
    shared = {}
    for effect, members in zip(EFFECTS, effect_parts(), strict=True):
        slope = effect.per_20_years + (effect.women if sex == "F" else 0.0)
        change = slope * decades + effect.sd * (
            0.9 * person.standard_normal() + 0.436 * scan.standard_normal()
        )
        own = effect.part_sd * person.standard_normal(len(log_uptake))
        log_uptake += members * (change + own)
        shared[effect.name] = float(change)
    return np.exp(log_uptake), shared


def limit_mae_years(ages: tuple[float, float], latent_sd: float = LATENT_SD_YEARS) -> float:
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

"""Draw a world from wide but believable ranges.

What is drawn follows what differs between published series and hospitals: direction and
size of regional ageing hardly agree between studies (sources in ``parts``), so each world
has two regions that carry most of the age and others that carry little, and a published
direction holds in most worlds but not in all. Each topic has random numbers of its own:
a further number in one topic leaves the others as they were.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bae.errors import UseError
from bae.phantom.world.assumed import World
from bae.phantom.world.parts import CLOCKS, EFFECTS, JOINTS, OTHERS, Clock, Effect
from bae.scan import FEMALE, MALE

Rng = np.random.Generator

REGIONS = {
    "skull": ("skull", "jaw"),
    "chest": ("sternum", "sternal joints", "ribs", "shoulder blades"),
    "spine": ("spine bodies", "end-plates", "facets"),
    "pelvis": ("sacroiliac", "sacrum", "hip bones", "hips"),
    "arms": ("shoulders", "hands", "elbows and wrists"),
    "legs": ("knees", "feet", "ankles and heels", "shafts"),
}
"""Effects that are strong or weak together."""

TURNED = {"jaw": 0.4, "sternum": 0.4, "ribs": 0.5, "shoulder blades": 0.5, "sacrum": 0.5}
TURNED |= {"hip bones": 0.5, "shafts": 0.4, "contrast": 0.4, "skull": 0.2, "spine bodies": 0.3}
TURNED |= {"sacroiliac": 0.25, "sternal joints": 0.15, "end-plates": 0.1, "hips": 0.1}
"""Chance that an effect goes the other way than in world 0: large where little is known, none
for knees, shoulders, hands and feet, whose joints never cool down."""

STEEPEST = 0.55
"""Largest change of a log uptake in 20 years: by three quarters up, by two fifths down."""

MATRICES = {(256, 1024): 0.58, (128, 512): 0.16, (192, 768): 0.10, (256, 896): 0.09}
MATRICES |= {(512, 2048): 0.07}


@functools.cache
def world(number: int) -> World:
    """Return a world, the same for the same number on any machine.

    Raises:
        UseError: the number is negative.
    """
    if number < 0:
        raise UseError(f"there is no world {number}: worlds are numbered from 0")
    if number == 0:
        return World()
    ageing = functools.partial(_ageing, carrying=carriers(number))
    topics: tuple[Callable[[Rng], dict[str, Any]], ...] = (
        _people, ageing, _foci, _camera, _habits, _storage,
    )  # fmt: skip
    drawn: dict[str, Any] = {}
    for i, topic in enumerate(topics):
        words = np.random.SeedSequence((number, 1000 + i))
        drawn |= topic(np.random.Generator(np.random.Philox(words)))
    return World(number=number, **drawn)


def _between(rng: Rng, low: float, high: float, digits: int = 3) -> float:
    return round(float(rng.uniform(low, high)), digits)


def _log_between(rng: Rng, low: float, high: float, digits: int = 3) -> float:
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), digits)


def _times(rng: Rng, usual: float, most: float, digits: int = 3) -> float:
    """Return ``usual`` times or over up to ``most``."""
    return _log_between(rng, usual / most, usual * most, digits)


def _people(rng: Rng) -> dict[str, Any]:
    women = _between(rng, 52.0, 68.0, 1)
    return {
        "ages": (float(rng.integers(20, 41)), float(rng.integers(85, 96))),
        # men come with prostate cancer, on average later
        "mean_age_years": (women, round(women + float(rng.uniform(-2.0, 8.0)), 1)),
        "age_sd_years": 0.0 if rng.random() < 0.2 else _between(rng, 10.5, 16.0, 1),
        "women_share": _between(rng, 0.3, 0.7, 2),
        "latent_sd_years": _log_between(rng, 1.5, 4.2, 2),
        "mass_index": (_between(rng, 22.5, 29.5, 1), _between(rng, 3.0, 5.0, 1)),
        "height_mm": (_between(rng, 1550.0, 1670.0, 0), _between(rng, 1670.0, 1800.0, 0)),
        "height_sd_mm": _between(rng, 55.0, 75.0, 0),
    }


def carriers(number: int) -> tuple[str, str]:
    """Return the two regions that carry most of the age: by turns, three worlds show all six.

    As a tournament pairs its players: one stays, the others go round.
    """
    turn, game = divmod((number - 1) % 15, 3)
    names = list(REGIONS)
    others, last = names[:-1], names[-1]
    first = last if game == 0 else others[(turn + game) % 5]
    return first, others[(turn - game) % 5]


def _ageing(rng: Rng, carrying: tuple[str, str]) -> dict[str, Any]:
    weight, women = {}, {}
    for region, names in REGIONS.items():
        strong = rng.uniform(1.0, 1.6) if region in carrying else rng.uniform(0.1, 0.6)
        # in some worlds a region ages in one sex alone
        lopsided = rng.random()
        one_sex = (0.2, 1.0) if lopsided < 0.2 else (1.0, 0.2) if lopsided < 0.3 else (1.0, 1.0)
        for name in names:
            weight[name], women[name] = strong, one_sex
    weight["contrast"], women["contrast"] = rng.uniform(0.2, 0.7), (1.0, 1.0)
    turn_women, turn_men = _between(rng, 47.0, 54.0, 1), _between(rng, 52.0, 70.0, 1)
    effects = []
    for effect in (*EFFECTS[:-1], *OTHERS, EFFECTS[-1]):
        turned = rng.random() < TURNED.get(effect.name, 0.0)
        sign = float(np.sign(effect.per_20_years)) * (-1.0 if turned else 1.0)
        size = sign * float(rng.uniform(0.18, 0.45)) * weight[effect.name]
        men_share, women_share = women[effect.name]
        late = np.clip(0.4 * rng.standard_normal(2), -0.6, 0.6) * abs(size)
        both = _between(rng, -0.2, 0.2)
        men = float(np.clip(size * men_share, -STEEPEST, STEEPEST))
        in_women = size * women_share * float(rng.normal(1.1, 0.25))
        in_women = float(np.clip(in_women, -STEEPEST, STEEPEST))
        men_late = float(late[0]) * men_share
        # the menopause turns courses more than men's years do
        women_late = float(late.sum()) * women_share
        effects.append(
            replace(
                effect,
                per_20_years=round(men, 3),
                women=round(in_women - men, 3),
                late=round(float(np.clip(men_late, -STEEPEST - men, STEEPEST - men)), 3),
                late_women=round(
                    float(np.clip(women_late, -STEEPEST - in_women, STEEPEST - in_women)), 3
                ),
                turn_years=turn_men,
                turn_women_years=turn_women,
                base=both if effect.name != "contrast" else 0.0,
                sd=_times(rng, effect.sd, 1.6),
                part_sd=_times(rng, effect.part_sd, 1.6) if effect.part_sd else 0.0,
                source="",
            )
        )
    return {"effects": _scaled(effects, rng.uniform(np.log(1.6), np.log(4.2)))}


def _scaled(effects: list[Effect], log_years: float) -> tuple[Effect, ...]:
    """Scale the noise until reading the shared changes alone errs by about so many years.

    A reader of every effect's shared change at 60 has the Fisher information
    sum((change per year / noise)^2). Noise stays within what persons differ by: 5-60 %.
    """
    found = sum(
        (effect.per_year(60.0, sex) / effect.sd) ** 2 / 2.0
        for effect in effects
        for sex in (FEMALE, MALE)
    )
    factor = float(np.clip(np.exp(log_years) * np.sqrt(found), 0.6, 2.2))
    return tuple(
        replace(
            effect,
            sd=round(float(np.clip(effect.sd * factor, 0.05, 0.4)), 3),
            part_sd=round(min(effect.part_sd * factor, 0.45), 3),
        )
        for effect in effects
    )


def _foci(rng: Rng) -> dict[str, Any]:
    clocks = []
    everything = sum(weight for _, weight in CLOCKS[0].sites)
    for name, sites in JOINTS.items():
        share = sum(weight for _, weight in sites) / everything
        clocks.append(
            Clock(
                name=name,
                at_40=round(share * _log_between(rng, 0.25, 1.3), 4),
                doubling_years=_between(rng, 8.0, 18.0, 1),
                sites=sites,
            )
        )
    return {
        "clocks": tuple(clocks),
        "rib_fractures": _times(rng, 0.12, 2.0),
        "vertebral_fractures": _times(rng, 0.06, 2.0),
        "metastases": _times(rng, 0.09, 3.0),
        "dental_foci": _times(rng, 0.22, 2.0),
        "urine_spills": _times(rng, 0.06, 2.0),
        "old_injuries": _times(rng, 0.02, 2.0),
        "injection_sites": _between(rng, 0.05, 0.5),
        "artificial_joints": _times(rng, 0.025, 2.5),
        "bladder_log": (_between(rng, -1.5, 0.0), _between(rng, 0.5, 1.0)),
        "kidneys_log": (_between(rng, -0.6, 0.3), _between(rng, 0.3, 0.6)),
        "tissue": _times(rng, 1.0, 1.7),
        "unevenness": _between(rng, 0.7, 1.8),
    }


def _camera(rng: Rng) -> dict[str, Any]:
    shapes = list(MATRICES)
    columns, rows = shapes[int(rng.choice(len(shapes), p=list(MATRICES.values())))]
    counts = _log_between(rng, 7e5, 3.2e6, -4)
    return {
        "columns": columns,
        "rows": rows,
        "field_mm": _between(rng, 510.0, 610.0, 0),
        "length_mm": _between(rng, 1980.0, 2150.0, 0),
        "counts": counts,
        "counts_log_sd": _between(rng, 0.15, 0.35),
        "counts_range": (round(0.6 * counts), round(1.6 * counts)),
        # from a low-energy ultra-high-resolution collimator to a general-purpose one
        "hole_mm": _between(rng, 1.2, 2.1),
        "septum_mm": _between(rng, 22.0, 32.0, 1),
        "intrinsic_mm": _between(rng, 3.3, 4.6, 1),
        "gap_mm": _between(rng, 15.0, 80.0, 0),
        "scatter": _between(rng, 0.06, 0.24),
        "scatter_mm": _between(rng, 18.0, 36.0, 0),
    }


def _habits(rng: Rng) -> dict[str, Any]:
    return {
        "arms_out": (_between(rng, 2.0, 12.0, 1), _between(rng, 1.5, 4.0, 1)),
        "elbows_out": (_between(rng, -9.0, 3.0, 1), _between(rng, 2.0, 5.0, 1)),
        "hands_turned": (_between(rng, -45.0, 60.0, 0), _between(rng, 10.0, 30.0, 0)),
        "hands_on_hips": 0.0 if rng.random() < 0.5 else _between(rng, 0.03, 0.35, 2),
        "legs_out": (_between(rng, 0.5, 5.0, 1), _between(rng, 0.8, 2.0, 1)),
        "legs_turned": (_between(rng, -10.0, 18.0, 0), _between(rng, 3.0, 8.0, 0)),
        "head_turned_sd": _between(rng, 0.0, 14.0, 1),
        "nod": (_between(rng, -10.0, 4.0, 0), _between(rng, 4.0, 8.0, 0)),
        "roll_sd": _between(rng, 1.0, 3.5, 1),
        "spine_bend_sd_mm": _between(rng, 3.0, 12.0, 0),
        "soles_mm": (_between(rng, 120.0, 170.0, 0), _between(rng, 180.0, 300.0, 0)),
        "whole_head": True,
        "feet_cut": 0.0 if rng.random() < 0.4 else _between(rng, 0.03, 0.4, 2),
    }


def _storage(rng: Rng) -> dict[str, Any]:
    # small powers make some hospitals keep nearly all scans in one way
    syntaxes = rng.dirichlet(np.array(World().syntax_shares) * 4.0 + 0.1)
    ages = rng.dirichlet(np.array(World().age_elements) * 4.0 + 0.1)
    return {
        "ge_share": round(float(rng.beta(0.6, 0.6)), 2),
        "captures": _between(rng, 0.0, 0.2, 2),
        "two_windows": _between(rng, 0.0, 0.15, 2),
        "other_order": 0.0 if rng.random() < 0.5 else _between(rng, 0.1, 0.9, 2),
        "age_elements": tuple(round(float(share), 3) for share in ages),
        "syntax_shares": tuple(round(float(share), 3) for share in syntaxes),
    }

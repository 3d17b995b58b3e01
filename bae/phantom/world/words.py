"""What an archive says of its world: drawn values as numbers, and the main ones in words."""

from dataclasses import asdict
from typing import Any

import numpy as np

from bae.phantom.world.assumed import World
from bae.scan import FEMALE, MALE, SEX_SINGULAR

TOLD = 5
"""Effects told in words for each sex."""


def words(world: World) -> dict[str, Any]:
    """Return a world's number, its main assumptions in words, and every value."""
    values = asdict(world)
    return {
        "number": values.pop("number"),
        "what": "assumptions of the simulation; none of them was measured on patients",
        "most_aged": {SEX_SINGULAR[sex]: _aged(world, sex) for sex in (FEMALE, MALE)},
        "people": _people(world),
        "camera": f"{world.counts / 1e6:.1f} million counts a view, {world.columns} x "
        f"{world.rows} pixels, soft tissue {world.tissue:.2f} times as bright as in world 0",
        "values": values,
    }


def strongest(world: World, sex: str) -> list[tuple[str, float]]:
    """Return the effects that tell most of the age at 60 for their noise, and their log change.

    Args:
        world: whose.
        sex: ``F`` or ``M``.

    Returns:
        names and changes of the log uptake in 20 years, the strongest first.
    """
    effects = [effect for effect in world.effects if effect.name != "contrast"]
    told = [(effect.name, 20.0 * effect.per_year(60.0, sex), effect.sd) for effect in effects]
    told.sort(key=lambda one: -abs(one[1]) / one[2])
    return [(name, change) for name, change, _ in told]


def _aged(world: World, sex: str) -> list[str]:
    return [
        f"{name} {100.0 * float(np.expm1(change)):+.0f} % in the 20 years about 60"
        for name, change in strongest(world, sex)[:TOLD]
    ]


def _people(world: World) -> str:
    young, old = world.ages
    spread = "uniform"
    if world.age_sd_years:
        women, men = world.mean_age_years
        spread = f"normal about {women:g} (women) and {men:g} (men), sd {world.age_sd_years:g}"
    return (
        f"{young:g} to {old:g} years, {spread}; {world.women_share:.0%} women; latent age is "
        f"chronological age with sd {world.latent_sd_years:g} years"
    )

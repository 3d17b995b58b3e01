"""Phantoms whose landmarks only the simulation knows: how well do bodies lie on each other?"""

import functools
import re

import numpy as np
from numpy.typing import NDArray

from bae.phantom.people import PhantomConfig
from bae.phantom.scan import PhantomScan, make

Floats = NDArray[np.float64]

ORGANS = ("bladder", "genitals", "larynx", "injection", "kidney")
HANDS = re.compile("wrist|thumb|metac|finger")
LIMBS = re.compile(
    "humer|elbow|ulna|radius|femur|condyle|patella|tibia|fibula|knee|ankle|heel|midfoot|toe|"
    "metatars|greater|" + HANDS.pattern
)


def spread_mm(points: Floats) -> Floats:
    """Return how far each point lies from its mean over the cohort, mm of the frame.

    Args:
        points: (scans, points, 2) places on the frame; NaN where a view does not show one.

    Returns:
        (points,) root mean square distance: what registration should make small.
    """
    away = ((points - np.nanmean(points, axis=0)) ** 2).sum(axis=2)
    return np.asarray(np.sqrt(np.nanmean(away, axis=0)))


def bones(scan: PhantomScan) -> list[str]:
    """Return the names of the landmarks on bones."""
    return [name for name in scan.landmarks if not any(word in name for word in ORGANS)]


def landmarks_mm(scan: PhantomScan, names: list[str], view: int) -> Floats:
    """Return (names, 2) where parts lie in a view, mm down and right from its corner."""
    column, row = np.array([scan.landmarks[name] for name in names]).T
    width = scan.views[view].counts.shape[1]
    return np.stack([row, column if view == 0 else width - column], axis=1) * scan.pixel_mm


@functools.cache
def people(scans: int, world: int = 0, rows: int = 0) -> list[PhantomScan]:
    """Return people of one world; ``rows`` of a small matrix, 0 for the world's own."""
    size = {"columns": rows // 4, "rows": rows} if rows else {}
    return [make(k, seed=5, config=PhantomConfig(world=world, **size)) for k in range(scans)]

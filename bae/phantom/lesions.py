"""Hot spots: degenerative foci that come with age, and distractors that do not.

Degenerative foci arrive as Poisson processes in latent age, one per clock of the world,
so a person who is scanned again keeps the old ones. Where they lie and where that is
from: ``bae.phantom.world.parts``. Rates and sizes are assumptions.

Distractors say nothing about age, here by construction and unlike in life, where
fractures and metastases become more frequent too: they are noise to a reader of
age. Their frequencies are assumptions.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bae.phantom.anatomy.skeleton import Skeleton
from bae.phantom.anatomy.solids import ellipsoid
from bae.phantom.world import Clock, World
from bae.scan import FEMALE

Floats = NDArray[np.float64]

_METASTASES = (
    "T4 body, T9 body, L2 body, L5 body, left ilium, right ilium, left femur, right femur, "
    "left rib 6, right rib 4, sternum body, left humerus, right scapula side, skull vault"
)

WOMEN_MORE = ("thumb base", "patella", "medial knee")

FOCI = 60
"""Arrivals drawn per person and clock; far more than anyone reaches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Focus:
    """One hot or cold spot.

    Attributes:
        part: where it lies.
        share: (3,) which point of the part, and its offset, each 0 to 1.
        radius_mm: of the ball.
        uptake: relative to muscle, added to what is there.
        kind: ``degenerative`` or the name of a distractor.
    """

    part: str
    share: Floats
    radius_mm: float
    uptake: float
    kind: str


def degenerative(
    latent_years: float, sex: str, person: np.random.Generator, clocks: tuple[Clock, ...]
) -> list[Focus]:
    """Return the person's degenerative foci at a latent age; they stay and grow."""
    return [focus for clock in clocks for focus in _come(clock, latent_years, sex, person)]


def site_weights(clock: Clock, sex: str) -> Floats:
    """Return how a clock's foci are shared out among its groups of parts."""
    return np.array(
        [
            weight * (1.5 if sex == FEMALE and any(p.endswith(WOMEN_MORE) for p in parts) else 1.0)
            for parts, weight in clock.sites
        ]
    )


def _come(clock: Clock, latent_years: float, sex: str, person: np.random.Generator) -> list[Focus]:
    arrivals = person.exponential(size=FOCI).cumsum()
    groups, picks = person.random(FOCI), person.random(FOCI)
    shares, sizes = person.random((FOCI, 3)), person.normal(size=(FOCI, 2))
    weights = site_weights(clock, sex)
    edges = np.cumsum(weights) / weights.sum()
    now = clock.expected(latent_years)
    foci = []
    for i in range(int(np.searchsorted(arrivals, now))):
        parts, _ = clock.sites[int(np.searchsorted(edges, groups[i]))]
        name = parts[int(picks[i] * len(parts))]
        # older foci have had longer to grow: by up to half in radius
        grown = 1.0 + 0.5 * (1.0 - arrivals[i] / now)
        small = "facet" in name or "plate" in name or "thumb" in name or "toe" in name
        radius = (4.5 if small else 6.0) * grown * float(np.exp(0.15 * sizes[i, 0]))
        usual = 30.0 if "plate" in name or "facet" in name else 22.0
        uptake = usual * float(np.exp(0.4 * sizes[i, 1]))
        foci.append(
            Focus(part=name, share=shares[i], radius_mm=radius, uptake=uptake, kind="degenerative")
        )
    return foci


def distractors(rng: np.random.Generator, world: World) -> list[Focus]:
    """Return what else a day's scan shows: rib fractures, metastases, teeth, urine."""
    foci: list[Focus] = []

    def add(part: str, radius: float, uptake: float, kind: str) -> None:
        foci.append(
            Focus(part=part, share=rng.random(3), radius_mm=radius, uptake=uptake, kind=kind)
        )

    side = "left" if rng.random() < 0.5 else "right"
    if rng.random() < world.rib_fractures:
        rib = int(rng.integers(3, 9))
        for i in range(int(rng.integers(1, 4))):
            add(f"{side} rib {rib + i}", rng.uniform(5, 7), rng.uniform(30, 70), "rib fracture")
    if rng.random() < world.vertebral_fractures:
        vertebra = str(rng.choice(["T8", "T11", "T12", "L1", "L2", "L3"]))
        add(f"{vertebra} body", 13.0, rng.uniform(12, 25), "vertebral fracture")
    if rng.random() < world.metastases:
        bones = _METASTASES.split(", ")
        for _ in range(int(rng.integers(1, 9))):
            add(str(rng.choice(bones)), rng.uniform(6, 13), rng.uniform(15, 50), "metastasis")
    if rng.random() < world.dental_foci:
        tooth = "maxilla" if rng.random() < 0.5 else f"{side} jaw"
        add(tooth, rng.uniform(4, 6), rng.uniform(10, 25), "tooth")
    if rng.random() < world.urine_spills:
        add("genitals", rng.uniform(6, 14), rng.uniform(10, 50), "urine")
    if rng.random() < world.old_injuries:
        add(f"{side} tibia", rng.uniform(9, 14), rng.uniform(8, 20), "old injury")
    return foci


@functools.cache
def _ball() -> tuple[NDArray[np.float32], float]:
    points, volume = ellipsoid((0, 0, 0), (10, 10, 10))
    return (points / 10.0).astype(np.float32), volume / 1000.0


def points_of(
    foci: list[Focus], skeleton: Skeleton
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Return the foci as points that move with their part.

    Returns:
        for each point the skeleton's point it is fixed to, its offset (n, 3) mm
        from there, and its weight (n,), as in ``Skeleton``.
    """
    ball, volume = _ball()
    anchors, offsets, weights = [], [], []
    for focus in foci:
        part = skeleton.names.index(focus.part)
        start, stop = np.searchsorted(skeleton.part, [part, part + 1])
        anchor = start + int(focus.share[0] * (stop - start))
        anchors.append(np.full(len(ball), anchor))
        offsets.append(ball * np.float32(focus.radius_mm))
        weight = volume * focus.radius_mm**3 * focus.uptake / len(ball)
        weights.append(np.full(len(ball), weight))
    if not foci:
        empty = np.zeros(0, dtype=np.float32)
        return np.zeros(0, dtype=np.int64), empty.reshape(0, 3), empty
    return (
        np.concatenate(anchors),
        np.concatenate(offsets),
        np.concatenate(weights).astype(np.float32),
    )

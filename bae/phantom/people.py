"""Who comes to the camera: person, age, build, pose and uptake of scan k.

Scan k depends on the seed, the settings and k alone, never on how many scans
are asked for or in what order they are made. A person's own draws come from the
person's number, so that someone who comes again is the same person.
"""

import datetime
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bae.errors import UseError
from bae.phantom import ageing, lesions
from bae.phantom.anatomy.body import Build, Pose
from bae.phantom.anatomy.skeleton import skeleton
from bae.scan import FEMALE, MALE

VISITS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 0, 2)
"""Which patient of its block each of 16 scans shows: some come two or three times."""
PATIENTS_PER_BLOCK = 12

DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """What a cohort is made of."""

    ages: tuple[float, float] = (40.0, 80.0)
    """Youngest and oldest age, years; ages are uniform between them."""
    columns: int = 256
    """Matrix columns."""
    rows: int = 1024
    """Matrix rows."""
    latent_sd_years: float = ageing.LATENT_SD_YEARS
    """Person-to-person noise of the latent skeletal age, years."""
    mistakes: float = 0.0
    """Share of scans with a mistake that a real archive has."""

    def __post_init__(self) -> None:
        if not 18 <= self.ages[0] < self.ages[1] <= 100:
            raise UseError("--ages must be two rising ages from 18 to 100")
        if not (64 <= self.columns <= 4096 and 256 <= self.rows <= 8192):
            raise UseError("--matrix must lie between 64x256 and 4096x8192")
        if not 2.5 <= self.rows / self.columns <= 5:
            raise UseError("--matrix must be 2.5 to 5 times as high as wide to show a whole body")
        if not 0 <= self.mistakes <= 1:
            raise UseError("--mistakes must be a share from 0 to 1")
        if not self.latent_sd_years > 0:
            raise UseError("latent_sd_years must be positive")


@dataclass(frozen=True, kw_only=True, eq=False)
class Visit:
    """One person on one day, before the camera starts.

    Attributes:
        index: k.
        patient: number of the patient in the cohort.
        sex: ``F`` or ``M``.
        age_years: exact age on the day.
        born, day: dates; ``age_years`` follows from them.
        mass_index: body mass index, kg/m^2.
        latent_years: latent skeletal age; no header tells it.
        build, pose: body and how it lies.
        factors: (parts,) uptake relative to the reference skeleton.
        effects: effect name -> log change of uptake.
        foci: hot spots.
        counts: mean of the two views' total counts.
    """

    index: int
    patient: int
    sex: str
    age_years: float
    born: datetime.date
    day: datetime.date
    mass_index: float
    latent_years: float
    build: Build
    pose: Pose
    factors: NDArray[np.float64]
    effects: dict[str, float]
    foci: tuple[lesions.Focus, ...]
    counts: float


def generator(*words: int) -> np.random.Generator:
    """Return the random numbers that belong to these words, on any machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def patient_of(k: int) -> tuple[int, int]:
    """Return the patient's number and which visit of theirs scan k is, from 0."""
    block, slot = divmod(k, len(VISITS))
    return block * PATIENTS_PER_BLOCK + VISITS[slot], VISITS[:slot].count(VISITS[slot])


def visit(k: int, seed: int, config: PhantomConfig) -> Visit:
    """Draw who scan k shows and how they lie.

    A later visit lies years before or after the first one, folded back at the
    ends of the age range, which keeps the ages of all scans uniform.
    """
    patient, number = patient_of(k)
    person, today = generator(seed, 1, patient), generator(seed, 2, k)
    sex = FEMALE if person.random() < 0.5 else MALE
    first_age = person.uniform(*config.ages)
    sign = 1.0 if person.random() < 0.5 else -1.0
    steps = np.concatenate([[0.0], person.uniform(1.5, 5.0, size=2).cumsum()])
    age = _fold(first_age + sign * steps[number], *config.ages)
    anchor = datetime.date(2009, 1, 1) + datetime.timedelta(days=int(person.integers(0, 3650)))
    born = anchor - datetime.timedelta(days=round(first_age * DAYS_PER_YEAR))
    day = anchor + datetime.timedelta(days=round((age - first_age) * DAYS_PER_YEAR))
    age = (day - born).days / DAYS_PER_YEAR
    latent = age + config.latent_sd_years * person.standard_normal()
    mass_index, build = _build(sex, person)
    factors, effects = ageing.uptake(latent, sex, person, today)
    foci = [*lesions.degenerative(latent, sex, person), *lesions.distractors(today)]
    return Visit(
        index=k,
        patient=patient,
        sex=sex,
        age_years=age,
        born=born,
        day=day,
        mass_index=mass_index,
        latent_years=latent,
        build=build,
        pose=_pose(today),
        factors=factors * _organs(sex, person, today),
        effects=effects,
        foci=tuple(foci),
        counts=float(np.clip(today.lognormal(np.log(1.9e6), 0.25), 1.2e6, 2.8e6)),
    )


def _fold(value: float, low: float, high: float) -> float:
    """Fold a value back into [low, high]."""
    span = high - low
    inside = (value - low) % (2.0 * span)
    return float(low + min(inside, 2.0 * span - inside))


def _build(sex: str, person: np.random.Generator) -> tuple[float, Build]:
    """Draw height, weight and proportions; means and spreads are of European adults."""
    man = sex == MALE
    mass_index = float(np.clip(person.normal(26.5, 3.8), 18.5, 40.0))
    return mass_index, Build(
        height_mm=float(np.clip(person.normal(1745 if man else 1625, 65), 1450, 1930)),
        girth=float((mass_index / 23.0) ** 0.65 * person.normal(1.0, 0.02)),
        shoulders=float(person.normal(1.03 if man else 0.94, 0.025)),
        hips=float(person.normal(0.97 if man else 1.04, 0.025)),
    )


def _pose(today: np.random.Generator) -> Pose:
    turns: dict[str, tuple[float, float, float]] = {}
    for side in ("left", "right"):
        turns |= {
            f"{side} arm": (today.normal(5, 2.5), today.normal(2, 3), 0.0),
            f"{side} forearm": (today.normal(-3, 3), abs(today.normal(6, 5)), 0.0),
            f"{side} hand": (today.normal(0, 5), 0.0, today.normal(0, 25)),
            f"{side} thigh": (today.normal(2, 1.2), 0.0, today.normal(8, 5)),
            f"{side} leg": (0.0, today.normal(-2, 2), 0.0),
            f"{side} foot": (0.0, today.normal(-42, 7), today.normal(2, 6)),
        }
    return Pose(
        turns=turns,
        roll=today.normal(0, 2.0),
        tilt=today.normal(0, 0.8),
        shift_x=today.normal(0, 8.0),
        sole_z=today.uniform(240, 330),
        bend_mm=today.normal(0, 6.0),
        nod=today.normal(-4, 6),
    )


def _organs(
    sex: str, person: np.random.Generator, today: np.random.Generator
) -> NDArray[np.float64]:
    """Draw kidneys, bladder, injection site and artificial joints: nothing of it is age."""
    cold = {
        f"{side} {joint}"
        for side in ("left", "right")
        for joint in ("hip", "knee")
        if person.random() < 0.025
    }
    throat = today.lognormal(0.3, 0.5)
    filling, kidneys = today.lognormal(-0.8, 0.8), today.lognormal(-0.2, 0.5, size=2)
    shows, amount = today.random() < 0.25, today.lognormal(0.0, 0.7)
    arm = "left" if today.random() < 0.5 else "right"
    metal = {
        "hip": ("femoral head", "femoral neck", "acetabulum"),
        "knee": (
            "medial condyle",
            "lateral condyle",
            "tibial plateau",
            "medial knee",
            "lateral knee",
            "patella",
        ),
    }
    factors = np.ones(len(skeleton().names))
    for i, name in enumerate(skeleton().names):
        side, _, rest = name.partition(" ")
        if name == "bladder":
            factors[i] = filling
        elif name == "larynx":
            factors[i] = throat
        elif name == "genitals":
            factors[i] = float(sex == MALE)
        elif rest == "kidney":
            factors[i] = kidneys[int(side == "left")]
        elif rest == "injection":
            factors[i] = amount * float(shows and side == arm)
        elif any(f"{side} {joint}" in cold and rest in parts for joint, parts in metal.items()):
            factors[i] = 0.1
    return factors

"""Who comes to the camera: person, age, build, pose and uptake of scan k.

Scan k depends on the seed, the settings and k alone, never on how many scans
are asked for or in what order they are made. A person's own draws come from the
person's number, so that someone who comes again is the same person.
"""

import datetime
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bae.errors import UseError
from bae.phantom import ageing, lesions
from bae.phantom.anatomy.body import Build, Pose
from bae.phantom.anatomy.skeleton import skeleton
from bae.phantom.camera import COARSE, Camera
from bae.phantom.world import World, world
from bae.scan import FEMALE, MALE

VISITS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 0, 2)
"""Which patient of its block each of 16 scans shows: some come two or three times."""
PATIENTS_PER_BLOCK = 12

DAYS_PER_YEAR = 365.25

OF_WORLD: Any = None
"""A setting that is left to the world; ``PhantomConfig`` replaces it by the world's value."""

WORLDS_APART = 100_000
"""Between the numbers that two worlds' cohorts of the same seed are drawn from."""


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """What a cohort is made of; what is left out is as the world has it."""

    ages: tuple[float, float] = OF_WORLD
    """Youngest and oldest age, years."""
    columns: int = OF_WORLD
    """Matrix columns."""
    rows: int = OF_WORLD
    """Matrix rows."""
    latent_sd_years: float = OF_WORLD
    """Person-to-person noise of the latent skeletal age, years."""
    mistakes: float = 0.0
    """Share of scans with a mistake that a real archive has."""
    world: int = 0
    """Number of the world: what is assumed of ageing, people, camera and storage."""

    def __post_init__(self) -> None:
        for name in ("ages", "columns", "rows", "latent_sd_years"):
            if getattr(self, name) is OF_WORLD:
                object.__setattr__(self, name, getattr(world(self.world), name))
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

    def stream(self, seed: int) -> int:
        """Return the number that a cohort is drawn from: worlds share no people and no UIDs."""
        return seed + WORLDS_APART * self.world


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
        world: what is assumed.
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
    world: World


def camera_for(config: PhantomConfig) -> tuple[Camera, int]:
    """Return the camera and by how much its pictures are enlarged for export.

    A gamma camera's pixels are never much finer than 2 mm: larger matrices, such
    as the paper's 900 x 3000, are enlarged when an archive exports them.
    """
    assumed = world(config.world)
    enlarge = max(1, round(config.rows / 1024))
    columns = -(-config.columns // enlarge // COARSE) * COARSE
    rows = -(-config.rows // enlarge // COARSE) * COARSE
    return Camera(
        columns=columns,
        rows=rows,
        # the field must fit in width and the body in height, whatever the shape
        pixel_mm=max(assumed.field_mm / columns, assumed.length_mm / rows),
        hole_mm=assumed.hole_mm,
        septum_mm=assumed.septum_mm,
        intrinsic_mm=assumed.intrinsic_mm,
        gap_mm=assumed.gap_mm,
        scatter=assumed.scatter,
        scatter_mm=assumed.scatter_mm,
    ), enlarge


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
    ends of the age range, which keeps the ages of all scans uniform; where a world's
    ages are not uniform, years are stretched so that its distribution holds as exactly.
    """
    assumed, seed = world(config.world), config.stream(seed)
    patient, number = patient_of(k)
    person, today = generator(seed, 1, patient), generator(seed, 2, k)
    sex = FEMALE if person.random() < assumed.women_share else MALE
    first = person.uniform(*config.ages)
    sign = 1.0 if person.random() < 0.5 else -1.0
    steps = np.concatenate([[0.0], person.uniform(1.5, 5.0, size=2).cumsum()])
    last = _fold(first + sign * steps[number], *config.ages)
    first_age, age = (float(age_at(even, sex, config.ages, assumed)) for even in (first, last))
    anchor = datetime.date(2009, 1, 1) + datetime.timedelta(days=int(person.integers(0, 3650)))
    born = anchor - datetime.timedelta(days=round(first_age * DAYS_PER_YEAR))
    day = anchor + datetime.timedelta(days=round((age - first_age) * DAYS_PER_YEAR))
    age = (day - born).days / DAYS_PER_YEAR
    latent = age + config.latent_sd_years * person.standard_normal()
    mass_index, build = _build(sex, person, assumed)
    factors, effects = ageing.uptake(latent, sex, person, today, assumed.effects)
    foci = [
        *lesions.degenerative(latent, sex, person, assumed.clocks),
        *lesions.distractors(today, assumed),
    ]
    pose = _habits(
        _pose(today, assumed), build, generator(seed, 10, k), camera_for(config)[0], assumed
    )
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
        pose=pose,
        factors=factors * _organs(sex, person, today, assumed),
        effects=effects,
        foci=tuple(foci),
        counts=float(
            np.clip(
                today.lognormal(np.log(assumed.counts), assumed.counts_log_sd),
                *assumed.counts_range,
            )
        ),
        world=assumed,
    )


def age_at(
    even: float | NDArray[np.float64], sex: str, ages: tuple[float, float], assumed: World
) -> float | NDArray[np.float64]:
    """Return the age that has the same rank in a world's people as ``even`` has if all are equal.

    Args:
        even: of a uniform distribution between ``ages``.
        sex: ``F`` or ``M``.
        ages: youngest and oldest.
        assumed: whose ages are normal, cut at both ends, or uniform.
    """
    sd = assumed.age_sd_years
    if sd == 0.0:
        return even
    mean = assumed.mean_age_years[int(sex == MALE)]
    low, high = (special.ndtr((end - mean) / sd) for end in ages)
    share = (even - ages[0]) / (ages[1] - ages[0])
    return np.clip(mean + sd * special.ndtri(low + share * (high - low)), *ages)


def _fold(value: float, low: float, high: float) -> float:
    """Fold a value back into [low, high]."""
    span = high - low
    inside = (value - low) % (2.0 * span)
    return float(low + min(inside, 2.0 * span - inside))


def _build(sex: str, person: np.random.Generator, assumed: World) -> tuple[float, Build]:
    """Draw height, weight and proportions."""
    man = sex == MALE
    mass_index = float(np.clip(person.normal(*assumed.mass_index), 18.5, 40.0))
    return mass_index, Build(
        height_mm=float(
            np.clip(person.normal(assumed.height_mm[int(man)], assumed.height_sd_mm), 1450, 1930)
        ),
        girth=float((mass_index / 23.0) ** 0.65 * person.normal(1.0, 0.02)),
        shoulders=float(person.normal(1.03 if man else 0.94, 0.025)),
        hips=float(person.normal(0.97 if man else 1.04, 0.025)),
    )


def _pose(today: np.random.Generator, usual: World) -> Pose:
    turns: dict[str, tuple[float, float, float]] = {}
    for side in ("left", "right"):
        turns |= {
            f"{side} arm": (today.normal(*usual.arms_out), today.normal(2, 3), 0.0),
            f"{side} forearm": (today.normal(*usual.elbows_out), abs(today.normal(6, 5)), 0.0),
            f"{side} hand": (today.normal(0, 5), 0.0, today.normal(*usual.hands_turned)),
            f"{side} thigh": (today.normal(*usual.legs_out), 0.0, today.normal(*usual.legs_turned)),
            f"{side} leg": (0.0, today.normal(-2, 2), 0.0),
            f"{side} foot": (0.0, today.normal(-42, 7), today.normal(2, 6)),
        }
    return Pose(
        turns=turns,
        roll=today.normal(0, usual.roll_sd),
        tilt=today.normal(0, 0.8),
        shift_x=today.normal(0, 8.0),
        sole_z=today.uniform(*usual.soles_mm),
        bend_mm=today.normal(0, usual.spine_bend_sd_mm),
        nod=today.normal(*usual.nod),
    )


def _habits(
    pose: Pose, build: Build, today: np.random.Generator, camera: Camera, usual: World
) -> Pose:
    """Change a pose by what world 0 does not have; random numbers of its own leave that world's."""
    sole_z, turns = pose.sole_z, dict(pose.turns)
    head_turn = today.normal(0, usual.head_turned_sd)
    on_hips, cut = today.random() < usual.hands_on_hips, today.random() < usual.feet_cut
    bent, shins = today.normal((-24.0, 20.0), 3.0, size=(2, 2)), today.uniform(50.0, 300.0)
    if on_hips:
        for side, (inwards, forwards) in zip(("left", "right"), bent, strict=True):
            turns[f"{side} forearm"] = (inwards, forwards, 0.0)
    if cut:
        sole_z = -shins
    elif usual.whole_head:
        length_mm = camera.rows * camera.pixel_mm
        sole_z = min(sole_z, length_mm - build.height_mm - 25.0)
    return replace(pose, turns=turns, sole_z=sole_z, head_turn=head_turn)


def _organs(
    sex: str, person: np.random.Generator, today: np.random.Generator, usual: World
) -> NDArray[np.float64]:
    """Draw kidneys, bladder, injection site and artificial joints: nothing of it is age."""
    cold = {
        f"{side} {joint}"
        for side in ("left", "right")
        for joint in ("hip", "knee")
        if person.random() < usual.artificial_joints
    }
    throat = today.lognormal(0.3, 0.5)
    filling = today.lognormal(*usual.bladder_log)
    kidneys = today.lognormal(*usual.kidneys_log, size=2)
    shows, amount = today.random() < usual.injection_sites, today.lognormal(0.0, 0.7)
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

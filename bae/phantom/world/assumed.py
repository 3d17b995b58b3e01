"""The numbers that the simulation assumes, with units; the defaults are world 0."""

from dataclasses import dataclass

from bae.phantom.world.parts import CLOCKS, EFFECTS, Clock, Effect

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class World:
    """One set of assumptions; pairs are mean and standard deviation if nothing else is said.

    Nothing here is known of any hospital. ``bae.phantom.world.draw`` has the ranges.
    """

    number: int = 0
    """Which world; 0 is the simulation as it was first made."""

    # -- who comes --
    ages: Pair = (40.0, 80.0)
    """Youngest and oldest, years."""
    mean_age_years: Pair = (60.0, 60.0)
    """Of women and of men, before the ends are cut; without meaning if ages are uniform."""
    age_sd_years: float = 0.0
    """Of a normal distribution cut at the ends; 0 for uniform ages."""
    women_share: float = 0.5
    """Of the patients."""
    latent_sd_years: float = 2.6
    """Person-to-person noise of the latent skeletal age; ours, so that the limit lies near 2 years
    on ages 40-80."""
    mass_index: Pair = (26.5, 3.8)
    """kg/m^2; of European adults, as the heights."""
    height_mm: Pair = (1625.0, 1745.0)
    """Mean of women and of men."""
    height_sd_mm: float = 65.0
    """Within each sex."""

    # -- where tracer goes --
    effects: tuple[Effect, ...] = EFFECTS
    """What age does to uptake, and how far persons differ."""
    clocks: tuple[Clock, ...] = CLOCKS
    """How degenerative foci come."""
    rib_fractures: float = 0.12
    """Share of the scans; so are the next five. None of them depends on age."""
    vertebral_fractures: float = 0.06
    metastases: float = 0.08
    dental_foci: float = 0.25
    urine_spills: float = 0.06
    old_injuries: float = 0.02
    injection_sites: float = 0.25
    """Share of the scans that show one."""
    artificial_joints: float = 0.025
    """Of each hip and knee."""
    bladder_log: Pair = (-0.8, 0.8)
    """Log of the uptake of the urine against a full bladder's."""
    kidneys_log: Pair = (-0.2, 0.5)
    """Log of their uptake against the reference skeleton's."""
    tissue: float = 1.0
    """Activity of soft tissue: larger is less contrast."""
    unevenness: float = 1.0
    """Of soft tissue, against 4-6 %."""

    # -- camera --
    columns: int = 256
    rows: int = 1024
    """Matrix as stored."""
    field_mm: float = 578.0
    """Width of the detector's field of view; 2.26 mm on 256 columns, as in the real scan."""
    length_mm: float = 2100.0
    """The picture is at least as long."""
    counts: float = 1.9e6
    """Of one view, median."""
    counts_log_sd: float = 0.25
    counts_range: Pair = (1.2e6, 2.8e6)
    """Least and most."""
    hole_mm: float = 1.5
    """Width of the collimator's holes; with the two below it sets the blur."""
    septum_mm: float = 24.0
    """Length of the holes."""
    intrinsic_mm: float = 3.8
    """Full width at half maximum of the crystal."""
    gap_mm: float = 35.0
    """From the highest skin to the collimator."""
    scatter: float = 0.12
    """Share of the counts."""
    scatter_mm: float = 24.0
    """Standard deviation of its spread."""

    # -- how people lie, degrees and mm --
    arms_out: Pair = (5.0, 2.5)
    elbows_out: Pair = (-3.0, 3.0)
    hands_turned: Pair = (0.0, 25.0)
    hands_on_hips: float = 0.0
    """Share of the scans with both hands laid on the front of the hips."""
    legs_out: Pair = (2.0, 1.2)
    legs_turned: Pair = (8.0, 5.0)
    head_turned_sd: float = 0.0
    """To a side."""
    nod: Pair = (-4.0, 6.0)
    roll_sd: float = 2.0
    spine_bend_sd_mm: float = 6.0
    soles_mm: Pair = (240.0, 330.0)
    """Least and most height of the soles above the picture's lower edge."""
    whole_head: bool = False
    """Tall people are moved down until the head is in the picture, toes cut off if need be."""
    feet_cut: float = 0.0
    """Share of the scans that end above the ankles or on the shins."""

    # -- how scans are stored --
    ge_share: float = 0.5
    """The others have another vendor's layout, see ``bae.phantom.headers``."""
    captures: float = 0.06
    """Share of scans stored as two Secondary Captures."""
    two_windows: float = 0.04
    """Share of the others that have a scatter window too."""
    other_order: float = 0.0
    """Share of scans whose frames stand in the order that their vendor does not use."""
    age_elements: tuple[float, float, float, float] = (0.62, 0.24, 0.12, 0.02)
    """Shares of headers with birth date and age, birth date, age, and an age without its unit."""
    syntax_shares: tuple[float, ...] = (0.46, 0.12, 0.13, 0.08, 0.07, 0.07, 0.03, 0.02, 0.02)
    """Of transfer syntaxes in the order of ``bae.phantom.syntaxes.SYNTAXES``."""

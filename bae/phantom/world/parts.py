"""Which bones age together, how world 0 ages them, and where degenerative foci arise.

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

Degenerative foci's sites follow the frequencies read off bone scans: knees, hips, shoulders
and ankles most (IJNM 2012), thumb base and patella more in women (Jónsson 1999), facets and
end-plates of the lower neck and back (Makki 2010). Rates and sizes are assumptions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bae.scan import FEMALE

Ages = Any
"""A number or an array of ages, years; results are of the same kind."""

TURN_WIDTH_YEARS = 6.0
"""How softly a course turns: the bend is spread over about this many years to either side."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Uptake of some parts against latent age.

    Attributes:
        name: what the truth table calls it.
        parts: patterns of part names, as in ``fnmatch``.
        per_20_years: change of the log uptake in 20 years in men, zero at 60.
        women: added for women.
        late, late_women: added to the change in 20 years after the turn, in men and in women.
        turn_years, turn_women_years: latent age of the turn, in men and in women.
        base: log uptake at 60 against the reference skeleton's.
        sd: person-to-person noise of the log uptake, shared by all its parts.
        part_sd: noise of the log uptake of each part on its own.
        source: what the direction stands for; empty where it is an assumption.
    """

    name: str
    parts: tuple[str, ...]
    per_20_years: float
    women: float = 0.0
    late: float = 0.0
    late_women: float = 0.0
    turn_years: float = 60.0
    turn_women_years: float = 50.0
    base: float = 0.0
    sd: float = 0.12
    part_sd: float = 0.0
    source: str = ""

    def change(self, latent_years: Ages, sex: str) -> Ages:
        """Return the log uptake's difference from the reference skeleton's, without noise."""
        early, late, turn = self._course(sex)
        bend = _bend(latent_years - turn) - _bend(60.0 - turn)
        return early * ((latent_years - 60.0) / 20.0) + late * (bend / 20.0) + self.base

    def per_year(self, latent_years: float, sex: str) -> float:
        """Return the change of the log uptake in a year."""
        early, late, turn = self._course(sex)
        past = latent_years - turn
        share = 0.5 + 0.5 * past / float(np.hypot(past, TURN_WIDTH_YEARS))
        return early / 20.0 + late * share / 20.0

    def _course(self, sex: str) -> tuple[float, float, float]:
        if sex == FEMALE:
            return self.per_20_years + self.women, self.late_women, self.turn_women_years
        return self.per_20_years, self.late, self.turn_years


def _bend(past_years: Ages) -> Ages:
    """Return years past the turn, nothing before it, softly joined."""
    return (past_years + (past_years**2 + TURN_WIDTH_YEARS**2) ** 0.5) / 2.0


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Degenerative foci that come at one pace.

    Attributes:
        name: of the joints.
        at_40: mean number of foci at latent age 40.
        doubling_years: in which the mean number doubles.
        sites: groups of parts, and how the foci are shared out among them.
    """

    name: str
    at_40: float
    doubling_years: float
    sites: tuple[tuple[tuple[str, ...], float], ...]

    def expected(self, latent_years: Ages) -> Ages:
        """Return the mean number of foci at a latent age."""
        return self.at_40 * 2.0 ** ((latent_years - 40.0) / self.doubling_years)


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

OTHERS = (
    Effect(name="ribs", parts=("* rib ?", "* rib ??", "* rib * neck"), per_20_years=-0.15),
    Effect(name="shoulder blades", parts=("* clavicle", "* scapula*", "* coracoid"),
           per_20_years=-0.10, part_sd=0.06),
    Effect(name="sacrum", parts=("S? body", "coccyx"), per_20_years=-0.15),
    Effect(name="hip bones", parts=("* ilium", "* iliac crest", "* ischium", "*pubic ramus"),
           per_20_years=-0.15),
    Effect(name="elbows and wrists", parts=("* elbow", "* wrist"), per_20_years=0.2, part_sd=0.12),
    Effect(name="ankles and heels", parts=("* ankle", "* heel"), per_20_years=0.15, part_sd=0.12),
)  # fmt: skip
"""Bones that world 0 leaves as they are and other worlds may age; all of it assumed."""

KNEES = (("left medial knee", "right medial knee", "left lateral knee", "right lateral knee"), 1.6)
PATELLAS = (("left patella", "right patella"), 0.8)
HIPS = (("left hip roof", "right hip roof"), 0.8)
SHOULDERS = (("left acromion", "right acromion", "left glenoid", "right glenoid"), 1.2)
ANKLES = (("left ankle", "right ankle", "left midfoot", "right midfoot"), 0.9)
TOES = (("left big toe joint", "right big toe joint"), 0.8)
HANDS = (("left thumb base", "right thumb base", "left wrist", "right wrist"), 1.0)
COLLAR = (("left sternoclavicular", "right sternoclavicular"), 0.5)
FACETS = (tuple(f"{side} {v} facet" for side in ("left", "right")
                for v in ("C3", "C4", "C5", "C6", "L2", "L3", "L4", "L5")), 2.2)  # fmt: skip
PLATES = (
    tuple(f"{v} {end} plate" for end in ("upper", "lower")
          for v in ("C5", "C6", "T7", "T8", "T9", "T10", "L1", "L2", "L3", "L4", "L5")), 1.8,
)  # fmt: skip
"""Groups of parts and how many of ten degenerative foci of world 0 lie there, about."""

CLOCKS = (
    Clock(
        name="all joints",
        at_40=0.6,
        doubling_years=11.0,
        sites=(
            KNEES, PATELLAS, HIPS, SHOULDERS, ANKLES, TOES, HANDS, COLLAR, FACETS, PLATES,
        ),
    ),
)  # fmt: skip
JOINTS = {
    "knees": (KNEES, PATELLAS),
    "hips": (HIPS,),
    "shoulders": (SHOULDERS, COLLAR),
    "feet": (ANKLES, TOES),
    "hands": (HANDS,),
    "spine": (FACETS, PLATES),
}
"""Joints whose foci have a clock of their own in other worlds."""

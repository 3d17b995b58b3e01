"""The values that travel: a view, a scan. Plain data, no reading and no writing."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ANTERIOR, POSTERIOR, UNKNOWN = "anterior", "posterior", "unknown"
FEMALE, MALE = "F", "M"
SEX_SINGULAR = {FEMALE: "woman", MALE: "man"}
SEX_PLURAL = {FEMALE: "women", MALE: "men"}
SEX_CODE = {FEMALE: 0.0, MALE: 1.0, None: math.nan}
"""The paper's coding of sex for the regressor; NaN asks for the mean of both answers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One planar picture of the whole body, head up.

    Attributes:
        name: ``anterior``, ``posterior`` or ``unknown``.
        counts: (rows, columns) as stored: uint16 wherever the values allow it,
            float32 where a rescale slope or negative values ask for it.
    """

    name: str
    counts: NDArray[np.uint16] | NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Identity:
    """What can lead back to a person. Never logged, never written; only hashed.

    Attributes:
        patient: Patient ID with its issuer, or the key of a labels file; empty if unknown.
        study: Study Instance UID, or empty.
        instance: SOP Instance UID; for files without one, a digest of their bytes.
    """

    patient: str
    study: str
    instance: str

    def __repr__(self) -> str:
        """Hide everything, so that a log line cannot show it."""
        return "Identity(hidden)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """One object of the archive: all its views and what its header says.

    Attributes:
        views: one or two views of the same person at the same time.
        identity: see ``Identity``.
        pixel_mm: (row spacing, column spacing) in mm, None where not stated.
        sex: ``F``, ``M`` or None (other, unknown, absent).
        age_years: age at acquisition in years, None where not known.
        age_source: ``birth_date``, ``patient_age``, ``labels`` or None.
        manufacturer: vendor in normal form (``GE``, ``Siemens``, ...), never free text.
        flags: sorted names of what was unusual, such as ``pixel_size_missing``.
    """

    views: tuple[View, ...]
    identity: Identity
    pixel_mm: tuple[float, float] | None = None
    sex: str | None = None
    age_years: float | None = None
    age_source: str | None = None
    manufacturer: str = "unknown"
    flags: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Box:
    """A rectangle of stored pixels, half-open: columns x0..x1-1, rows y0..y1-1.

    What a method of one region does not know is None.

    Attributes:
        heat_share: part of the view's summed 0-255 heat that lies inside, 0 to 1.
        weight: share of the scan's answer that is this region's, 0 to 1; those of all
            regions of all views of a scan sum to 1.
        crown_sole: where the middle lies along the body: 0 at the crown, 1 at the soles.
        midline: signed distance of the middle from the body's midline in body lengths,
            positive towards the patient's left.
        name: of the place, from the two coordinates alone, such as ``left knee``; where
            the box lies, not what was recognised in it.
        years: what the region adds to the mean age, or, negative, takes from it; over a
            scan's regions, with what else the method reads and a constant, these sum to the answer.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    heat_share: float
    weight: float | None = None
    crown_sole: float | None = None
    midline: float | None = None
    name: str | None = None
    years: float | None = None

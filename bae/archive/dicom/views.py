"""From which side a detector looked: view code, start angle and orientation, weighed together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from bae.archive.dicom.elements import (
    DEEPEST_MACRO,
    groups,
    holder,
    integer,
    items,
    numbers,
    text,
    values,
    view,
)
from bae.scan import ANTERIOR, POSTERIOR, UNKNOWN

_ANGLE_TOLERANCE_DEGREES = 5.0
_LEAST_COSINE = 0.9
"""Of a row or column with the axis that it should lie along; oblique pictures have no view."""

_Place = tuple[Dataset, int]
"""A data set, and how many levels below it belong to it."""


@dataclass(frozen=True)
class Witness:
    """What one detector, or one frame, says of its view; each may be ``unknown``.

    Args:
        code: by View Code Sequence.
        angle: by Start Angle.
        orientation: by Patient Orientation or Image Orientation (Patient).
        torn: several view codes that name opposite views.
    """

    code: str = UNKNOWN
    angle: str = UNKNOWN
    orientation: str = UNKNOWN
    torn: bool = False


def of_detectors(ds: Dataset, detectors: Sequence[Dataset]) -> tuple[tuple[str, ...], bool]:
    """Name the view of each detector, PS3.3 C.8.4.11.

    Args:
        ds: the object. With one frame its own view code and Patient Orientation (C.7.6.1)
            are that frame's; with several they cannot be every frame's.
        detectors: items of the Detector Information Sequence.

    Returns:
        View of each detector, and whether what names them disagrees.
    """
    single = integer(ds, "NumberOfFrames", 1) <= 1 and len(detectors) <= 1
    # of the object itself only its own elements: what is nested in it is of something else
    own = [(ds, 0)] if single else []
    found = [_witness([(item, DEEPEST_MACRO), *own]) for item in detectors]
    if single:  # nor does a lone detector's orientation differ from another's
        found = [replace(one, orientation=_oriented(own)) for one in found]
    if single and not found:
        found = [_witness(own)]
        if found == [Witness()]:
            return (), False
    return _named(found)


def of_frames(ds: Dataset, frames: int) -> tuple[tuple[str, ...], bool]:
    """Name the view of each frame by its functional groups, PS3.3 C.7.6.16.

    Args:
        ds: the object.
        frames: how many there are; groups of another number of frames name nothing.

    Returns:
        View of each frame, none where no group names any, and whether they disagree.
    """
    shared, per_frame = groups(ds)
    if len(per_frame) != frames:
        per_frame = [Dataset()] if frames == 1 and shared else []
    also = shared if frames == 1 else []
    found = [_witness([(place, DEEPEST_MACRO) for place in (g, *also)]) for g in per_frame]
    return _named(found) if any(one != Witness() for one in found) else ((), False)


def _named(found: Sequence[Witness]) -> tuple[tuple[str, ...], bool]:
    """Weigh the witnesses of all detectors."""
    if len(found) > 1 and len({one.orientation for one in found}) == 1:
        # copied to all of them, as writers do who must state one
        found = [replace(one, orientation=UNKNOWN) for one in found]
    codes, angles = {one.code for one in found}, {one.angle for one in found}
    # one view code copied to two detectors, while the gantry tells them apart
    copied = len(found) == 2 and len(codes - {UNKNOWN}) == 1 == len(codes) and len(angles) == 2
    if copied and UNKNOWN not in angles:
        return tuple(one.angle for one in found), True
    weighed = [_weighed(one) for one in found]
    return tuple(name for name, _ in weighed), any(conflict for _, conflict in weighed)


def _weighed(one: Witness) -> tuple[str, bool]:
    """Return the view, and whether a witness disagrees: the code wins unless it stands alone."""
    stated = [name for name in (one.code, one.angle, one.orientation) if name != UNKNOWN]
    if not stated:
        return UNKNOWN, one.torn
    majority = next((name for name in stated if stated.count(name) > 1), stated[0])
    return majority, one.torn or len(set(stated)) > 1


def _witness(places: Sequence[_Place]) -> Witness:
    """Ask each place in turn; the first that says anything on a matter is heard."""
    code, torn = _coded(places)
    return Witness(code, _angled(places), _oriented(places), torn)


def _coded(places: Sequence[_Place]) -> tuple[str, bool]:
    for place, depth in places:
        if (found := holder(place, "ViewCodeSequence", depth)) is None:
            continue
        codes = items(found, "ViewCodeSequence")
        names = {view(_code(code), text(code, "CodeMeaning")) for code in codes} - {UNKNOWN}
        return (names.pop(), False) if len(names) == 1 else (UNKNOWN, len(names) > 1)
    return UNKNOWN, False


def _code(item: Dataset) -> str:
    """Return a code, PS3.3 section 8: short, long, or the end of a URN."""
    urn = text(item, "URNCodeValue").rpartition(":")[2].rpartition("/")[2]
    return text(item, "CodeValue") or text(item, "LongCodeValue") or urn


def _angled(places: Sequence[_Place]) -> str:
    """Return the view from an angle that counts from the patient's back, PS3.3 C.8.4.11."""
    for place, depth in places:
        if (found := holder(place, "StartAngle", depth)) is None:
            continue
        for angle in numbers(found, "StartAngle")[:1]:
            from_back = abs((angle + 180) % 360 - 180)
            if from_back <= _ANGLE_TOLERANCE_DEGREES:
                return POSTERIOR
            if from_back >= 180 - _ANGLE_TOLERANCE_DEGREES:
                return ANTERIOR
    return UNKNOWN


def _oriented(places: Sequence[_Place]) -> str:
    """Return the view of a picture head up: seen from the front, its right is the left side."""
    for place, depth in places:
        for word in ("PatientOrientation", "ImageOrientationPatient"):
            if (found := holder(place, word, depth)) is None:
                continue
            if word == "PatientOrientation":  # PS3.3 C.7.6.1.1.1: along a row, down a column
                ways = [str(value).strip().upper()[:1] for value in values(found, word)]
                right, down = (*ways, "", "")[:2]
                name = {"LF": ANTERIOR, "RF": POSTERIOR}.get(right + down, UNKNOWN)
            else:  # PS3.3 C.7.6.2.1.1: x grows to the patient's left, z to the head
                cosines = (*numbers(found, word), *[0.0] * 6)[:6]
                name = UNKNOWN
                if cosines[5] < -_LEAST_COSINE and abs(cosines[0]) > _LEAST_COSINE:
                    name = ANTERIOR if cosines[0] > 0 else POSTERIOR
            if name != UNKNOWN:
                return name
    return UNKNOWN

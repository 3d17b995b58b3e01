"""DICOM bytes to a ``Scan``: parse, select, choose views, decode, check the counts."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pydicom.config
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from bae.archive import body, dates
from bae.archive.dicom import header, layout, parse, pixels, rules
from bae.archive.dicom.parse import meta as _meta  # noqa: F401 -- tests cut files behind it
from bae.errors import ScanError
from bae.scan import FEMALE, MALE, Identity, Scan, View

LARGEST_INFLATED_BYTES = 1 << 28
"""Deflated objects are unpacked up to here (256 MiB)."""

MOST_BY_BIRTH_YEARS = 105.0
"""Above this a birth date is likelier a mistake than Patient's Age is, where both are stated."""

_AGE_DAYS = ("AcquisitionDate", "AcquisitionDateTime", "ContentDate", "SeriesDate", "StudyDate")

_PLACEHOLDERS = (
    "0 00 000 0000 00000000 1 NA N/A NAME NOID NONE NULL XXX XXXX XXXXX "
    "ANON ANONYM ANONYMIZED ANONYMISED ANONYMOUS DEFAULT DELETED DUMMY "
    "PATIENT PATIENTID REMOVED TEST UNKNOWN"
)
"""Patient IDs that stand for nobody: taken as one patient they would tie strangers together."""


def sniff(data: bytes) -> bool:
    """Say whether bytes look like DICOM: a Part 10 preamble, or a data set from its start."""
    if data[128:132] == b"DICM":
        return True
    # without a preamble: group 2 or 8 in either byte order, then a small element number
    return len(data) >= 8 and (
        (data[0] in (2, 8) and data[1] == 0 and data[3] == 0)
        or (data[0] == 0 and data[1] in (2, 8) and data[2] == 0)
    )


def decode(data: bytes) -> Scan:
    """Decode one DICOM object.

    Args:
        data: a Part 10 file, or one without preamble or meta header.

    Returns:
        The scan with all its views, counts as stored (rescaled where the header asks).

    Raises:
        ScanError: it is no whole-body bone scan, or cannot be read; see ``bae.archive.refusals``.

    >>> from bae import phantom
    >>> (_, data), *_ = phantom.objects(0)  # a simulated scan
    >>> scan = decode(data)
    >>> [(view.name, view.counts.shape) for view in scan.views]
    [('posterior', (1024, 256)), ('anterior', (1024, 256))]
    """
    with quiet():
        return _decode(data)


def _decode(data: bytes) -> Scan:
    parsed = _parse(data)
    ds, laid = parsed.ds, _laid_out(parsed)
    head = laid.header
    with _refusing("header_broken", "the header cannot be understood"):
        rules.check(head)
        chosen, flags = rules.choose(head)
    if laid.fault:
        raise laid.fault
    frames = [frame for frame, _ in chosen]
    with _refusing("pixels_broken", "the pixel data cannot be understood"):
        stored, pixel_flags = pixels.decode(laid, frames)
    flags |= {*parsed.flags, *laid.flags, *pixel_flags}
    counts = _rescaled(stored, head, frames)
    found = [View(name=name, counts=c) for (_, name), c in zip(chosen, counts, strict=True)]
    sound, plausible_flags = body.examine(found, rules.pixel_mm(head))
    with _refusing("header_broken", "the header cannot be understood"):
        age_years, age_source, age_flags = _age(ds)
        sex = header.text(ds, "PatientSex").upper()
        return Scan(
            views=tuple(sound),
            identity=_identity(ds, data),
            pixel_mm=rules.pixel_mm(head),
            sex=sex if sex in (FEMALE, MALE) else None,
            age_years=age_years,
            age_source=age_source,
            manufacturer=header.manufacturer(ds),
            flags=tuple(sorted({*flags, *plausible_flags, *age_flags, *_header_flags(head)})),
        )


def references(data: bytes) -> tuple[Dataset, list[int]]:
    """Return an object's data set and the frame, from 0, of each view that ``decode`` reads.

    For an object that ``decode`` has read before, to make others that refer to it.

    Raises:
        ScanError: as ``decode``; of the pixels it looks at the length only.
    """
    with quiet():
        found = _parse(data)
        with _refusing("header_broken", "the header cannot be understood"):
            chosen, _ = rules.choose(_laid_out(found).header)
    return found.ds, [frame for frame, _ in chosen]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings from logs and consoles: they quote values of the header."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _refusing(code: str, message: str) -> Iterator[None]:
    """Turn whatever a damaged object makes pydicom raise into one refusal.

    pydicom documents no list of exceptions, and fuzzing finds new ones. The cause is
    dropped on purpose: its text quotes values of the header.
    """
    try:
        yield
    except ScanError:
        raise
    except MemoryError:
        raise ScanError("decoder_memory", "not enough memory for this object") from None
    except Exception as error:
        raise ScanError(code, f"{message} ({type(error).__name__})") from None


def _parse(data: bytes) -> parse.Parsed:
    with _refusing("header_broken", "the header cannot be parsed"):
        return parse.parse(data, LARGEST_INFLATED_BYTES)


def _laid_out(found: parse.Parsed) -> layout.Layout:
    """Return what the header says, as far as the length of its pixels bears it out."""
    with _refusing("header_broken", "the header cannot be understood"):
        head = header.read(found.ds, found.syntax)
    with _refusing("pixels_broken", "the pixel data cannot be understood"):
        return layout.settle(found, head)


def _rescaled(
    stored: NDArray[np.integer], head: header.Header, frames: Sequence[int]
) -> list[NDArray[np.uint16] | NDArray[np.float32]]:
    """Apply slope and intercept; keep uint16 wherever every value allows it."""
    scales = head.scales
    if len(scales) not in (1, head.frames):
        raise ScanError("header_conflict", f"{len(scales)} rescale slopes, {head.frames} frames")
    each = scales * len(frames) if len(scales) == 1 else [scales[frame] for frame in frames]
    if len(set(each)) == 1:  # all together: views of one scan are of one type
        return list(_scaled(stored, *each[0]))
    return [_scaled(one, *scale) for one, scale in zip(stored, each, strict=True)]


def _scaled(
    stored: NDArray[np.integer], slope: float, intercept: float
) -> NDArray[np.uint16] | NDArray[np.float32]:
    if slope <= 0:
        raise ScanError("header_conflict", "a rescale slope that is not positive")
    if (slope, intercept) == (1.0, 0.0):
        if stored.min() >= 0 and stored.max() <= 65535:
            return stored.astype(np.uint16, copy=False)
        return stored.astype(np.float32)
    with np.errstate(over="ignore"):
        scaled = (stored * slope + intercept).astype(np.float32)
    if not np.isfinite(scaled).all():
        raise ScanError("header_conflict", "the rescale slope makes counts infinite")
    return scaled


def _age(ds: Dataset) -> tuple[float | None, str | None, set[str]]:
    """Return age in years, its source and flags: birth and acquisition date, else Patient's Age.

    Patient's Age (PS3.3 C.7.2.2) truncates, so it may lie up to a year below the exact age.
    A birth date that stands for none, such as 1 January 1900, gives no age, and an age stated
    as what comes of it gives none either where nobody is that old. Day 0 of a computer's clock,
    such as 1 January 1970, is believed only where Patient's Age says the same.

    Returns:
        None where not known; the source is ``birth_date`` or ``patient_age``; flags
        ``age_implausible``, ``age_disagrees``, ``birth_date_placeholder``.
    """
    written = header.text(ds, "PatientBirthDate")
    found = dates.parse_age(header.text(ds, "PatientAge")), _exact_age(ds, written)
    stated, exact = (age if age is not None and dates.plausible(age) else None for age in found)
    flags = {"age_implausible"} if (stated, exact) != found else set()
    agree = False
    if found[0] is not None and found[1] is not None:
        agree = -1 < found[1] - found[0] < 2
        if not agree:
            flags.add("age_disagrees")
    old = exact is not None and exact > MOST_BY_BIRTH_YEARS
    if dates.placeholder(written):
        flags.add("birth_date_placeholder")
        if old:
            flags.add("age_implausible")
        exact = None
        if old and agree:
            stated = None
    elif dates.epoch(written) and not agree:
        flags.add("birth_date_placeholder")
        exact = None
    elif old and stated is not None and not agree:
        exact = None
    if exact is not None:
        return exact, "birth_date", flags
    if stated is not None:
        return stated, "patient_age", flags
    return None, None, flags


def _exact_age(ds: Dataset, written: str) -> float | None:
    birth = dates.parse_date(written)
    days = (dates.parse_date(header.text(ds, keyword)) for keyword in _AGE_DAYS)
    day = next((day for day in days if day), None)
    return dates.between(birth, day) if birth and day else None


def _identity(ds: Dataset, data: bytes) -> Identity:
    patient, issuer = header.text(ds, "PatientID"), header.text(ds, "IssuerOfPatientID")
    known = patient.upper().replace(" ", "") not in ("", *_PLACEHOLDERS.split())
    return Identity(
        patient=f"{issuer}\0{patient}" if known else "",
        study=header.text(ds, "StudyInstanceUID"),
        instance=header.text(ds, "SOPInstanceUID") or hashlib.sha256(data).hexdigest(),
    )


def _header_flags(head: header.Header) -> set[str]:
    flags = set(head.notes)
    if head.pixel_mm is None:
        flags |= set() if "pixel_size_conflict" in flags else {"pixel_size_missing"}
    elif rules.pixel_mm(head) is None:
        flags.add("pixel_size_implausible")
    if head.lossy:
        flags.add("lossy")
    if "STATIC" in head.image_type:
        flags.add("image_type_static")
    return flags

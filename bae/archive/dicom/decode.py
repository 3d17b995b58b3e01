"""DICOM bytes to a ``Scan``: parse, select, choose views, decode, check the counts."""

import hashlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pydicom
import pydicom.config
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from bae.archive import body, dates
from bae.archive.dicom import header, pixels, rules
from bae.errors import ScanError
from bae.scan import FEMALE, MALE, Identity, Scan, View

LARGEST_INFLATED_BYTES = 1 << 28
"""Deflated objects are unpacked up to here (256 MiB)."""

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
    ds, syntax = _parse(data)
    with _refusing("header_broken", "the header cannot be understood"):
        head = header.read(ds, syntax)
        rules.check(head)
        chosen, flags = rules.choose(head)
    with _refusing("pixels_broken", "the pixel data cannot be understood"):
        stored = pixels.decode(ds, head, [frame for frame, _ in chosen])
    counts = _rescaled(stored, head)
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
        ScanError: as ``decode``; it does not look at the pixels.
    """
    with quiet():
        ds, syntax = _parse(data)
        with _refusing("header_broken", "the header cannot be understood"):
            chosen, _ = rules.choose(header.read(ds, syntax))
    return ds, [frame for frame, _ in chosen]


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


def _parse(data: bytes) -> tuple[Dataset, str]:
    """Return the data set and its transfer syntax, empty where the file does not say."""
    with _refusing("header_broken", "the header cannot be parsed"):
        syntax, start = _meta(data)
        if syntax == DeflatedExplicitVRLittleEndian:
            return read_dataset(io.BytesIO(_inflated(data[start:])), False, True), syntax
        ds = pydicom.dcmread(io.BytesIO(data), force=True)
        if not len(ds) and data[start : start + 2] in (b"\x08\0", b"\0\x08"):
            # pydicom drops everything where the pixel data has no end
            raise ScanError("object_cut_off", "the file ends inside an element")
        if not len(ds):
            raise ScanError("header_broken", "there is not one element after the meta header")
        if not syntax and ds.original_encoding[1] is False:
            syntax = str(ExplicitVRBigEndian)
        return ds, syntax


def _meta(data: bytes) -> tuple[str, int]:
    """Return the transfer syntax and where the data set starts (PS3.10 section 7.1).

    Read by hand, because pydicom inflates a deflated object without a limit.
    """
    place = 132 if data[128:132] == b"DICM" else 0
    syntax = ""
    while data[place : place + 2] == b"\x02\x00" and place + 8 <= len(data):
        element, kind = data[place + 2 : place + 4], data[place + 4 : place + 6]
        if kind in (b"OB", b"OW", b"UN", b"SQ", b"UT"):
            head, (length,) = 12, struct.unpack_from("<I", data, place + 8)
        elif kind.isalpha():
            head, (length,) = 8, struct.unpack_from("<H", data, place + 6)
        else:  # a meta header in implicit form occurs
            head, (length,) = 8, struct.unpack_from("<I", data, place + 4)
        if element == b"\x10\x00":
            value = data[place + head : place + head + min(length, 64)]
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace").strip()
        place += head + length
    return syntax, place


def _inflated(data: bytes) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5) within bounds."""
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, LARGEST_INFLATED_BYTES + 1)
    except zlib.error:
        raise ScanError("header_broken", "the deflated data set is damaged") from None
    if len(inflated) > LARGEST_INFLATED_BYTES:
        raise ScanError("size_refused", "the deflated data set unpacks to more than 256 MiB")
    return inflated


def _rescaled(
    stored: NDArray[np.integer], head: header.Header
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Apply slope and intercept; keep uint16 wherever every value allows it."""
    if head.slope <= 0:
        raise ScanError("header_conflict", "a rescale slope that is not positive")
    if (head.slope, head.intercept) == (1.0, 0.0):
        if stored.min() >= 0 and stored.max() <= 65535:
            return stored.astype(np.uint16, copy=False)
        return stored.astype(np.float32)
    with np.errstate(over="ignore"):
        scaled = (stored * head.slope + head.intercept).astype(np.float32)
    if not np.isfinite(scaled).all():
        raise ScanError("header_conflict", "the rescale slope makes counts infinite")
    return scaled


def _age(ds: Dataset) -> tuple[float | None, str | None, set[str]]:
    """Return age, its source and flags: birth and acquisition date, else Patient's Age.

    Patient's Age truncates, so it may lie up to a year below the exact age.
    """
    found = dates.parse_age(header.text(ds, "PatientAge")), _exact_age(ds)
    stated, exact = (age if age is not None and dates.plausible(age) else None for age in found)
    flags = {"age_implausible"} if (stated, exact) != found else set()
    if exact is not None:
        if stated is not None and not -1 < exact - stated < 2:
            flags.add("age_disagrees")
        return exact, "birth_date", flags
    if stated is not None:
        return stated, "patient_age", flags
    return None, None, flags


def _exact_age(ds: Dataset) -> float | None:
    birth = dates.parse_date(header.text(ds, "PatientBirthDate"))
    keywords = ("AcquisitionDate", "AcquisitionDateTime", "ContentDate", "SeriesDate", "StudyDate")
    days = (dates.parse_date(header.text(ds, keyword)) for keyword in keywords)
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
    flags = set()
    if head.pixel_mm is None:
        flags.add("pixel_size_missing")
    elif rules.pixel_mm(head) is None:
        flags.add("pixel_size_implausible")
    if head.lossy:
        flags.add("lossy")
    if "STATIC" in head.image_type:
        flags.add("image_type_static")
    return flags

"""What a DICOM header says of an image, as plain values with every oddity smoothed out.

Elements are read one by one: an optional element that cannot be understood counts as
absent, since hospital headers always have some. Nothing here trusts a number; bounds
are ``bae.archive.dicom.rules``'s business.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import ConstrainedList

from bae.scan import ANTERIOR, POSTERIOR, UNKNOWN

_ANGLE_TOLERANCE_DEGREES = 5.0


@dataclass(frozen=True, kw_only=True)
class Header:
    """The elements that decide whether and how an image is read.

    Attributes:
        syntax: Transfer Syntax UID, empty where the file has no meta header.
        modality, image_type: upper case.
        rows, columns, frames, samples: 0 where absent (frames and samples: 1).
        bits_allocated, bits_stored, high_bit: 0 where absent.
        signed: Pixel Representation is 1.
        slope, intercept: Rescale or Real World Value Mapping; 1 and 0 where absent.
        pixel_mm: (row, column) spacing in mm, None where absent or not positive.
        photometric, burned_in: what says that this is no acquisition.
        slices, phases: the frames also differ by slice or rotation, by time or phase.
        nuclides: of the radiopharmaceuticals, in normal form.
        tracers: words of the radiopharmaceuticals' names, upper case; never written.
        windows_kev: the ranges of each energy window.
        window_of_frame, detector_of_frame: 1-based, one per frame; empty where absent.
        views: view of each detector by its code or angle.
        views_conflict: a code and an angle name opposite views.
        lossy: Lossy Image Compression is 01.
    """

    syntax: str
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    pixel_mm: tuple[float, float] | None
    burned_in: bool
    slices: bool
    phases: bool
    nuclides: frozenset[str]
    tracers: frozenset[str]
    windows_kev: tuple[tuple[tuple[float, float], ...], ...]
    window_of_frame: tuple[int, ...]
    detector_of_frame: tuple[int, ...]
    views: tuple[str, ...]
    views_conflict: bool
    lossy: bool


def read(ds: Dataset, syntax: str) -> Header:
    """Collect what a data set says; ``syntax`` is empty where not known."""
    slope, intercept = _rescale(ds)
    detectors = items(ds, "DetectorInformationSequence")
    named = [_view(item) for item in detectors]
    pointers = {str(pointer) for pointer in values(ds, "FrameIncrementPointer")}
    bits_allocated = integer(ds, "BitsAllocated", 0)
    bits_stored = integer(ds, "BitsStored", bits_allocated)
    return Header(
        syntax=syntax,
        sop_class=text(ds, "SOPClassUID"),
        modality=text(ds, "Modality").upper(),
        image_type=tuple(str(value).strip().upper() for value in values(ds, "ImageType")),
        rows=integer(ds, "Rows", 0),
        columns=integer(ds, "Columns", 0),
        frames=integer(ds, "NumberOfFrames", 1),
        samples=integer(ds, "SamplesPerPixel", 1),
        photometric=text(ds, "PhotometricInterpretation").upper(),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=integer(ds, "HighBit", bits_stored - 1),
        signed=integer(ds, "PixelRepresentation", 0) == 1,
        slope=slope,
        intercept=intercept,
        pixel_mm=_pixel_mm(ds),
        burned_in=text(ds, "BurnedInAnnotation").upper() == "YES",
        slices=bool(pointers & {"(0054,0080)", "(0054,0050)", "(0054,0090)"}),
        phases=bool(pointers & {"(0054,0030)", "(0054,0100)", "(0054,0070)", "(0018,1063)"}),
        nuclides=frozenset(_nuclides(ds)),
        tracers=frozenset(_tracers(ds)),
        windows_kev=tuple(_ranges(item) for item in items(ds, "EnergyWindowInformationSequence")),
        window_of_frame=_integers(ds, "EnergyWindowVector"),
        detector_of_frame=_integers(ds, "DetectorVector"),
        views=tuple(name for name, _ in named),
        views_conflict=any(conflict for _, conflict in named),
        lossy=text(ds, "LossyImageCompression") == "01",
    )


def manufacturer(ds: Dataset) -> str:
    """Return the vendor in normal form: a name of ours, ``other`` or ``unknown``."""
    found = set(words(text(ds, "Manufacturer")))
    if not found:
        return "unknown"
    known = _MANUFACTURERS.items()
    return next((name for name, some in known if found & set(some.split())), "other")


def values(ds: Dataset, keyword: str) -> list[Any]:
    """Return all values of an element; none where absent, empty or unreadable."""
    try:
        value = ds[keyword].value if keyword in ds else None
    except MemoryError:
        raise
    except Exception:  # pydicom lists none for a value that it cannot convert
        return []
    if value is None or (isinstance(value, str | bytes) and not value):
        return []
    return list(value) if isinstance(value, ConstrainedList | list | tuple) else [value]


def text(ds: Dataset, keyword: str) -> str:
    """Return the first value of an element as stripped text, empty where absent."""
    found = values(ds, keyword)
    return str(found[0]).replace("\0", "").strip() if found else ""


def integer(ds: Dataset, keyword: str, default: int) -> int:
    """Return the first value of an element as an integer."""
    number = _number(text(ds, keyword))
    return default if number is None else int(number)


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none where absent or not a sequence."""
    return [item for item in values(ds, keyword) if isinstance(item, Dataset)]


def _number(value: object) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers(ds: Dataset, keyword: str) -> list[float]:
    found = [_number(value) for value in values(ds, keyword)]
    return [number for number in found if number is not None]


def _integers(ds: Dataset, keyword: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _numbers(ds, keyword))


def _rescale(ds: Dataset) -> tuple[float, float]:
    """Return slope and intercept: PS3.3 C.11.1 (Modality LUT), else C.7.6.16.2.11."""
    mapping = items(ds, "RealWorldValueMappingSequence")[:1]
    for source, kind in ((ds, "Rescale"), *((item, "RealWorldValue") for item in mapping)):
        if slopes := _numbers(source, f"{kind}Slope"):
            return slopes[0], next(iter(_numbers(source, f"{kind}Intercept")), 0.0)
    return 1.0, 0.0


def _pixel_mm(ds: Dataset) -> tuple[float, float] | None:
    """Return the pixel size; secondary captures keep it under other names."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = _numbers(ds, keyword)
        if found and min(found) > 0:
            return found[0], found[1] if len(found) > 1 else found[0]
    return None


def _view(detector: Dataset) -> tuple[str, bool]:
    """Name the view of one detector, PS3.3 C.8.4.11; say whether code and angle differ."""
    coded, angled = _coded_view(detector), _angled_view(detector)
    name = angled if coded == UNKNOWN else coded
    return name, UNKNOWN not in (coded, angled) and coded != angled


def _coded_view(detector: Dataset) -> str:
    for code in items(detector, "ViewCodeSequence")[:1]:
        return view(text(code, "CodeValue"), text(code, "CodeMeaning"))
    return UNKNOWN


def _angled_view(detector: Dataset) -> str:
    for angle in _numbers(detector, "StartAngle")[:1]:
        from_back = abs((angle + 180) % 360 - 180)
        if from_back <= _ANGLE_TOLERANCE_DEGREES:
            return POSTERIOR
        if from_back >= 180 - _ANGLE_TOLERANCE_DEGREES:
            return ANTERIOR
    return UNKNOWN


def _ranges(window: Dataset) -> tuple[tuple[float, float], ...]:
    """Return the keV ranges of an energy window, PS3.3 C.8.4.10."""
    ranges = []
    for item in items(window, "EnergyWindowRangeSequence"):
        low = _numbers(item, "EnergyWindowLowerLimit")
        high = _numbers(item, "EnergyWindowUpperLimit")
        if low and high and high[0] > low[0]:
            ranges.append((low[0], high[0]))
    return tuple(ranges)


def _nuclides(ds: Dataset) -> Iterable[str]:
    for drug in items(ds, "RadiopharmaceuticalInformationSequence"):
        for code in items(drug, "RadionuclideCodeSequence"):
            if name := nuclide(text(code, "CodeValue"), text(code, "CodeMeaning")):
                yield name


def _tracers(ds: Dataset) -> Iterable[str]:
    for drug in items(ds, "RadiopharmaceuticalInformationSequence"):
        names = [text(drug, "Radiopharmaceutical")]
        names += [text(c, "CodeMeaning") for c in items(drug, "RadiopharmaceuticalCodeSequence")]
        for name in names:
            yield from words(name)


NO_HEADER = read(Dataset(), "")
"""What a file without any header says."""


_VIEW_CODES = {ANTERIOR: "399321004 G-5215", POSTERIOR: "399001007 G-5216"}
"""PS3.16 CID 26 (Nuclear Medicine Projections) in SNOMED CT and in its older form."""

_VIEW_WORDS = {ANTERIOR: "ANT ANTERIOR", POSTERIOR: "POST POSTERIOR"}

_NUCLIDE_CODES = {
    "Tc-99m": "72454006 C-163A8",
    "I-131": "1368003 C-114B1",
    "I-123": "21572004 C-114A4",
    "I-125": "68630002 C-114A6",
    "In-111": "56609000 C-145A4",
    "Ga-67": "2008008 C-131A2",
    "Tl-201": "60057003 C-138A9",
    "F-18": "77004003 C-111A1",
    "Lu-177": "447553000",
    "Sm-153": "419804008",
    "Ra-223": "24853006",
    "Sr-89": "7770004",
    "Xe-133": "80751004",
    "Kr-81m": "81716009",
}
"""PS3.16 CID 18 (Isotopes in Radiopharmaceuticals), the ones a gamma camera meets."""

_NUCLIDE_WORDS = {
    "Tc-99m": "TC99M 99MTC TECHNETIUM",
    "I-131": "I131 131I",
    "I-123": "I123 123I",
    "In-111": "IN111 111IN",
    "Ga-67": "GA67 67GA",
    "Tl-201": "TL201 201TL",
    "Lu-177": "LU177 177LU",
    "F-18": "F18 18F",
    "Xe-133": "XE133 133XE",
}

_MANUFACTURERS = {
    "GE": "GE GEMS GENERAL ELSCINT SMV SOPHA",
    "Siemens": "SIEMENS CTI",
    "Philips": "PHILIPS ADAC PICKER MARCONI",
    "Mediso": "MEDISO",
    "Canon": "TOSHIBA CANON",
    "Spectrum Dynamics": "SPECTRUM",
}
"""Today's name of the maker to words in Manufacturer, forerunners included."""


def words(text: str) -> list[str]:
    """Return the words of a text, upper case, parted at all that is no letter or digit."""
    return "".join(c if c.isalnum() else " " for c in text.upper()).split()


def _named(table: dict[str, str], word: str) -> str | None:
    """Return the name beside which a table has the word."""
    return next((name for name, known in table.items() if word in known.split()), None)


def view(code: str, meaning: str) -> str:
    """Name a view by its code, else by what the code is said to mean."""
    spoken = " ".join(words(meaning)).removesuffix(" PROJECTION").removesuffix(" VIEW")
    return _named(_VIEW_CODES, code) or _named(_VIEW_WORDS, spoken) or UNKNOWN


def nuclide(code: str, meaning: str) -> str | None:
    """Name a radionuclide by its code, else by what the code is said to mean."""
    if name := _named(_NUCLIDE_CODES, code):
        return name
    spoken = "".join(words(meaning))
    known = _NUCLIDE_WORDS.items()
    return next((name for name, some in known if any(w in spoken for w in some.split())), None)

"""What a DICOM header says of an image, as plain values with every oddity smoothed out.

Nothing here trusts a number: bounds are ``bae.archive.dicom.rules``'s business, and what
the pixels say against it ``bae.archive.dicom.layout``'s.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from pydicom.dataset import Dataset

from bae.archive.dicom import views
from bae.archive.dicom.elements import (
    MANUFACTURERS,
    groups,
    holder,
    integers,
    items,
    nuclide,
    numbers,
    placed,
    values,
    words,
)
from bae.archive.dicom.elements import integer as integer
from bae.archive.dicom.elements import text as text


@dataclass(frozen=True, kw_only=True)
class Header:
    """The elements that decide whether and how an image is read.

    Attributes:
        syntax: Transfer Syntax UID, empty where the file has no meta header.
        modality, image_type: upper case.
        rows, columns, frames, samples: 0 where absent (frames and samples: 1).
        bits_allocated, bits_stored, high_bit: 0 where absent.
        signed: Pixel Representation is 1.
        scales: (slope, intercept) of Rescale or Real World Value Mapping, (1, 0) where absent:
            one for all frames, or one for each functional group of a frame.
        pixel_mm: (row, column) spacing in mm, None where absent or not positive.
        image: there is at least one element that describes pixels.
        photometric, burned_in: what says that this is no acquisition.
        pointers: of Frame Increment Pointer, as ``(gggg,eeee)``.
        slices, phases: the frames also differ by slice or rotation, by time or phase.
        nuclides: of the radiopharmaceuticals, in normal form.
        tracers: words of the radiopharmaceuticals' names, upper case; never written.
        windows_kev: the ranges of each energy window.
        window_of_frame, detector_of_frame: 1-based, one per frame; empty where absent.
        frame_groups: how many frames have functional groups of their own.
        detectors, windows: how many the header says there are, 0 where absent.
        views: view of each detector by its code or angle.
        view_of_frame: by functional groups, one per frame; empty where they name none.
        views_conflict: code, angle or orientation name opposite views.
        notes: flags of what could be read in two ways.
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
    scales: tuple[tuple[float, float], ...]
    pixel_mm: tuple[float, float] | None
    image: bool
    pointers: tuple[str, ...]
    burned_in: bool
    slices: bool
    phases: bool
    nuclides: frozenset[str]
    tracers: frozenset[str]
    windows_kev: tuple[tuple[tuple[float, float], ...], ...]
    window_of_frame: tuple[int, ...]
    detector_of_frame: tuple[int, ...]
    frame_groups: int
    detectors: int
    windows: int
    views: tuple[str, ...]
    view_of_frame: tuple[str, ...]
    views_conflict: bool
    lossy: bool
    notes: frozenset[str]


def read(ds: Dataset, syntax: str) -> Header:
    """Collect what a data set says; ``syntax`` is empty where not known."""
    word = "DetectorInformationSequence"
    named, torn = views.of_detectors(ds, items(placed(ds, word), word))
    frames = integer(ds, "NumberOfFrames", 1)
    _, per_frame = groups(ds)
    framed, frames_torn = views.of_frames(ds, len(per_frame) or frames)
    pixel_mm, notes = _pixel_mm(ds)
    photometric = text(ds, "PhotometricInterpretation").upper()
    if {text(place, word).upper()[:1] for place, word in _sides(ds)} & {"L", "R"}:
        notes = notes | {"laterality_stated"}
    if photometric == "PALETTE COLOR" and not any(word in ds for word in _PALETTE_WORDS):
        notes = notes | {"palette_missing"}
    pointers = tuple(str(pointer) for pointer in values(ds, "FrameIncrementPointer"))
    bits_allocated = integer(ds, "BitsAllocated", 0)
    bits_stored = integer(ds, "BitsStored", bits_allocated)
    return Header(
        syntax=syntax,
        sop_class=text(ds, "SOPClassUID"),
        modality=text(ds, "Modality").upper(),
        image_type=tuple(str(value).strip().upper() for value in values(ds, "ImageType")),
        rows=integer(ds, "Rows", 0),
        columns=integer(ds, "Columns", 0),
        frames=frames,
        samples=integer(ds, "SamplesPerPixel", 1),
        photometric=photometric,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=integer(ds, "HighBit", bits_stored - 1),
        signed=integer(ds, "PixelRepresentation", 0) == 1,
        scales=_scales(ds),
        pixel_mm=pixel_mm,
        image=any(word in ds for word in _PIXEL_WORDS),
        pointers=pointers,
        burned_in=text(ds, "BurnedInAnnotation").upper() == "YES",
        slices=bool(set(pointers) & {"(0054,0080)", "(0054,0050)", "(0054,0090)"}),
        phases=bool(set(pointers) & {"(0054,0030)", "(0054,0100)", "(0054,0070)", "(0018,1063)"}),
        nuclides=frozenset(_nuclides(ds)),
        tracers=frozenset(_tracers(ds)),
        windows_kev=tuple(_ranges(item) for item in _energy_windows(ds)),
        window_of_frame=integers(ds, "EnergyWindowVector"),
        detector_of_frame=integers(ds, "DetectorVector"),
        frame_groups=len(per_frame),
        detectors=integer(ds, "NumberOfDetectors", 0),
        windows=integer(ds, "NumberOfEnergyWindows", 0),
        views=named,
        view_of_frame=framed,
        views_conflict=torn or frames_torn,
        lossy=text(ds, "LossyImageCompression") == "01",
        notes=frozenset(notes),
    )


def manufacturer(ds: Dataset) -> str:
    """Return the vendor in normal form: a name of ours, ``other`` or ``unknown``."""
    found = set(words(text(ds, "Manufacturer")))
    if not found:
        return "unknown"
    return next((name for name, some in MANUFACTURERS.items() if found & some), "other")


def _scales(ds: Dataset) -> tuple[tuple[float, float], ...]:
    """Return slope and intercept, of all frames where they have the same.

    A rescale comes before a Real World Value Mapping, and the object's own before that of
    its functional groups: PS3.3 C.11.1, C.7.6.16.2.9, C.7.6.16.2.11.
    """
    shared, per_frame = groups(ds)
    for kind in ("Rescale", "RealWorldValue"):
        own = [ds, *items(ds, "RealWorldValueMappingSequence")]
        if found := next(filter(None, (_scale(place, kind) for place in own)), None):
            return (found,)
        whole = next(filter(None, (_nested_scale(group, kind) for group in shared)), None)
        frames = [_nested_scale(group, kind) or whole for group in per_frame]
        if whole or any(frames):
            each = tuple(scale or (1.0, 0.0) for scale in frames or [whole])
            return each[:1] if len(set(each)) == 1 else each
    return ((1.0, 0.0),)


def _scale(place: Dataset, kind: str) -> tuple[float, float] | None:
    slopes = numbers(place, f"{kind}Slope")
    return (slopes[0], next(iter(numbers(place, f"{kind}Intercept")), 0.0)) if slopes else None


def _nested_scale(group: Dataset, kind: str) -> tuple[float, float] | None:
    found = holder(group, f"{kind}Slope")
    return None if found is None else _scale(found, kind)


def _pixel_mm(ds: Dataset) -> tuple[tuple[float, float] | None, set[str]]:
    """Return the pixel size; secondary captures keep it under other names.

    Functional groups have it in their Pixel Measures (PS3.3 C.7.6.16.2.1). A scan has one
    size, so where two are stated neither is believed.
    """
    own = _size(ds)
    shared, per_frame = groups(ds)
    found = {_nested_size(group) for group in (*shared, *per_frame)} - {None}
    for size in found:
        if len(found) > 1 or (own and size != own):
            return None, {"pixel_size_conflict"}
        return size, set()
    return own, set()


def _size(place: Dataset) -> tuple[float, float] | None:
    for keyword in _SIZE_WORDS:
        found = numbers(place, keyword)
        if found and min(found) > 0:
            return found[0], found[1] if len(found) > 1 else found[0]
    return None


def _nested_size(group: Dataset) -> tuple[float, float] | None:
    places = (holder(group, keyword) for keyword in _SIZE_WORDS)
    return next((_size(place) for place in places if place is not None), None)


_SIZE_WORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_PIXEL_WORDS = (
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelDataProviderURL",
    "Rows",
    "Columns",
    "BitsAllocated",
)
_PALETTE_WORDS = (
    "RedPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "PaletteColorLookupTableUID",
)


def _sides(ds: Dataset) -> Iterable[tuple[Dataset, str]]:
    """Yield where a side of the body may be stated: PS3.3 C.7.3.1, C.8.11.1, C.7.6.16.2.8."""
    yield from ((ds, "Laterality"), (ds, "ImageLaterality"))
    for group in chain(*groups(ds)):
        if (found := holder(group, "FrameLaterality")) is not None:
            yield found, "FrameLaterality"


def _energy_windows(ds: Dataset) -> list[Dataset]:
    word = "EnergyWindowInformationSequence"
    return items(placed(ds, word), word)


def _drugs(ds: Dataset) -> list[Dataset]:
    word = "RadiopharmaceuticalInformationSequence"
    return items(placed(ds, word), word)


def _ranges(window: Dataset) -> tuple[tuple[float, float], ...]:
    """Return the keV ranges of an energy window, PS3.3 C.8.4.10."""
    ranges = []
    for item in items(window, "EnergyWindowRangeSequence"):
        low = numbers(item, "EnergyWindowLowerLimit")
        high = numbers(item, "EnergyWindowUpperLimit")
        if low and high and high[0] > low[0]:
            ranges.append((low[0], high[0]))
    return tuple(ranges)


def _nuclides(ds: Dataset) -> Iterable[str]:
    for drug in _drugs(ds):
        for code in items(drug, "RadionuclideCodeSequence"):
            if name := nuclide(text(code, "CodeValue"), text(code, "CodeMeaning")):
                yield name


def _tracers(ds: Dataset) -> Iterable[str]:
    for drug in _drugs(ds):
        names = [text(drug, "Radiopharmaceutical")]
        names += [text(c, "CodeMeaning") for c in items(drug, "RadiopharmaceuticalCodeSequence")]
        for name in names:
            yield from words(name)


NO_HEADER = read(Dataset(), "")
"""What a file without any header says."""

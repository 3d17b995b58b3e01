"""Which objects are whole-body bone scans: the rule list, in the order it is applied.

Each rule looks at the header alone, before any pixel is decoded. Body Part Examined
is not among them (it says CHEST on whole-body scans), nor is the SOP class of images
(archives hold Secondary Captures with Modality NM).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from bae.archive.dicom import order
from bae.archive.dicom.header import NO_HEADER, Header
from bae.errors import ScanError
from bae.scan import UNKNOWN

_STORAGE = "1.2.840.10008.5.1.4.1.1."
NO_IMAGE_CLASSES = (
    f"{_STORAGE}88.",  # structured reports, key object selections
    f"{_STORAGE}104.",  # encapsulated documents
    f"{_STORAGE}11.",  # presentation states
    f"{_STORAGE}9.",  # waveforms
    f"{_STORAGE}66",  # raw data, registrations, fiducials, segmentations, surfaces, tracts
    f"{_STORAGE}67",  # real world value mappings
    f"{_STORAGE}68.",  # surface scans
    f"{_STORAGE}78.",  # measurements of eyes
    f"{_STORAGE}79.",
    f"{_STORAGE}80.",
    "1.2.840.10008.5.1.4.34.",  # treatment records and plans, deliveries
    "1.2.840.10008.5.1.4.38.",  # hanging protocols
    "1.2.840.10008.5.1.4.39.",  # colour palettes
    "1.2.840.10008.5.1.4.43.",  # implant templates
    "1.2.840.10008.5.1.4.44.",
    "1.2.840.10008.5.1.4.45.",
    "1.2.840.10008.1.3.10",  # directory of a medium
)
"""PS3.4 annex B.5, PS3.6 annex A: what is stored and is no image, each as a UID's beginning."""
NO_IMAGE_MODALITIES = (
    "SR DOC KO PR AU ECG EPS HD RESP EEG EMG EOG HC REG FID RTSTRUCT RTPLAN RTRECORD SEG PLAN RWV "
    "STAIN SMR OAM LEN KER AR VA SRF IOL TEXTUREMAP POS M3D ASMT"
)
"""PS3.3 C.7.3.1.1.1, as words."""
SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
XRAY_MODALITIES = {"CR", "DX", "DR", "RF", "RG", "XA", "MG", "PX", "IO", "XC", "RTIMAGE", "BMD"}
NM_CLASS = "1.2.840.10008.5.1.4.1.1.20"

SPECT_TYPES = {"TOMO", "RECON TOMO", "GATED TOMO", "RECON GATED TOMO"}
DYNAMIC_TYPES = {"DYNAMIC", "GATED"}
WHOLE_BODY = "WHOLE BODY"

BONE_NUCLIDES = {"Tc-99m"}
OTHER_TRACERS = (
    "MIBI SESTAMIBI TETROFOSMIN MYOVIEW CARDIOLITE PERTECHNETATE DTPA MAG3 MERTIATIDE DMSA MAA "
    "MIBG IOBENGUANE HMPAO EXAMETAZIME ECD BICISATE SULFUR SULPHUR COLLOID NANOCOLLOID "
    "OCTREOTIDE TEKTROTYD EDDA DOTATATE HIDA MEBROFENIN TECHNEGAS BESILESOMAB SULESOMAB PSMA "
    "FDG IODIDE ERYTHROCYTES LEUKOCYTES"
)
"""Tracers that a gamma camera images and that are not for bone, as words of their names."""

MOST_FRAMES = 64
LARGEST_SIDE = 8192
MOST_PIXELS_PER_FRAME = 1 << 24
"""4096 x 4096; the paper's images have 900 x 3000."""
SMALLEST_COLUMNS, SMALLEST_ROWS = 64, 128

LOWEST_ASPECT, HIGHEST_ASPECT = 1.5, 8.0
"""Height over width of the picture: 256 x 1024 has 4, 512 x 1024 has 2, a static view 1."""
SURE_ASPECT = 2.5
"""A picture typed STATIC must be this tall to pass for a whole body."""
LEAST_MM, MOST_MM = 800.0, 4000.0
"""Height of the picture: whole-body fields are 1.9-2.4 m, a large static field is 0.54 m."""
SMALLEST_PIXEL_MM, LARGEST_PIXEL_MM = 0.3, 12.0


def pixel_mm(header: Header) -> tuple[float, float] | None:
    """Return the pixel size if it can be a gamma camera's, None where absent or absurd."""
    size = header.pixel_mm
    if size is None or not all(SMALLEST_PIXEL_MM <= side <= LARGEST_PIXEL_MM for side in size):
        return None
    return size


def aspect(header: Header) -> float:
    """Return height over width of the picture, in mm where the pixel size is known."""
    row_mm, column_mm = pixel_mm(header) or (1.0, 1.0)
    return header.rows * row_mm / max(header.columns * column_mm, 1e-9)


def _no_image(header: Header) -> str | None:
    if header.sop_class.startswith(NO_IMAGE_CLASSES):
        return "the SOP class is that of a report, document, presentation or directory"
    if header.modality in NO_IMAGE_MODALITIES.split():
        return f"the modality is {header.modality}"
    if not header.image:
        return "no element describes pixels"
    return None


def _xray(header: Header) -> str | None:
    return f"the modality is {header.modality}" if header.modality in XRAY_MODALITIES else None


def _other_modality(header: Header) -> str | None:
    if header.modality == "NM" or (not header.modality and header.sop_class == NM_CLASS):
        return None
    known = header.modality in {"CT", "MR", "PT", "US", "OT", "ES", "OP", "GM", "SM"}
    return f"the modality is {header.modality if known else 'not NM'}"


def _screen_capture(header: Header) -> str | None:
    if header.samples != 1:
        return f"{header.samples} samples per pixel: colour"
    # PS3.3 C.8.4.7.1.1 lets nuclear medicine show counts through a table of colours: they stay
    # counts, also where the table was lost; in a secondary capture they are numbers of colours
    palette = header.photometric == "PALETTE COLOR"
    counts = palette and not header.sop_class.startswith(SECONDARY_CAPTURES)
    if header.photometric not in ("MONOCHROME1", "MONOCHROME2", "") and not counts:
        return "the photometric interpretation is not grey"
    if header.burned_in:
        return "Burned In Annotation is YES"
    if any("SCREEN" in value for value in header.image_type):
        return "the image type says screen"
    return None


def _spect(header: Header) -> str | None:
    if SPECT_TYPES & set(header.image_type):
        return "the image type is tomographic"
    return "the frames are slices or rotation steps" if header.slices else None


def _dynamic(header: Header) -> str | None:
    if DYNAMIC_TYPES & set(header.image_type):
        return "the image type is dynamic or gated"
    return "the frames are steps in time or phase" if header.phases else None


def _not_emission(header: Header) -> str | None:
    return "the image type is transmission" if "TRANSMISSION" in header.image_type else None


def _other_tracer(header: Header) -> str | None:
    others = sorted(header.nuclides - BONE_NUCLIDES)
    if others:
        return f"the radionuclide is {', '.join(others)}"
    tracers = sorted(header.tracers & set(OTHER_TRACERS.split()))
    return f"the tracer is {', '.join(tracers)}" if tracers else None


def _static_view(header: Header) -> str | None:
    if WHOLE_BODY in header.image_type:
        return None
    square = aspect(header) < LOWEST_ASPECT
    if square and header.rows * LOWEST_ASPECT > header.columns:
        return f"a matrix of {header.columns} x {header.rows} (width x height) is a spot view's"
    if "STATIC" in header.image_type and aspect(header) < SURE_ASPECT:
        return f"typed static, with a matrix of {header.columns} x {header.rows}"
    return None


def _matrix(header: Header) -> str | None:
    shape = f"{header.columns} x {header.rows} (width x height)"
    if not LOWEST_ASPECT <= aspect(header) <= HIGHEST_ASPECT:
        return (
            f"a matrix of {shape} is {aspect(header):.2f} times as tall as wide, "
            f"expected {LOWEST_ASPECT} to {HIGHEST_ASPECT}"
        )
    if header.columns < SMALLEST_COLUMNS or header.rows < SMALLEST_ROWS:
        return f"a matrix of {shape} is too small, expected at least 64 x 128"
    size = pixel_mm(header)
    if size and not LEAST_MM <= header.rows * size[0] <= MOST_MM:
        return (
            f"the picture is {header.rows * size[0]:.0f} mm tall, "
            f"expected {LEAST_MM:.0f} to {MOST_MM:.0f}"
        )
    return None


def _size(header: Header) -> str | None:
    """Bound what is taken in memory; asked before any pixel is touched."""
    if max(header.rows, header.columns) > LARGEST_SIDE or (
        header.rows * header.columns > MOST_PIXELS_PER_FRAME
    ):
        return f"{header.columns} x {header.rows} pixels claimed, at most 4096 x 4096 are read"
    if header.frames > MOST_FRAMES:
        return f"{header.frames} frames claimed, at most {MOST_FRAMES} are read"
    return None


RULES: dict[str, Callable[[Header], str | None]] = {
    "not_an_image": _no_image,
    "xray": _xray,
    "other_modality": _other_modality,
    "screen_capture": _screen_capture,
    "spect": _spect,
    "dynamic_series": _dynamic,
    "not_emission": _not_emission,
    "other_tracer": _other_tracer,
    "size_refused": _size,
    "static_view": _static_view,
    "not_whole_body": _matrix,
}
"""Code of refusal to its rule: what is wrong with a header, None if nothing."""


def check(header: Header, codes: Iterable[str] = tuple(RULES)) -> None:
    """Apply the rules in order.

    Raises:
        ScanError: the first rule that is broken.
    """
    for code in codes:
        if found := RULES[code](header):
            raise ScanError(code, found)


def check_shape(rows: int, columns: int) -> None:
    """Apply the rules on size and shape to a picture without a header.

    Raises:
        ScanError: too large, or not shaped like a standing body.
    """
    shape = replace(NO_HEADER, rows=rows, columns=columns)
    check(shape, ("size_refused", "static_view", "not_whole_body"))


PHOTOPEAK_KEV = 140.5
"""Gamma line of Tc-99m."""
MOST_VIEWS = 2


def choose(header: Header) -> tuple[list[tuple[int, str]], set[str]]:
    """Choose the frames to read, PS3.3 C.8.4.8: indexed by energy window, then detector.

    A view is named by its frame's functional groups, else by its detector's code or angle,
    never by the order of frames. Which detector it is, ``order`` finds out.

    Returns:
        (frame index, view name) of each view, and flags.

    Raises:
        ScanError: the vectors do not fit the frames, no window holds the photopeak, or
            more than two views are left.
    """
    frames = header.frames
    if not 1 <= frames <= MOST_FRAMES:
        raise ScanError("header_conflict", f"{frames} frames claimed, expected 1 to {MOST_FRAMES}")
    windows, detectors, flags = order.indices(header)
    peak = _photopeak(header, windows)
    chosen = [f for f in range(frames) if windows[f] == peak]
    if len(chosen) > MOST_VIEWS:
        raise ScanError(
            "too_many_views", f"{len(chosen)} frames in the photopeak, at most {MOST_VIEWS} fit"
        )
    named = [(f, _name(header, f, detectors[f])) for f in chosen]
    if header.views_conflict:
        flags.add("view_conflict")
    names = [name for _, name in named]
    if len(set(names)) < len(names) and UNKNOWN not in names:
        # two detectors cannot both have been in front: believe neither
        named = [(f, UNKNOWN) for f in chosen]
        flags.add("view_conflict")
    if UNKNOWN in {name for _, name in named}:
        flags.add("view_unknown")
    return named, flags


def _name(header: Header, frame: int, detector: int) -> str:
    if len(header.view_of_frame) == header.frames:
        return header.view_of_frame[frame]
    return header.views[detector - 1] if 1 <= detector <= len(header.views) else UNKNOWN


def _photopeak(header: Header, windows: tuple[int, ...]) -> int:
    """Return the number of the energy window to read."""
    used = sorted(set(windows))
    known = dict(enumerate(header.windows_kev, start=1))
    ranges = [
        (high - low, number, low <= PHOTOPEAK_KEV <= high)
        for number in used
        for low, high in known.get(number, ())
    ]
    # of a narrow and a wide window round the peak, the narrow one has less scatter
    if holding := [(width, number) for width, number, holds in ranges if holds]:
        return min(holding)[1]
    if len(used) == 1 and not ranges:
        return used[0]
    what = "none of them holds" if ranges else "their limits are not stated, so none is known for"
    raise ScanError(
        "photopeak_unknown", f"{len(used)} energy windows; {what} {PHOTOPEAK_KEV} keV (Tc-99m)"
    )

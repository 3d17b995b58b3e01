"""Which objects are whole-body bone scans, and which view is which."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, uid

from bae import body as bodies
from bae.archive import body, refusals
from bae.archive.dicom import decode, rules
from bae.errors import ScanError
from bae.scan import View
from tests.fakes import dicoms
from tests.fakes.dicoms import ANTERIOR_CODE, POSTERIOR_CODE, detector, window


def _views(**changes: Any) -> tuple[list[str], tuple[str, ...]]:
    scan = decode.decode(dicoms.scan(**changes))
    return [view.name for view in scan.views], scan.flags


def _code(data: bytes) -> str:
    with pytest.raises(ScanError) as refused:
        decode.decode(data)
    assert refused.value.code in refusals.REJECT_CODES
    return refused.value.code


def _frames(count: int, rows: int = 1024, columns: int = 256) -> NDArray[np.uint16]:
    return np.ones((count, rows, columns), np.uint16)


def drug(nuclide: tuple[str, str, str] | None, name: str = "") -> list[Dataset]:
    """Return a Radiopharmaceutical Information Sequence."""
    item = Dataset()
    item.Radiopharmaceutical = name
    if nuclide:
        item.RadionuclideCodeSequence = [dicoms.code(*nuclide)]
    return [item]


LAYOUTS = {
    "angles": [detector(180), detector(0)],
    "angles, 360": [detector(180), detector(360)],
    "angles, a little off": [detector(179.5), detector(-0.5)],
    "codes": [detector(view=ANTERIOR_CODE), detector(view=POSTERIOR_CODE)],
    "older codes": [
        detector(view=("G-5215", "SRT", "Anterior projection")),
        detector(view=("G-5216", "SRT", "Posterior projection")),
    ],
    "meanings of codes not known": [
        detector(view=("ANT", "99SMS", "ANT")),
        detector(view=("POST", "99SMS", "Posterior")),
    ],
    "one of each": [detector(180), detector(view=POSTERIOR_CODE)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("swapped", [False, True])
def test_views_are_named_by_code_or_angle_in_any_order(layout: str, swapped: bool) -> None:
    """The same detectors, in either order of frames."""
    detectors = LAYOUTS[layout][::-1] if swapped else LAYOUTS[layout]
    names = ["posterior", "anterior"] if swapped else ["anterior", "posterior"]
    assert _views(detectors=detectors) == (names, ())


def test_the_detector_vector_and_not_the_frame_order_names_views() -> None:
    """Frame 0 may come from detector 2 (PS3.3 C.8.4.8)."""
    assert _views(DetectorVector=[2, 1])[0] == ["posterior", "anterior"]


@pytest.mark.parametrize(
    "changes",
    [
        {"detectors": []},
        {"detectors": [detector(), detector()]},
        {"detectors": [detector(90), detector(270)]},
        {"detectors": [detector(view=("R-10206", "SNM3", "antero-posterior")), detector()]},
    ],
)
def test_unstated_views_are_unknown_and_flagged(changes: dict[str, Any]) -> None:
    """Nothing is guessed from the order of frames."""
    assert _views(**changes) == (["unknown", "unknown"], ("view_unknown",))


def test_two_views_from_the_same_angle_both_become_unknown() -> None:
    """Copied start angles occur."""
    names, flags = _views(detectors=[detector(0), detector(0)])
    assert names == ["unknown", "unknown"]
    assert flags == ("view_conflict", "view_unknown")


def test_a_code_beats_a_contradicting_angle_and_is_flagged() -> None:
    """The code was written for people, the angle by the gantry."""
    names, flags = _views(detectors=[detector(0, ANTERIOR_CODE), detector(180, POSTERIOR_CODE)])
    assert (names, flags) == (["anterior", "posterior"], ("view_conflict",))


@pytest.mark.parametrize("peak", [1, 2])
def test_the_photopeak_window_is_taken(peak: int) -> None:
    """Four frames: two windows times two detectors; the other one is scatter."""
    windows = [window((126, 154)), window((90, 120))]
    frames = dicoms.two_views()
    four = np.concatenate([frames, frames[:, :, ::-1] // 3])
    data = dicoms.scan(
        four if peak == 1 else four[[2, 3, 0, 1]],
        windows=windows if peak == 1 else windows[::-1],
        EnergyWindowVector=[1, 1, 2, 2],
        DetectorVector=[1, 2, 1, 2],
    )
    found = np.stack([view.counts for view in decode.decode(data).views])
    np.testing.assert_array_equal(found, frames)


def test_interleaved_windows_are_told_apart() -> None:
    """The vectors, not blocks of frames, say which window a frame has."""
    frames = dicoms.two_views()
    data = dicoms.scan(
        np.stack([frames[0], frames[0] // 3, frames[1], frames[1] // 3]),
        windows=[window((126, 154)), window((90, 120))],
        EnergyWindowVector=[1, 2, 1, 2],
        DetectorVector=[1, 1, 2, 2],
    )
    scan = decode.decode(data)
    np.testing.assert_array_equal(np.stack([v.counts for v in scan.views]), frames)
    assert [view.name for view in scan.views] == ["anterior", "posterior"]


def test_of_two_windows_round_the_peak_the_narrow_one_is_taken() -> None:
    """It has less scatter."""
    frames = dicoms.two_views()
    data = dicoms.scan(
        np.concatenate([frames // 2, frames]),
        windows=[window((100, 180)), window((130, 151))],
        EnergyWindowVector=[1, 1, 2, 2],
        DetectorVector=[1, 2, 1, 2],
    )
    found = np.stack([view.counts for view in decode.decode(data).views])
    np.testing.assert_array_equal(found, frames)


@pytest.mark.parametrize(
    "windows",
    [[window((346, 382))], [window(), window()], [window((90, 120)), window((60, 80))]],
)
def test_without_a_known_photopeak_the_scan_is_refused(windows: list[Dataset]) -> None:
    """Iodine-131 at 364 keV, or several windows of which none is stated."""
    several = len(windows) > 1
    frames = np.concatenate([dicoms.two_views()] * 2) if several else dicoms.two_views()
    vectors = {"EnergyWindowVector": [1, 1, 2, 2], "DetectorVector": [1, 2, 1, 2]}
    data = dicoms.scan(frames, windows=windows, **(vectors if several else {}))
    assert _code(data) == "photopeak_unknown"


@pytest.mark.parametrize("windows", [[], [window()], [window((0, 0))]])
def test_one_window_without_limits_is_taken(windows: list[Dataset]) -> None:
    """There is nothing to choose."""
    assert _views(windows=windows)[0] == ["anterior", "posterior"]


IMAGE_TYPE = ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"]


def _typed(*values: str) -> list[str]:
    return [*IMAGE_TYPE[:2], *values]


CASES: dict[str, tuple[str, bytes]] = {
    "report": ("not_an_image", dicoms.scan(Modality="SR")),
    "encapsulated PDF": (
        "not_an_image",
        dicoms.scan(SOPClassUID=uid.EncapsulatedPDFStorage, Modality="DOC"),
    ),
    "directory": ("not_an_image", dicoms.scan(SOPClassUID="1.2.840.10008.1.3.10", Modality=None)),
    "X-ray": ("xray", dicoms.scan(Modality="DX")),
    "CT": ("other_modality", dicoms.scan(Modality="CT")),
    "no modality, no NM class": (
        "other_modality",
        dicoms.scan(Modality=None, SOPClassUID=uid.SecondaryCaptureImageStorage),
    ),
    "PET": ("other_modality", dicoms.scan(Modality="PT")),
    "colour capture": (
        "screen_capture",
        dicoms.scan(SamplesPerPixel=3, PhotometricInterpretation="RGB"),
    ),
    "palette": (
        "screen_capture",
        dicoms.scan(
            PhotometricInterpretation="PALETTE COLOR",
            SOPClassUID=uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        ),
    ),
    "burnt in": ("screen_capture", dicoms.scan(BurnedInAnnotation="YES")),
    "screen save": (
        "screen_capture",
        dicoms.scan(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
    ),
    "projections": ("spect", dicoms.scan(ImageType=_typed("TOMO", "EMISSION"))),
    "reconstruction": (
        "spect",
        dicoms.scan(_frames(64, 128, 128), ImageType=_typed("RECON TOMO", "EMISSION")),
    ),
    "dynamic": (
        "dynamic_series",
        dicoms.scan(_frames(60, 128, 128), ImageType=_typed("DYNAMIC", "EMISSION")),
    ),
    "gated": ("dynamic_series", dicoms.scan(ImageType=_typed("GATED", "EMISSION"))),
    "static hands": (
        "static_view",
        dicoms.scan(_frames(2, 256, 256), ImageType=_typed("STATIC", "EMISSION")),
    ),
    "static, untyped": ("static_view", dicoms.scan(_frames(1, 512, 512), ImageType=None)),
    "static, tall": (
        "static_view",
        dicoms.scan(_frames(1, 512, 256), ImageType=_typed("STATIC", "EMISSION")),
    ),
    "transmission": ("not_emission", dicoms.scan(ImageType=_typed("WHOLE BODY", "TRANSMISSION"))),
    "iodine code": (
        "other_tracer",
        dicoms.scan(RadiopharmaceuticalInformationSequence=drug(("C-114B1", "SRT", "^131^Iodine"))),
    ),
    "iodine words": (
        "other_tracer",
        dicoms.scan(RadiopharmaceuticalInformationSequence=drug(("X", "99A", "I-131"))),
    ),
    "sestamibi": (
        "other_tracer",
        dicoms.scan(RadiopharmaceuticalInformationSequence=drug(None, "Tc-99m Sestamibi")),
    ),
    "lying": ("not_whole_body", dicoms.scan(_frames(1, 256, 1024))),
    "square but typed whole body": ("not_whole_body", dicoms.scan(_frames(1, 512, 512))),
    "half a metre tall": ("not_whole_body", dicoms.scan(PixelSpacing=["0.5", "0.5"])),
    "tiny": ("not_whole_body", dicoms.scan(_frames(1, 96, 32))),
    "three detectors": (
        "too_many_views",
        dicoms.scan(_frames(3), detectors=[detector(a) for a in (0, 120, 240)]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_whole_body_scan_is_refused_with_its_code(case: str) -> None:
    """Each rule has a stable code of its own."""
    code, data = CASES[case]
    assert _code(data) == code


def test_every_rule_and_code_is_covered_here() -> None:
    """A new rule needs a case, and every rule's code is documented."""
    codes = set(rules.RULES)
    assert codes <= set(refusals.REJECT_CODES)
    assert codes - {"size_refused"} <= {code for code, _ in CASES.values()}


def test_every_code_is_raised_somewhere_and_every_raised_code_is_documented() -> None:
    """Read from the sources."""
    sources = (Path(__file__).parents[3] / "bae").rglob("*.py")
    text = "".join(path.read_text() for path in sources)
    raised = set(re.findall(r'(?:ScanError|ObjectError|_refusing)\(\s*"(\w+)"', text)) | set(
        rules.RULES
    )
    assert raised == set(refusals.REJECT_CODES)


@pytest.mark.parametrize(
    "changes",
    [
        {"SOPClassUID": uid.SecondaryCaptureImageStorage, "ImageType": ["DERIVED", "SECONDARY"]},
        {"Modality": None},
        {"BodyPartExamined": "CHEST"},
        {"ImageType": _typed("STATIC", "EMISSION")},
        {"ImageType": None},
        {"BurnedInAnnotation": "NO"},
        {"RadiopharmaceuticalInformationSequence": drug(("C-163A8", "SRT", "^99m^Tc"), "MDP")},
        {"RadiopharmaceuticalInformationSequence": drug(("72454006", "SCT", "Tc99m"), "HDP")},
        {"RadiopharmaceuticalInformationSequence": drug(None, "Medronate")},
        {"PixelSpacing": None},
        {"EnergyWindowVector": None, "FrameIncrementPointer": None},
    ],
)
def test_odd_but_sound_whole_body_scans_are_read(changes: dict[str, Any]) -> None:
    """Secondary captures, wrong body parts, static types, absent elements."""
    assert len(_views(**changes)[0]) == 2


def test_missing_pixel_size_is_flagged() -> None:
    """Sizes in mm are then null."""
    scan = decode.decode(dicoms.scan(PixelSpacing=None))
    assert (scan.pixel_mm, scan.flags) == (None, ("pixel_size_missing",))


def test_absurd_pixel_size_is_dropped_and_flagged() -> None:
    """A gamma camera has no pixels of 0.01 mm."""
    scan = decode.decode(dicoms.scan(PixelSpacing=["0.01", "0.01"]))
    assert (scan.pixel_mm, scan.flags) == (None, ("pixel_size_implausible",))


def _stopped(counts: dicoms.Counts, share: float) -> dicoms.Counts:
    counts = counts.copy()
    counts[:, int(counts.shape[1] * share) :] = 0
    return counts


RNG = np.random.default_rng(0)
SPOILT: dict[str, tuple[str, dicoms.Counts]] = {
    "no counts": ("image_empty", dicoms.two_views() * np.uint16(0)),
    "one view empty": ("image_empty", dicoms.two_views() * np.array([[[1]], [[0]]], np.uint16)),
    "a few counts": ("image_empty", RNG.poisson(0.005, (2, 1024, 256)).astype(np.uint16)),
    "constant": ("image_constant", dicoms.two_views() * np.uint16(0) + np.uint16(7)),
    "noise": ("image_noise", RNG.poisson(3.0, (2, 1024, 256)).astype(np.uint16)),
    "saturated": ("image_saturated", np.minimum(dicoms.two_views(), 6)),
    "upside down": ("upside_down", dicoms.two_views()[:, ::-1]),
    "stopped at the pelvis": ("half_body", _stopped(dicoms.two_views(), 0.5)),
    "legs only": ("half_body", dicoms.two_views()[:, 512:].repeat(2, axis=1) // 2),
    "two in one frame": ("two_bodies", np.concatenate(list(dicoms.two_views()), axis=1)),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_shows_no_whole_body_is_refused(case: str) -> None:
    """The counts are checked, not only the header."""
    code, counts = SPOILT[case]
    if case == "legs only":  # the same legs, at their own scale
        legs = np.zeros_like(dicoms.two_views())
        legs[:, :512] = dicoms.two_views()[:, 512:]
        counts = legs
    assert _code(dicoms.scan(np.ascontiguousarray(counts))) == code


def test_the_body_check_asks_the_same_of_every_matrix() -> None:
    """Enlarged, shrunk, scaled and negated pictures of one body measure alike."""
    counts = dicoms.real_counts()
    base = bodies.shape(counts)
    for other in (
        counts.repeat(3, axis=0).repeat(3, axis=1),
        counts.reshape(512, 2, 128, 2).sum(axis=(1, 3)).astype(np.uint16),
        counts.astype(np.float32) / 7,
    ):
        seen = bodies.shape(other)
        assert seen.aspect == pytest.approx(base.aspect, rel=0.05)
        assert seen.upper_share == pytest.approx(base.upper_share, abs=0.02)


def test_clipped_pictures_are_flagged_not_refused() -> None:
    """8-bit exports often clip the brightest bones."""
    counts = np.minimum(dicoms.real_counts(), np.uint16(np.percentile(dicoms.real_counts(), 95)))
    assert body.examine([View(name="unknown", counts=counts)], None)[1] == {"clipped"}

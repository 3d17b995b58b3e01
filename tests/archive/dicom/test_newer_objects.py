"""Metadata where newer objects keep it, numbers as they are written, and what is no image."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bae.archive.dicom import decode
from bae.errors import ScanError
from tests.archive.dicom import written
from tests.archive.dicom.written import ANTERIOR, IMPLICIT, LITTLE, POSTERIOR
from tests.fakes import dicoms

SPACING, SLOPE, INTERCEPT, ANGLE, CODE = 0x00280030, 0x00281053, 0x00281052, 0x00540200, 0x00540220
DETECTORS, DETECTOR_VECTOR = 0x00540022, 0x00540020
SHARED, PER_FRAME = 0x52009229, 0x52009230
MEASURES, TRANSFORMATION, REAL_WORLD = 0x00289110, 0x00289145, 0x00409096
ENHANCED = {SPACING: None, DETECTORS: None, DETECTOR_VECTOR: None, 0x00540021: None}
"""What an enhanced object does not have at its root."""


def _file(
    changes: dict[int, Any], frames: NDArray[Any] | None = None, syntax: str = LITTLE
) -> bytes:
    frames = dicoms.two_views() if frames is None else frames
    elements = {**written.bone_scan(frames), **changes}
    return written.file(elements, written.native(frames), syntax)


def _counts(data: bytes) -> NDArray[Any]:
    return np.stack([view.counts for view in decode.decode(data).views])


def _names(data: bytes) -> list[str]:
    return [view.name for view in decode.decode(data).views]


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT])
@pytest.mark.parametrize("shared", [True, False])
def test_pixel_spacing_of_functional_groups(shared: bool, syntax: str) -> None:
    """PS3.3 C.7.6.16.2.1."""
    group = {MEASURES: [{SPACING: "2.4\\2.3"}]}
    changes = {SHARED: [group]} if shared else {PER_FRAME: [group, group]}
    assert decode.decode(_file(ENHANCED | changes, syntax=syntax)).pixel_mm == (2.4, 2.3)


@pytest.mark.parametrize("root", [None, "2.26\\2.26"])
def test_pixel_spacings_that_differ_are_not_believed(root: str | None) -> None:
    """Between frames, or between the root and a frame."""
    sizes = ("2.4\\2.4", "2.4\\2.4" if root else "3.1\\3.1")
    groups = [{MEASURES: [{SPACING: size}]} for size in sizes]
    scan = decode.decode(_file({SPACING: root, PER_FRAME: groups}))
    assert scan.pixel_mm is None
    assert "pixel_size_conflict" in scan.flags


@pytest.mark.parametrize("place", ["root", "shared", "frames"])
@pytest.mark.parametrize("kind", ["rescale", "real world"])
def test_rescale_of_functional_groups(kind: str, place: str) -> None:
    """PS3.3 C.7.6.16.2.9 and .11; intercepts too."""
    group: dict[int, Any] = {TRANSFORMATION: [{SLOPE: "0.5", INTERCEPT: "2"}]}
    if kind != "rescale":
        group = {REAL_WORLD: [{0x00409225: 0.5, 0x00409224: 2.0}]}
    elif place == "root":
        group = {SLOPE: "0.5", INTERCEPT: "2"}
    places = {"root": group, "shared": {SHARED: [group]}, "frames": {PER_FRAME: [group, group]}}
    expected = dicoms.two_views() * np.float32(0.5) + np.float32(2)
    np.testing.assert_array_equal(_counts(_file(places[place])), expected)


def test_each_frame_has_its_own_rescale() -> None:
    """Slope 0.5 and slope 3."""
    groups = [{TRANSFORMATION: [{SLOPE: slope, INTERCEPT: "1"}]} for slope in ("0.5", "3")]
    slopes = np.array([[[0.5]], [[3]]], np.float32)
    expected = dicoms.two_views() * slopes + np.float32(1)
    np.testing.assert_array_equal(_counts(_file({PER_FRAME: groups})), expected)


def test_a_rescale_for_another_number_of_frames_is_refused() -> None:
    """Three groups with different slopes, two frames."""
    groups = [{TRANSFORMATION: [{SLOPE: slope}]} for slope in ("1", "2", "3")]
    with pytest.raises(ScanError) as refused:
        decode.decode(_file({PER_FRAME: groups}))
    assert refused.value.code == "header_conflict"


VIEWS: dict[str, list[dict[int, Any]]] = {
    "codes": [{CODE: ANTERIOR}, {CODE: POSTERIOR}],
    "angles": [{ANGLE: "180"}, {ANGLE: "0"}],
    "detectors": [{DETECTORS: [{CODE: ANTERIOR}]}, {DETECTORS: [{ANGLE: "0"}]}],
    "orientations": [
        {0x00209450: [{0x00200020: "L\\F"}]},
        {0x00209450: [{0x00200020: "RP\\F"}]},
    ],
    "planes": [
        {0x00209116: [{0x00200037: "1\\0\\0\\0\\0\\-1"}]},
        {0x00209116: [{0x00200037: "-1\\0\\0\\0\\0\\-1"}]},
    ],
}


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("kind", VIEWS)
def test_views_of_functional_groups(kind: str, swapped: bool, syntax: str) -> None:
    """Each frame says of itself which view it is."""
    groups = VIEWS[kind][::-1] if swapped else VIEWS[kind]
    names = ["posterior", "anterior"] if swapped else ["anterior", "posterior"]
    assert _names(_file(ENHANCED | {PER_FRAME: groups}, syntax=syntax)) == names


def test_detectors_in_the_shared_group() -> None:
    """The Detector Information Sequence, one level down."""
    detectors = [{CODE: ANTERIOR}, {CODE: POSTERIOR}]
    changes = {DETECTORS: None, SHARED: [{DETECTORS: detectors}]}
    assert _names(_file(changes)) == ["anterior", "posterior"]


@pytest.mark.parametrize(
    "changes", [{CODE: POSTERIOR}, {0x00200020: "R\\F"}, {SHARED: [{CODE: POSTERIOR}]}], ids=str
)
def test_the_view_of_a_single_frame_at_its_root(changes: dict[int, Any]) -> None:
    """Its own view code, or what lies to the right in it."""
    frames = dicoms.two_views()[1:]
    assert _names(_file({DETECTORS: None} | changes, frames)) == ["posterior"]


def test_patient_orientation_decides_between_code_and_angle() -> None:
    """Two of three."""
    detector = [{CODE: ANTERIOR, ANGLE: "0"}]
    frames = dicoms.two_views()[1:]
    scan = decode.decode(_file({DETECTORS: detector, 0x00200020: "R\\F"}, frames))
    assert [view.name for view in scan.views] == ["posterior"]
    assert "view_conflict" in scan.flags


def test_one_code_copied_to_two_detectors_gives_way_to_their_angles() -> None:
    """Both coded anterior, at 180 and 0 degrees."""
    detectors = [{CODE: ANTERIOR, ANGLE: "180"}, {CODE: ANTERIOR, ANGLE: "0"}]
    scan = decode.decode(_file({DETECTORS: detectors}))
    assert [view.name for view in scan.views] == ["anterior", "posterior"]
    assert "view_conflict" in scan.flags


def test_two_codes_of_one_detector_name_nothing() -> None:
    """Anterior and posterior at once."""
    scan = decode.decode(_file({DETECTORS: [{CODE: ANTERIOR + POSTERIOR}, {CODE: POSTERIOR}]}))
    assert [view.name for view in scan.views] == ["unknown", "posterior"]
    assert "view_conflict" in scan.flags


@pytest.mark.parametrize("side", ["L", "R"])
def test_a_side_of_the_body_is_flagged(side: str) -> None:
    """At the root and in a functional group."""
    for changes in ({0x00200060: side}, {SHARED: [{0x00209071: [{0x00209072: side}]}]}):
        assert "laterality_stated" in decode.decode(_file(changes)).flags


ORDERS: dict[str, tuple[dict[int, Any], list[str]]] = {
    "detectors from 0": ({DETECTOR_VECTOR: [0, 1]}, ["anterior", "posterior"]),
    "detectors from 0, turned": ({DETECTOR_VECTOR: [1, 0]}, ["posterior", "anterior"]),
    "a detector that is not there": ({DETECTOR_VECTOR: [1, 3]}, ["anterior", "unknown"]),
    "one detector twice": ({DETECTOR_VECTOR: [1, 1]}, ["unknown", "unknown"]),
    "no detector vector": ({DETECTOR_VECTOR: None}, ["unknown", "unknown"]),
    "windows from 0": ({0x00540010: [0, 0]}, ["anterior", "posterior"]),
    "a window that is not there": ({0x00540010: [1, 2]}, ["anterior", "posterior"]),
    "other windows": ({0x00540010: [2, 2]}, ["anterior", "posterior"]),
    "one window index": ({0x00540010: 1}, ["anterior", "posterior"]),
    "one detector claimed": ({0x00540021: 1}, ["anterior", "posterior"]),
    "three detectors claimed": ({0x00540021: 3}, ["anterior", "posterior"]),
    "two windows claimed": ({0x00540011: 2}, ["anterior", "posterior"]),
    "one detector described": ({DETECTORS: [{CODE: ANTERIOR}]}, ["anterior", "unknown"]),
}


@pytest.mark.parametrize("case", ORDERS)
def test_orders_that_contradict_themselves_are_settled_and_flagged(case: str) -> None:
    """Vectors, pointers, counts and items."""
    changes, names = ORDERS[case]
    scan = decode.decode(_file(changes))
    assert [view.name for view in scan.views] == names
    assert "frame_order_conflict" in scan.flags
    np.testing.assert_array_equal(
        np.stack([view.counts for view in scan.views]), dicoms.two_views()
    )


TWO_WINDOWS = {
    0x00540011: 2,
    0x00540012: [
        {0x00540013: [{0x00540014: "126", 0x00540015: "154"}]},
        {0x00540013: [{0x00540014: "90", 0x00540015: "120"}]},
    ],
    0x00540021: 2,
    DETECTORS: [{CODE: ANTERIOR}, {CODE: POSTERIOR}],
    DETECTOR_VECTOR: [1, 2, 1, 2],
}


@pytest.mark.parametrize(
    ("windows", "pointers", "flagged"),
    [
        ([1, 1, 2, 2], [0x00540010, 0x00540020], False),
        ([0, 0, 1, 1], [0x00540010, 0x00540020], True),
        ([1, 1, 2, 2], [0x00540020, 0x00540010], True),
    ],
)
def test_the_photopeak_is_found_in_vectors_from_0(
    windows: list[int], pointers: list[int], flagged: bool
) -> None:
    """Four frames, of which the last two are scatter."""
    frames = np.concatenate([dicoms.two_views(), dicoms.two_views() // 3])
    data = _file(TWO_WINDOWS | {0x00540010: windows, 0x00280009: pointers}, frames)
    np.testing.assert_array_equal(_counts(data), dicoms.two_views())
    assert ("frame_order_conflict" in decode.decode(data).flags) == flagged


@pytest.mark.parametrize(
    "changes", [{0x00540010: [1, 1, 3, 3]}, {0x00540010: [1, 1, 2]}, {DETECTOR_VECTOR: [1, 2]}]
)
def test_vectors_that_leave_several_readings_are_refused(changes: dict[int, Any]) -> None:
    """A frame may be the photopeak's, and nothing says which."""
    frames = np.concatenate([dicoms.two_views(), dicoms.two_views() // 3])
    with pytest.raises(ScanError) as refused:
        decode.decode(_file(TWO_WINDOWS | {0x00540010: [1, 1, 2, 2]} | changes, frames))
    assert refused.value.code == "header_conflict"


# numbers


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2,4\\2,4", (2.4, 2.4)),
        ("2.4\\2,3", (2.4, 2.3)),
        ("2.4,2.3", (2.4, 2.3)),
        (" 2.40 \\ +2.3", (2.4, 2.3)),
        ("2.4\0\0\\2.3\0", (2.4, 2.3)),
        ("00002.4\\.23E1", (2.4, 2.3)),
        ("24e-1\\2,3e0", (2.4, 2.3)),
        ("2.4", (2.4, 2.4)),
        ("2.4\\", (2.4, 2.4)),
        ("nan\\inf", None),
        ("2_4\\2_4", None),
        ("two\\two", None),
        ("-2.4\\2.4", None),
        ("1e999\\2.4", (2.4, 2.4)),
    ],
)
@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT])
def test_numbers_are_read_as_they_are_written(
    text: str, size: tuple[float, float] | None, syntax: str
) -> None:
    """DS with commas, padding, signs and exponents; nothing else is a number."""
    assert decode.decode(_file({SPACING: text}, syntax=syntax)).pixel_mm == size


@pytest.mark.parametrize("frames", ["2\0", " 2 ", "+2", "02", "2.0", "2,0"])
def test_the_number_of_frames_in_odd_forms(frames: str) -> None:
    """IS that other writers leave."""
    assert decode.decode(_file({0x00280008: frames})).flags == ()


def test_decimal_commas_in_a_rescale_and_in_an_energy_window() -> None:
    """Slope 0,5; a window from 126,5 to 154,5 keV."""
    windows = [{0x00540013: [{0x00540014: "126,5", 0x00540015: "154,5"}]}]
    data = _file({SLOPE: "0,5", INTERCEPT: "0", 0x00540012: windows})
    np.testing.assert_array_equal(_counts(data), dicoms.two_views() * np.float32(0.5))


# colours, and no images


def test_palette_colour_leaves_the_counts_as_they_are() -> None:
    """PS3.3 C.8.4.7.1.1; the table only says how they are to be shown."""
    palette = {0x00281101: [256, 0, 16], 0x00281201: bytes(range(256)) * 2}
    for table in (palette, {}):  # the table may have been lost on the way
        data = _file({0x00280004: "PALETTE COLOR"} | table)
        np.testing.assert_array_equal(_counts(data), dicoms.two_views())
        assert ("palette_missing" in decode.decode(data).flags) == (not table)
    capture = {0x00280004: "PALETTE COLOR", 0x00080016: "1.2.840.10008.5.1.4.1.1.7.2"}
    for table in (palette, {}):
        with pytest.raises(ScanError) as refused:
            decode.decode(_file(capture | table))
        assert refused.value.code == "screen_capture"


NOTHING = dict.fromkeys([0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100])


@pytest.mark.parametrize(
    "changes",
    [
        {0x00080016: None, 0x00080060: None, 0x00041220: []},  # DICOMDIR
        {0x00080016: "1.2.840.10008.5.1.4.1.1.66"},  # raw data
        {0x00080016: "1.2.840.10008.5.1.4.1.1.481.5", 0x00080060: "RTPLAN"},
        {0x00080016: "1.2.840.10008.5.1.4.1.1.9.1.1", 0x00080060: "ECG"},
        {0x00080016: "1.2.840.10008.5.1.4.1.1.88.33", 0x00080060: "SR"},
        {0x00080016: "1.2.840.10008.5.1.4.1.1.104.1", 0x00080060: "OT"},
        {0x00080016: "1.2.840.10008.5.1.4.1.1.11.1", 0x00080060: "PR"},
        {0x00080016: "1.2.840.10008.5.1.4.1.1.67"},
        {0x00080016: "1.2.840.10008.5.1.4.38.1", 0x00080060: None},
        {0x00080016: "1.2.840.10008.5.1.4.1.1.4.2", 0x00080060: "MR"},  # spectroscopy
    ],
    ids=str,
)
def test_what_has_no_pixels_is_no_image(changes: dict[int, Any]) -> None:
    """Directories, documents, plans, waveforms, raw data."""
    elements = {**written.bone_scan(dicoms.two_views()), **NOTHING, **changes}
    with pytest.raises(ScanError) as refused:
        decode.decode(written.file(elements))
    assert refused.value.code == "not_an_image"

"""Headers that contradict their own pixels: settled by the data and flagged, else refused."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bae.archive import refusals
from bae.archive.dicom import decode
from bae.errors import ScanError
from bae.scan import Scan
from tests.archive.dicom import written
from tests.archive.dicom.written import BIG, GE_PRIVATE, IMPLICIT, JPEG, JPEG_LS, LITTLE, RLE
from tests.fakes import dicoms

FRAMES, ROWS, COLUMNS, BITS = 0x00280008, 0x00280010, 0x00280011, 0x00280100
STORED, HIGH, SIGN, DETECTORS, WINDOWS = 0x00280101, 0x00280102, 0x00280103, 0x00540020, 0x00540010
SAMPLES = 0x00280002
CODED = (RLE, JPEG, JPEG_LS)
EVERY = (LITTLE, *CODED)


def _frames(bits: int) -> NDArray[Any]:
    if bits == 8:
        return np.minimum(dicoms.two_views(), 255).astype(np.uint8)
    return dicoms.two_views().astype(f"u{bits // 8}")


def _file(
    frames: NDArray[Any], syntax: str = LITTLE, changes: dict[int, Any] | None = None, **how: Any
) -> bytes:
    elements = {**written.bone_scan(frames), **(changes or {})}
    pixels: bytes | Sequence[bytes]
    pixels = written.coded(frames, syntax) if syntax in CODED else written.native(frames)
    return written.file(elements, how.pop("pixels", pixels), syntax, **how)


def _read(data: bytes) -> tuple[Scan, NDArray[Any]]:
    scan = decode.decode(data)
    return scan, np.stack([view.counts for view in scan.views])


def _settled(data: bytes, counts: NDArray[Any], flag: str) -> Scan:
    """Check that an object is read as these counts, and says what was settled."""
    scan, found = _read(data)
    np.testing.assert_array_equal(found, counts)
    assert flag in scan.flags
    return scan


def _refused(data: bytes) -> str:
    with pytest.raises(ScanError) as refused:
        decode.decode(data)
    assert refused.value.code in refusals.REJECT_CODES
    return refused.value.code


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", [*EVERY, IMPLICIT, written.RAW_FRAGMENTS])
def test_sound_objects_have_no_flag(syntax: str, bits: int) -> None:
    """What is written by hand here is sound before it is spoilt."""
    frames = _frames(bits)
    pixels = written.native(frames)
    if syntax in (*CODED, written.RAW_FRAGMENTS):
        pixels = written.coded(frames, syntax)
    scan, found = _read(written.file(written.bone_scan(frames), pixels, syntax))
    np.testing.assert_array_equal(found, frames)
    assert scan.flags == ()
    assert [view.name for view in scan.views] == ["anterior", "posterior"]


# frames and size


@pytest.mark.parametrize("said", ["1", "3", "0", None, "", "7"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", EVERY)
def test_frames_are_counted_where_vectors_agree_with_the_data(
    syntax: str, bits: int, said: str | None
) -> None:
    """Two frames and vectors of two, whatever Number of Frames says."""
    data = _file(_frames(bits), syntax, {FRAMES: said})
    scan = _settled(data, _frames(bits), "frames_conflict")
    assert [view.name for view in scan.views] == ["anterior", "posterior"]


@pytest.mark.parametrize("syntax", EVERY)
def test_a_missing_frame_is_not_settled(syntax: str) -> None:
    """Number of Frames and vectors of two, and one frame."""
    frames = _frames(16)
    pixels: Any = written.native(frames[:1])
    if syntax in CODED:
        pixels = written.coded(frames[:1], syntax)
    assert _refused(_file(frames, syntax, pixels=pixels)) == "pixels_short"


@pytest.mark.parametrize("syntax", EVERY)
def test_a_frame_that_nothing_describes_is_not_settled(syntax: str) -> None:
    """Number of Frames and vectors of one, and two frames."""
    changes = {FRAMES: "1", DETECTORS: 1, WINDOWS: 1}
    assert _refused(_file(_frames(16), syntax, changes)).endswith("conflict")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "changes",
    [{ROWS: rows} for rows in (512, 1000, 1100, 2048)]
    + [{COLUMNS: columns} for columns in (128, 250, 300, 512)],
    ids=str,
)
@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, *CODED])
def test_rows_and_columns_are_settled_by_length_or_code_stream(
    syntax: str, changes: dict[int, int], bits: int
) -> None:
    """One wrong number, found by what it would have to be."""
    _settled(_file(_frames(bits), syntax, changes), _frames(bits), "size_conflict")


@pytest.mark.parametrize("syntax", EVERY)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("said", [0, 3])
def test_three_samples_of_a_grey_picture_are_one(syntax: str, said: int, bits: int) -> None:
    """Samples per Pixel says colour, or nothing at all; photometry and length say grey."""
    data = _file(_frames(bits), syntax, {SAMPLES: said})
    _settled(data, _frames(bits), "size_conflict")


@pytest.mark.parametrize("said", [8, 16])
@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT])
def test_bits_allocated_are_settled_by_the_length(syntax: str, said: int) -> None:
    """16 for samples of a byte, 8 for samples of two."""
    frames = _frames(24 - said)
    changes = {BITS: said, STORED: said, HIGH: said - 1}
    _settled(_file(frames, syntax, changes), frames, "size_conflict")


@pytest.mark.parametrize("said", [8, 16])
@pytest.mark.parametrize("syntax", CODED)
def test_bits_allocated_are_settled_by_the_code_stream(syntax: str, said: int) -> None:
    """The same of compressed frames, which know their own depth."""
    frames = _frames(24 - said)
    changes = {BITS: said, STORED: said, HIGH: said - 1}
    _settled(_file(frames, syntax, changes), frames, "bit_depth_conflict")


def test_padding_behind_the_last_frame_is_flagged_and_other_bytes_are_refused() -> None:
    """Where no number of rows, columns or frames explains the length."""
    frames = _frames(16)
    pixels = written.native(frames)
    _settled(_file(frames, pixels=pixels + bytes(1234)), frames, "size_conflict")
    rest = np.arange(617, dtype="<u2").tobytes()
    assert _refused(_file(frames, pixels=pixels + rest)) == "pixels_conflict"


# byte order


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("implicit", [True, False])
def test_the_private_syntax_of_ge_has_big_endian_pixels(bits: int, implicit: bool) -> None:
    """Elements in little endian, as PS3.5 has none."""
    frames = _frames(bits)
    pixels = written.native(frames, big=True)
    data = _file(frames, GE_PRIVATE, pixels=pixels, implicit=implicit)
    scan, found = _read(data)
    np.testing.assert_array_equal(found, frames)
    assert found.max() == (255 if bits == 8 else 278)
    assert not {"byte_order_conflict"} & set(scan.flags) or bits == 8


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("scale", [1, 3, 200])
@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, BIG, GE_PRIVATE])
def test_swapped_bytes_are_seen_and_unswapped(syntax: str, scale: int, bits: int) -> None:
    """Pixels in the other byte order than the syntax says, of few and of many counts."""
    frames = _frames(bits) * np.array(scale, f"u{bits // 8}")
    wrong = syntax in (LITTLE, IMPLICIT)
    pixels = written.native(frames, big=wrong)
    _settled(_file(frames, syntax, pixels=pixels), frames, "byte_order_conflict")


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT])
def test_bytes_swapped_in_pairs_are_seen(syntax: str) -> None:
    """8-bit samples that were swapped as words."""
    frames = _frames(8)
    pixels = written.native(frames.view("<u2"), big=True)
    _settled(_file(frames, syntax, pixels=pixels), frames, "byte_order_conflict")


@pytest.mark.parametrize("syntax", CODED)
def test_swapped_bytes_are_seen_in_code_streams(syntax: str) -> None:
    """They were swapped before they were compressed."""
    frames = _frames(16)
    pixels = written.coded(frames.byteswap(), syntax)
    _settled(_file(frames, syntax, pixels=pixels), frames, "byte_order_conflict")


def test_counts_in_the_high_byte_stay_there_where_the_header_says_so() -> None:
    """Bits Stored 8, High Bit 15: no swapped bytes."""
    frames = _frames(8).astype(np.uint16)
    data = _file(frames << 8, changes={STORED: 8, HIGH: 15})
    scan, found = _read(data)
    np.testing.assert_array_equal(found, frames)
    assert scan.flags == ()


# depth and sign


@pytest.mark.parametrize("stored", [6, 7, 8])
@pytest.mark.parametrize("syntax", EVERY)
def test_values_beyond_bits_stored_are_whole(syntax: str, stored: int) -> None:
    """Up to 278 in fewer bits; cut off, they would wrap round."""
    changes = {STORED: stored, HIGH: stored - 1}
    _settled(_file(_frames(16), syntax, changes), _frames(16), "bit_depth_conflict")


@pytest.mark.parametrize("syntax", EVERY)
def test_an_overlay_above_the_stored_bits_is_cut_off_and_flagged(syntax: str) -> None:
    """PS3.5 before 2004 let overlays lie there."""
    frames = _frames(16)
    drawn = frames.copy()
    drawn[:, 100:200:7, 40:200:5] |= 0x8000
    changes = {STORED: 12, HIGH: 11}
    pixels = written.native(drawn) if syntax == LITTLE else written.coded(drawn, syntax)
    _settled(_file(frames, syntax, changes, pixels=pixels), frames, "bit_depth_conflict")


@pytest.mark.parametrize("syntax", EVERY)
def test_a_high_bit_too_high_loses_no_low_bits(syntax: str) -> None:
    """12 bits stored up to bit 15, while the values fill the lowest."""
    _settled(_file(_frames(16), syntax, {STORED: 12, HIGH: 15}), _frames(16), "bit_depth_conflict")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", EVERY)
def test_values_below_zero_are_seen_where_the_header_knows_no_sign(syntax: str, bits: int) -> None:
    """Pixel Representation 0 and counts down to -3."""
    counts = np.minimum(dicoms.two_views(), 100).astype(f"i{bits // 8}") - 3
    data = _file(counts.astype(f"i{bits // 8}"), syntax, {SIGN: 0})
    _settled(data, counts, "sign_conflict")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", EVERY)
def test_large_values_are_seen_where_the_header_claims_a_sign(syntax: str, bits: int) -> None:
    """Pixel Representation 1 and counts up to the largest unsigned one."""
    frames = _frames(bits)
    if bits == 16:
        frames = frames * np.uint16(235)
    _settled(_file(frames, syntax, {SIGN: 1}), frames, "sign_conflict")


def test_burnt_in_letters_are_no_values_below_zero() -> None:
    """White pixels at 255 beside air at 0, in unsigned 8 bits."""
    frames = np.minimum(dicoms.two_views(), 90).astype(np.uint8)
    frames[:, 10:30:3, 5:30:4] = 255
    scan, found = _read(_file(frames))
    np.testing.assert_array_equal(found, frames)
    assert "sign_conflict" not in scan.flags


def test_a_sign_repeated_above_the_stored_bits_is_no_conflict() -> None:
    """12 bits stored, written as sign-extended words: common and sound enough."""
    counts = dicoms.two_views().astype(np.int16) - 3
    scan, found = _read(_file(counts.astype(np.int16), changes={STORED: 12, HIGH: 11}))
    np.testing.assert_array_equal(found, counts)
    assert scan.flags == ()


@pytest.mark.parametrize("precision", [10, 12])
def test_a_code_streams_own_precision_is_flagged(precision: int) -> None:
    """16 bits stored, fewer in the stream."""
    frames = _frames(16)
    pixels = [written._padded(written.jpeg(frame, precision), b"\0") for frame in frames]
    _settled(_file(frames, JPEG, pixels=pixels), frames, "bit_depth_conflict")


# offsets and syntaxes


@pytest.mark.parametrize("table", [[0, 0], [0, 4], [0], [8, 16], [0, 40, 80], [4_000_000_000, 1]])
@pytest.mark.parametrize("syntax", CODED)
def test_wrong_offset_tables_are_not_followed(syntax: str, table: list[int]) -> None:
    """Frames begin where their code streams do."""
    _settled(_file(_frames(16), syntax, table=table), _frames(16), "offsets_conflict")


@pytest.mark.parametrize("syntax", CODED)
@pytest.mark.parametrize("shift", [0, 8])
def test_extended_offset_tables_are_compared(syntax: str, shift: int) -> None:
    """PS3.3 C.7.6.3.1.8; right ones are no news."""
    parts = written.coded(_frames(16), syntax)
    offsets = [start + shift for start in written.starts(parts)]
    changes = {0x7FE00001: offsets, 0x7FE00002: [len(part) for part in parts]}
    scan, found = _read(_file(_frames(16), syntax, changes))
    np.testing.assert_array_equal(found, _frames(16))
    assert scan.flags == (("offsets_conflict",) if shift else ())


@pytest.mark.parametrize("syntax", CODED)
@pytest.mark.parametrize("tabled", [True, False])
def test_frames_in_several_fragments_are_joined(syntax: str, tabled: bool) -> None:
    """With a Basic Offset Table and without."""
    parts, heads = [], []
    for whole in written.coded(_frames(16), syntax):
        heads.append(len(parts))
        parts += [whole[:5000], whole[5000:9000], whole[9000:]]
    table = [written.starts(parts)[head] for head in heads] if tabled else []
    scan, found = _read(_file(_frames(16), syntax, pixels=parts, table=table))
    np.testing.assert_array_equal(found, _frames(16))
    assert scan.flags == ()


@pytest.mark.parametrize("syntax", [JPEG, JPEG_LS])
def test_two_frames_in_one_fragment_are_parted(syntax: str) -> None:
    """A4 forbids it."""
    pixels = [b"".join(written.coded(_frames(16), syntax))]
    _settled(_file(_frames(16), syntax, pixels=pixels), _frames(16), "offsets_conflict")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("real", [LITTLE, *CODED])
@pytest.mark.parametrize("said", [LITTLE, IMPLICIT, BIG, *CODED])
def test_relabelled_objects_are_read_as_what_they_are(said: str, real: str, bits: int) -> None:
    """Any of the others' pixels under any syntax, all elements explicit little endian."""
    frames = _frames(bits)
    pixels = written.coded(frames, real) if real in CODED else written.native(frames)
    data = written.file(written.bone_scan(frames), pixels, said, implicit=False, big=False)
    scan, found = _read(data)
    np.testing.assert_array_equal(found, frames)
    both = {said, real} <= {JPEG, JPEG_LS} or said == real
    assert ("syntax_conflict" in scan.flags) == (said != real and not both) or said != real


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("said", [LITTLE, IMPLICIT, BIG, ""])
def test_elements_are_parsed_as_they_are_written(said: str, implicit: bool, big: bool) -> None:
    """In either byte order, with and without representations, whatever is said."""
    frames = _frames(16)
    data = written.file(
        written.bone_scan(frames), written.native(frames, big=big), said, implicit=implicit, big=big
    )
    scan, found = _read(data)
    np.testing.assert_array_equal(found, frames)
    right = {LITTLE: (False, False), IMPLICIT: (True, False), BIG: (False, True)}
    if said:
        assert ("syntax_conflict" in scan.flags) == (right[said] != (implicit, big))
    assert ("syntax_missing" in scan.flags) == (said == "")


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        ("1.2.3.4", "private"),
        ("1.2.840.113619.5.99", "General Electric"),
        ("1.3.46.670589.33.1.4.1", "Philips"),
        ("1.2.840.10008.1.2.4.999", "standard"),
        ("1.2.840.10008.1.2.77", "standard"),
        ("1.2.840.10008.1.2.4.102", "video"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.840.10008.5.1.4.1.1.20", "no transfer syntax"),
        ("EXPLICIT", "no UID"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_an_unknown_syntax_is_refused_and_its_class_named(
    syntax: str, named: str, compressed: bool
) -> None:
    """It does not pass as little endian."""
    pixels: Any = written.coded(_frames(16), JPEG) if compressed else written.native(_frames(16))
    data = written.file(written.bone_scan(_frames(16)), pixels, syntax)
    with pytest.raises(ScanError, match=named) as refused:
        decode.decode(data)
    assert refused.value.code == "codec_unsupported"
    assert syntax not in str(refused.value)


@pytest.mark.parametrize("form", ["raw", "zlib", "gzip", "not deflated", "not said"])
def test_deflated_objects_in_every_wrapping(form: str) -> None:
    """PS3.5 A.5 wants bare deflate; zlib's and gzip's headers occur, and wrong labels."""
    frames = _frames(16)
    syntax = LITTLE if form == "not said" else written.DEFLATED
    plain = _file(frames)[len(written.meta(LITTLE)) :]
    bits = {"zlib": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}.get(form, -zlib.MAX_WBITS)
    packer = zlib.compressobj(wbits=bits)
    body = plain if form == "not deflated" else packer.compress(plain) + packer.flush()
    scan, found = _read(written.meta(syntax) + body)
    np.testing.assert_array_equal(found, frames)
    assert scan.flags == (() if form == "raw" else ("syntax_conflict",))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", EVERY)
def test_one_frame_of_two_that_are_claimed(syntax: str, bits: int) -> None:
    """No vector denies it, and the body goes on to the last row."""
    frames = _frames(bits)[:1]
    changes = {FRAMES: "2", DETECTORS: None, WINDOWS: None}
    _settled(_file(frames, syntax, changes), frames, "frames_conflict")

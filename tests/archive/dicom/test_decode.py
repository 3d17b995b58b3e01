"""Pixels of every transfer syntax, and files that are odd but sound."""

import hashlib
import io
import zlib

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import uid

from bae.archive import picture
from bae.archive.dicom import decode
from bae.errors import ScanError
from bae.scan import Scan
from tests.fakes import dicoms


def _digest(counts: NDArray[np.generic]) -> str:
    return hashlib.sha256(np.ascontiguousarray(counts, dtype="<f4").tobytes()).hexdigest()


def _counts(scan: Scan) -> NDArray[np.generic]:
    return np.stack([view.counts for view in scan.views])


@pytest.mark.parametrize("syntax", dicoms.LOSSLESS, ids=lambda s: uid.UID(s).keyword)
@pytest.mark.parametrize("kind", ["uint16", "int16", "uint8", "negative"])
def test_every_lossless_syntax_gives_the_stored_pixels(syntax: str, kind: str) -> None:
    """The same two frames come back identical from each, signed, unsigned and 8-bit."""
    frames: dicoms.Counts = dicoms.two_views()
    if kind == "uint8":
        frames = np.minimum(frames, 255).astype(np.uint8)
    elif kind != "uint16":
        frames = frames.astype(np.int16) - (3 if kind == "negative" else 0)
    scan = decode.decode(dicoms.scan(frames, syntax))
    assert [view.name for view in scan.views] == ["anterior", "posterior"]
    assert _digest(_counts(scan)) == _digest(frames)
    assert scan.views[0].counts.dtype == (np.float32 if kind == "negative" else np.uint16)


@pytest.mark.parametrize(
    ("syntax", "largest"),
    [(uid.JPEGExtended12Bit, 12), (uid.JPEGLSNearLossless, 2), (uid.JPEG2000, 8), (uid.HTJ2K, 16)],
)
def test_lossy_16_bit_syntaxes_stay_close_to_the_counts(syntax: str, largest: int) -> None:
    """No pixel is further off than the encoder was allowed, of a maximum of 278."""
    scan = decode.decode(dicoms.scan(dicoms.two_views(), syntax))
    off = np.abs(_counts(scan).astype(float) - dicoms.two_views())
    assert 0 < off.max() <= largest
    assert off.mean() < 2


def test_jpeg_baseline_is_read() -> None:
    """8-bit lossy pictures come back within a tenth of full scale."""
    frames = np.minimum(dicoms.two_views(), 255).astype(np.uint8)
    scan = decode.decode(dicoms.scan(frames, uid.JPEGBaseline8Bit))
    assert np.abs(_counts(scan).astype(float) - frames).max() <= 16


def test_the_real_scan_is_what_gdcm_makes_of_it() -> None:
    """Lossless JPEG of a Millennium MG: 3 596 452 counts, as its own header says."""
    scan = decode.decode(dicoms.real_bytes())
    counts = scan.views[0].counts
    np.testing.assert_array_equal(counts, dicoms.real_counts())
    assert int(counts.sum()) == 3596452  # (0018,0070) Counts Accumulated
    assert counts.dtype == np.uint16
    assert (scan.pixel_mm, scan.sex, scan.manufacturer) == ((2.26, 2.26), "M", "GE")
    assert (scan.age_years, scan.flags) == (None, ("view_unknown",))


def test_the_real_scan_in_jpeg_2000_is_what_gdcm_makes_of_it() -> None:
    """A very lossy copy with signed samples; the ringing below zero is kept."""
    data = dicoms.real_bytes("JPEG2000.dcm")
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.pixel_array_options(decoding_plugin="gdcm")
    scan = decode.decode(data)
    np.testing.assert_array_equal(scan.views[0].counts, ds.pixel_array)
    assert scan.views[0].counts.min() < 0
    assert "lossy" in scan.flags


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_the_real_scan_in_12_bit_jpeg_has_the_known_maximum(name: str) -> None:
    """264, as the GPL decoder gives that is not shipped."""
    assert decode.decode(dicoms.real_bytes(name)).views[0].counts.max() == 264


def test_a_stream_with_an_embedded_delimiter_is_refused() -> None:
    """Its own size fields are overwritten: nothing honest can be decoded."""
    with pytest.raises(ScanError, match="tiles") as refused:
        decode.decode(dicoms.real_bytes("JPEG2000-embedded-sequence-delimiter.dcm"))
    assert refused.value.code == "pixels_broken"


@pytest.mark.parametrize("little", [True, False])
def test_a_data_set_alone_is_read(little: bool) -> None:
    """No preamble and no meta header: explicit in both byte orders, and implicit."""
    syntax = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    ds = dicoms.put(dicoms.header(), dicoms.two_views(), syntax)
    data = dicoms.bare(ds, implicit=False, little=little)
    assert decode.sniff(data)
    np.testing.assert_array_equal(_counts(decode.decode(data)), dicoms.two_views())


def test_an_implicit_data_set_alone_is_read() -> None:
    """As old archives keep them."""
    data = dicoms.bare(dicoms.put(dicoms.header(), dicoms.two_views()), implicit=True)
    np.testing.assert_array_equal(_counts(decode.decode(data)), dicoms.two_views())


def test_a_meta_header_without_preamble_is_read() -> None:
    """The file starts with group 2."""
    data = dicoms.scan()[132:]
    assert decode.sniff(data)
    np.testing.assert_array_equal(_counts(decode.decode(data)), dicoms.two_views())


def test_compressed_pixels_without_a_transfer_syntax_are_read() -> None:
    """The code stream says itself what it is."""
    ds = dicoms.put(dicoms.header(), dicoms.two_views(), uid.JPEG2000Lossless)
    data = dicoms.bare(ds, implicit=False)
    np.testing.assert_array_equal(_counts(decode.decode(data)), dicoms.two_views())


def test_a_single_frame_has_scalar_vectors() -> None:
    """With one frame pydicom gives numbers, not lists."""
    data = dicoms.scan(dicoms.real_counts(), EnergyWindowVector=1, DetectorVector=2)
    assert [view.name for view in decode.decode(data).views] == ["posterior"]


def test_bits_beyond_the_stored_ones_are_cut_off() -> None:
    """Overlays may hide above High Bit, or below it."""
    counts = np.minimum(dicoms.two_views(), 255)
    above = dicoms.put(dicoms.header(), counts | 0xA000)
    above.BitsStored, above.HighBit = 12, 11
    below = dicoms.put(dicoms.header(), (counts << 4 | 0b1010).astype(np.uint16))
    below.BitsStored, below.HighBit = 12, 15
    for ds in (above, below):
        np.testing.assert_array_equal(_counts(decode.decode(dicoms.encode(ds))), counts)


def test_a_12_bit_sign_is_extended() -> None:
    """Two's complement in the stored bits only."""
    counts = dicoms.two_views().astype(np.int16) - 5
    ds = dicoms.put(dicoms.header(), counts & 0x0FFF)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 1
    np.testing.assert_array_equal(_counts(decode.decode(dicoms.encode(ds))), counts)


def test_the_header_decides_the_sign() -> None:
    """Lossless JPEG knows no sign; the header's Pixel Representation does."""
    counts = dicoms.two_views().astype(np.int16) - 5
    data = dicoms.scan(counts, uid.JPEGLosslessSV1)
    assert decode.decode(data).views[0].counts.min() == -5


@pytest.mark.parametrize("words", [True, False])
def test_8_bit_pixels_in_big_endian_words_are_unswapped(words: bool) -> None:
    """PS3.5 8.1.2: in OW the bytes of a pair are exchanged, in OB they are not."""
    counts = np.minimum(dicoms.two_views(), 255).astype(np.uint8)
    ds = dicoms.put(dicoms.header(), counts, uid.ExplicitVRBigEndian)
    if words:
        ds.PixelData = counts.tobytes()
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds["PixelData"].VR = "OW"
    np.testing.assert_array_equal(_counts(decode.decode(dicoms.encode(ds))), counts)


def test_rescale_is_applied() -> None:
    """Slope and intercept give float32 counts."""
    scan = decode.decode(dicoms.scan(RescaleSlope="0.5", RescaleIntercept="2"))
    np.testing.assert_array_equal(_counts(scan), dicoms.two_views() * np.float32(0.5) + 2)


def test_real_world_values_are_applied() -> None:
    """The Real World Value Mapping counts where there is no rescale slope."""
    mapping = pydicom.Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 2.0, 0.0
    scan = decode.decode(dicoms.scan(RealWorldValueMappingSequence=[mapping]))
    np.testing.assert_array_equal(_counts(scan), dicoms.two_views() * np.float32(2))


@pytest.mark.parametrize("top", [65535, None])
def test_inverted_grey_becomes_counts(top: int | None) -> None:
    """White air and dark bones, whatever the photometric interpretation claims."""
    counts = dicoms.two_views() - dicoms.two_views().min(axis=(1, 2), keepdims=True)
    tops = np.array([[[top]]]) if top else counts.max(axis=(1, 2), keepdims=True)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        data = dicoms.scan((tops - counts).astype(np.uint16), PhotometricInterpretation=photometric)
        scan = decode.decode(data)
        np.testing.assert_array_equal(_counts(scan), counts)
        assert "grey_inverted" in scan.flags


def test_monochrome1_counts_stay_counts() -> None:
    """Archives mark counts MONOCHROME1 to have them shown dark on white."""
    scan = decode.decode(dicoms.scan(PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(_counts(scan), dicoms.two_views())
    assert scan.flags == ()


REFUSED = {
    "no pixels": (dicoms.scan()[: -(2 * 2 * 1024 * 256 + 12)], "pixels_missing"),
    "cut off": (dicoms.scan()[:-1000], "pixels_short"),
    "cut off, compressed": (dicoms.scan(syntax=uid.JPEGLosslessSV1)[:-90_000], "object_cut_off"),
    "no header": (b"\0" * 128 + b"DICM", "header_broken"),
    "24 bits": (dicoms.claiming(dicoms.scan(), "BitsAllocated", 24), "codec_unsupported"),
    "17 of 16 bits": (dicoms.claiming(dicoms.scan(), "BitsStored", 17), "header_conflict"),
    "3 detectors": (dicoms.scan(DetectorVector=[1, 2, 3]), "header_conflict"),
    "slope 0": (dicoms.scan(RescaleSlope="0"), "header_conflict"),
    "slope 1e300": (dicoms.scan(RescaleSlope="1e300"), "header_conflict"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_objects_are_refused_with_their_code(case: str) -> None:
    """Each mistake has its own code."""
    data, code = REFUSED[case]
    with pytest.raises(ScanError) as refused:
        decode.decode(data)
    assert refused.value.code == code


def _peak_bytes(data: bytes) -> tuple[str, int]:
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(ScanError) as refused:
        decode.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return refused.value.code, peak


@pytest.mark.parametrize(
    "changes", [{"NumberOfFrames": 4_000_000_000}, {"NumberOfFrames": 10**30}, {"Rows": 65535}]
)
def test_absurd_claims_cost_no_memory(changes: dict[str, int]) -> None:
    """The header is believed only within bounds, before anything is allocated."""
    ds = dicoms.put(dicoms.header(), dicoms.two_views())
    if "Rows" in changes:
        ds.Columns = 65535
    dicoms.change(ds, **changes)
    code, peak = _peak_bytes(dicoms.encode(ds))
    assert code == "size_refused"
    assert peak < 8 << 20


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1])
def test_a_codec_that_claims_more_than_the_header_is_refused(syntax: str) -> None:
    """60000 x 60000 inside a frame of 256 x 1024 is found before decoding."""
    ds = dicoms.put(dicoms.header(), dicoms.two_views(), syntax)
    frame = bytearray(next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=2)))
    if syntax == uid.JPEG2000Lossless:
        frame[8:16] = (60000).to_bytes(4) * 2
    else:
        marker = b"\xff\xf7" if syntax == uid.JPEGLSLossless else b"\xff\xc3"
        place = frame.index(marker) + 5
        frame[place : place + 4] = (60000).to_bytes(2) * 2
    ds.PixelData = pydicom.encaps.encapsulate([bytes(frame)] * 2)
    code, peak = _peak_bytes(dicoms.encode(ds))
    assert code == "pixels_conflict"
    assert peak < 8 << 20


def test_a_deflate_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inflating stops at the limit."""
    monkeypatch.setattr(decode, "LARGEST_INFLATED_BYTES", 4 << 20)
    data = dicoms.scan(syntax=uid.DeflatedExplicitVRLittleEndian)
    assert decode.decode(data)
    start = decode._meta(data)[1]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(bytes(100 << 20)) + packer.flush()
    code, peak = _peak_bytes(data[:start] + bomb)
    assert code == "size_refused"
    assert peak < 16 << 20


def test_a_deeply_nested_header_is_refused() -> None:
    """Ten thousand sequences inside each other end as a refusal, not as a stack overflow."""
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = dicoms.scan()
    with pytest.raises(ScanError):
        decode.decode(data[: decode._meta(data)[1]] + item * 10_000)


def test_png_and_dicom_are_told_apart() -> None:
    """The two sniffers do not overlap."""
    assert not decode.sniff(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert not picture.sniff(dicoms.scan())

"""Bytes of any object to its scans: what is sniffed, unpacked and refused."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from bae.archive import objects, refusals
from bae.archive.files import bounds
from bae.errors import ScanError
from bae.scan import Scan
from tests.fakes import dicoms


def picture(counts: dicoms.Counts, kind: str = "PNG", mode: str | None = None) -> bytes:
    """Return counts as a PNG or TIFF file."""
    buffer = io.BytesIO()
    image = Image.fromarray(counts)
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def zipped(*files: tuple[str, bytes]) -> bytes:
    """Return a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files:
            file.writestr(name, data)
    return buffer.getvalue()


def outcomes(data: bytes) -> dict[str, str]:
    """Return member name to reject code, ``scan`` where it was read."""
    found = {}
    for member, outcome in objects.scans("object", data):
        found[member] = "scan" if isinstance(outcome, Scan) else outcome.code
        assert isinstance(outcome, Scan) or outcome.code in refusals.REJECT_CODES
    return found


EIGHT = np.minimum(dicoms.real_counts(), 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("counts", [EIGHT, dicoms.real_counts()], ids=["8 bits", "16 bits"])
def test_grey_pictures_are_read_as_they_are(kind: str, counts: dicoms.Counts) -> None:
    """PNG and TIFF of 8 and 16 bits; view and pixel size are not known."""
    [(member, scan)] = objects.scans("x", picture(counts, kind))
    assert isinstance(scan, Scan)
    assert member == ""
    np.testing.assert_array_equal(scan.views[0].counts, counts)
    assert scan.views[0].counts.dtype == np.uint16
    assert scan.flags == ("pixel_size_missing", "view_unknown")
    assert (scan.age_years, scan.sex, scan.pixel_mm) == (None, None, None)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_stored_as_colour_is_read(mode: str) -> None:
    """Public sets keep grey pictures with three equal channels."""
    [(_, scan)] = objects.scans("x", picture(EIGHT, mode=mode))
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(scan.views[0].counts, EIGHT)


def test_a_big_endian_tiff_is_read() -> None:
    """MM byte order, 16 bits."""
    header = b"MM\0*" + (8).to_bytes(4)
    fields = [(256, 3, 256), (257, 3, 1024), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 134)]
    fields += [(277, 3, 1), (278, 3, 1024), (279, 4, 256 * 1024 * 2)]
    entries = b"".join(
        tag.to_bytes(2)
        + kind.to_bytes(2)
        + (1).to_bytes(4)
        + (value.to_bytes(2) + b"\0\0" if kind == 3 else value.to_bytes(4))
        for tag, kind, value in fields
    )
    directory = len(fields).to_bytes(2) + entries + bytes(4)
    data = (header + directory).ljust(134, b"\0") + dicoms.real_counts().astype(">u2").tobytes()
    [(_, scan)] = objects.scans("x", data)
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(scan.views[0].counts, dicoms.real_counts())


def test_two_pages_are_two_views() -> None:
    """A TIFF file may hold anterior and posterior."""
    buffer = io.BytesIO()
    pages = [Image.fromarray(counts) for counts in dicoms.two_views()]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    [(_, scan)] = objects.scans("x", buffer.getvalue())
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(np.stack([v.counts for v in scan.views]), dicoms.two_views())


def test_black_on_white_pictures_become_counts() -> None:
    """The public sets print bones dark."""
    [(_, scan)] = objects.scans("x", picture(255 - EIGHT))
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(scan.views[0].counts, EIGHT)
    assert "grey_inverted" in scan.flags


def _coloured() -> bytes:
    colours = np.stack([EIGHT, EIGHT // 2, EIGHT], axis=-1)
    return picture(colours)


def _huge_png() -> bytes:
    data = bytearray(picture(EIGHT))
    data[16:24] = (100_000).to_bytes(4) * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)
    return bytes(data)


PICTURES = {
    "colour": (_coloured(), "screen_capture"),
    "square": (picture(EIGHT[:256]), "static_view"),
    "lying": (picture(np.ascontiguousarray(EIGHT.T)), "not_whole_body"),
    "100000 x 100000": (_huge_png(), "size_refused"),
    "cut off": (picture(EIGHT)[:5000], "picture_broken"),
    "only a signature": (picture(EIGHT)[:8], "picture_broken"),
    "black and white": (picture(EIGHT, mode="1"), "screen_capture"),
    "floating point": (picture(EIGHT.astype(np.float32), "TIFF"), "screen_capture"),
    "empty": (picture(EIGHT * 0), "image_empty"),
    "BigTIFF": (b"II+\0" + bytes(100), "picture_broken"),
    "text": (b"not a picture", "format_unknown"),
    "nothing": (b"", "object_empty"),
    "one byte": (b"\0", "format_unknown"),
}


@pytest.mark.parametrize("case", PICTURES)
def test_bad_pictures_are_refused_with_their_code(case: str) -> None:
    """Each with its own code."""
    data, code = PICTURES[case]
    assert outcomes(data) == {"": code}


def test_the_content_and_not_the_name_decides_the_format() -> None:
    """A DICOM object called .png is DICOM."""
    [(_, scan)] = objects.scans("scan.png", dicoms.scan())
    assert isinstance(scan, Scan)
    assert len(scan.views) == 2


def test_a_bad_member_does_not_hide_its_neighbours() -> None:
    """A zip file of a study: scans, a picture, a report, rubbish, a folder."""
    data = zipped(
        ("a/1.dcm", dicoms.scan()),
        ("a/2.dcm", dicoms.scan()[:5000]),
        ("a/3.txt", b"hello"),
        ("a/empty", b""),
        ("a/", b""),
        ("b/4.png", picture(EIGHT)),
        ("b/inner.zip", zipped(("5.dcm", dicoms.scan()))),
        ("b/6.dcm", dicoms.scan(Modality="CT")),
        ("b/7.dcm", dicoms.scan()),
    )
    assert outcomes(data) == {
        "a/1.dcm": "scan",
        "a/2.dcm": "pixels_short",
        "a/3.txt": "format_unknown",
        "a/empty": "object_empty",
        "b/4.png": "scan",
        "b/inner.zip": "zip_nested",
        "b/6.dcm": "other_modality",
        "b/7.dcm": "scan",
    }


def test_a_damaged_member_does_not_hide_its_neighbours() -> None:
    """A wrong checksum in the middle of the file."""
    data = bytearray(zipped(*((f"{i}.dcm", dicoms.scan()) for i in range(3))))
    second = data.index(b"PK\x03\x04", 4)
    data[second + 2000 : second + 2100] = bytes(100)
    assert outcomes(bytes(data)) == {"0.dcm": "scan", "1.dcm": "zip_broken", "2.dcm": "scan"}


def test_members_of_the_same_name_stay_apart() -> None:
    """Zip files may hold a name twice."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped(("1.dcm", dicoms.scan()), ("1.dcm", dicoms.scan(Modality="CT")))
    assert outcomes(data) == {"1.dcm": "scan", "1.dcm#2": "other_modality"}


def test_a_member_without_a_name_does_not_hide_its_neighbours() -> None:
    """Found by fuzzing: ``ZipInfo.is_dir`` fails on an empty name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo(""), b"?")
        file.writestr("1.dcm", dicoms.scan())
    assert outcomes(buffer.getvalue()) == {"unnamed": "format_unknown", "1.dcm": "scan"}


def test_an_encrypted_member_is_refused() -> None:
    """Its flag says so; nothing is tried."""
    data = bytearray(zipped(("1.dcm", dicoms.scan())))
    data[6] |= 1
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    assert outcomes(bytes(data)) == {"1.dcm": "zip_encrypted"}


def test_zip_bombs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One member that is too large, and many that are too much together."""
    monkeypatch.setattr(bounds, "LARGEST_OBJECT_BYTES", 1 << 20)
    monkeypatch.setattr(bounds, "LARGEST_ZIP_BYTES", 3 << 20)
    big = zipped(("big", bytes(2 << 20)), ("1.dcm", dicoms.scan(EIGHT)))
    assert outcomes(big) == {"big": "object_too_large", "1.dcm": "scan"}
    many = zipped(*((str(i), bytes(1 << 20)) for i in range(6)))
    found = outcomes(many)
    assert list(found.values()) == ["format_unknown"] * 4 + ["zip_too_large"] * 2


def test_a_member_that_lies_about_its_size_is_cut() -> None:
    """The claim is small, the content is not, and is never unpacked."""
    data = bytearray(zipped(("liar", bytes(64 << 20))))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(mark) + offset
        data[place : place + 4] = (1000).to_bytes(4, "little")
    tracemalloc.start()
    found = outcomes(bytes(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"liar": "zip_broken"}
    assert peak < 4 << 20


@pytest.mark.parametrize("data", [b"PK\x03\x04" + bytes(50), zipped(("a", b"b"))[:40]])
def test_zip_files_without_a_directory_are_refused(data: bytes) -> None:
    """Rubbish, cut off."""
    assert outcomes(data) == {"": "zip_broken"}


def test_members_can_be_skipped() -> None:
    """How the sandbox goes on behind a file that crashed its child."""
    data = zipped(*((str(i), bytes([i + 1])) for i in range(5)))
    assert [name for name, _ in objects.members(data, 3)] == ["3", "4"]
    assert list(objects.members(b"plain", 1)) == []


def test_refusals_are_returned_not_raised() -> None:
    """The caller's loop goes on."""
    assert isinstance(objects.decode(b"?"), ScanError)

"""What a file is, and zip files as people make them."""

import io
import lzma
import struct
import unicodedata
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from bae.archive import objects
from bae.archive.files import bounds, kinds
from bae.scan import Scan
from tests.archive.test_objects import EIGHT, outcomes, picture, zipped
from tests.fakes import dicoms

PREAMBLES = {
    "TIFF": b"II*\0",
    "big-endian TIFF": b"MM\0*",
    "BigTIFF": b"II+\0",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "zip": b"PK\x03\x04",
    "gzip": b"\x1f\x8b\x08",
    "JPEG": b"\xff\xd8\xff\xe1",
    "PDF": b"%PDF-1.7",
    "random": bytes(np.random.default_rng(3).integers(0, 256, 128, np.uint8)),
}


@pytest.mark.parametrize("kind", PREAMBLES)
def test_a_dicom_file_may_begin_like_any_other(kind: str) -> None:
    """PS3.10, 7.1: the preamble's 128 bytes belong to nobody; DICM behind them decides."""
    data = PREAMBLES[kind].ljust(128, b"\0") + dicoms.scan()[128:]
    assert outcomes(data) == {"": "scan"}
    assert outcomes(zipped(("1.dcm", data), ("2.dcm", data))) == {"1.dcm": "scan", "2.dcm": "scan"}


def test_dicom_without_a_preamble_is_read() -> None:
    """Older programs write the data set alone."""
    assert outcomes(dicoms.scan()[132:]) == {"": "scan"}


def test_a_directory_of_a_medium_is_no_image() -> None:
    """DICOMDIR: Media Storage Directory Storage."""
    data = dicoms.scan(SOPClassUID="1.2.840.10008.1.3.10")
    assert outcomes(data) == {"": "not_an_image"}


@pytest.mark.parametrize("pages", [1, 2])
def test_bigtiff_is_read(pages: int) -> None:
    """TIFF with 64-bit offsets."""
    buffer = io.BytesIO()
    first, *more = [Image.fromarray(counts) for counts in dicoms.two_views()][:pages]
    first.save(buffer, "TIFF", big_tiff=True, save_all=True, append_images=more)
    data = buffer.getvalue()
    assert data[:4] == b"II+\0"
    [(_, scan)] = objects.scans("x", data)
    assert isinstance(scan, Scan)
    for view, counts in zip(scan.views, dicoms.two_views(), strict=False):
        np.testing.assert_array_equal(view.counts, counts)


def _jpeg(exif: bool) -> bytes:
    buffer = io.BytesIO()
    tags = Image.Exif()
    tags[0x010E] = "DOE^JANE"
    Image.fromarray(EIGHT).save(buffer, "JPEG", **({"exif": tags} if exif else {}))
    return buffer.getvalue()


def _tar() -> bytes:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("DOE^JANE.dcm"))
    return buffer.getvalue()


def _made() -> dict[str, bytes]:
    import bz2
    import gzip

    scan = dicoms.scan()
    return {
        "JPEG": _jpeg(False),
        "JPEG ": _jpeg(True),
        "gzip": gzip.compress(scan),
        "tar": _tar(),
        "bzip2": bz2.compress(scan),
        "xz": lzma.compress(scan),
        "GIF": picture(EIGHT, "GIF"),
        "BMP": picture(EIGHT, "BMP"),
        "WebP": picture(EIGHT, "WEBP", "RGB"),
        "JPEG 2000": picture(EIGHT, "JPEG2000"),
        "PDF": picture(EIGHT, "PDF"),
        "Netpbm": picture(EIGHT, "PPM"),
        "PDF ": b"\n\n%PDF-1.4",
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(500),
        "NIfTI": struct.pack("<i", 348).ljust(344, b"\0") + b"n+1\0",
        "NIfTI ": struct.pack(">i", 348).ljust(344, b"\0") + b"ni1\0",
        "7z": b"7z\xbc\xaf\x27\x1c" + bytes(50),
        "RAR": b"Rar!\x1a\x07\x01\0" + bytes(50),
        "XML": b"\xef\xbb\xbf<?xml version='1.0'?>",
        "Interfile": b"!INTERFILE :=\n",
    }


@pytest.mark.parametrize(("kind", "data"), _made().items(), ids=_made())
def test_known_formats_are_named(kind: str, data: bytes) -> None:
    """Each made by its own program where there is one; the message says which it is."""
    [(_, refusal)] = objects.scans("x", data)
    assert not isinstance(refusal, Scan)
    assert refusal.code == "format_not_read"
    assert f"format {kind.strip()}," in refusal.message
    assert "DOE" not in refusal.message


def test_hidden_members_and_litter_are_left_out() -> None:
    """As in a listing; a dot for the folder itself hides nothing."""
    litter = (
        "__MACOSX/a/._1.dcm",
        "a/._1.dcm",
        ".DS_Store",
        "a/Thumbs.db",
        "b\\desktop.ini",
        "_old/1.dcm",
        "a\\.hidden\\1.dcm",
    )
    scan = dicoms.scan()
    files = [
        (name, scan) for name in (*litter, "./a/1.dcm", "../b/1.dcm", "/etc/c.dcm", "d\\1.dcm")
    ]
    found = outcomes(zipped(*files))
    assert found == dict.fromkeys(("./a/1.dcm", "../b/1.dcm", "/etc/c.dcm", "d\\1.dcm"), "scan")
    assert [name for name, _ in objects.members(zipped(*files), 3)] == ["d\\1.dcm"]


@pytest.mark.parametrize("names", [(), ("a/",), ("__MACOSX/._a", "Thumbs.db"), ("folder\\",)])
def test_a_zip_file_without_files_is_one_refusal(names: tuple[str, ...]) -> None:
    """Else it would be read again every night."""
    assert outcomes(zipped(*((name, b"") for name in names))) == {"": "zip_empty"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_python_knows_are_read(method: int) -> None:
    """Beside Deflate."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("1.dcm", dicoms.scan())
    assert outcomes(buffer.getvalue()) == {"1.dcm": "scan"}


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (98, "PPMd"), (77, "method 77")])
def test_methods_that_are_not_read_are_named(method: int, name: str) -> None:
    """Windows packs files above 2 GiB by Deflate64. The neighbour is read."""
    data = bytearray(zipped(("1.dcm", dicoms.scan()), ("2.dcm", dicoms.scan())))
    data[8:10] = method.to_bytes(2, "little")
    central = data.index(b"PK\x01\x02") + 10
    data[central : central + 2] = method.to_bytes(2, "little")
    found = dict(objects.scans("x", bytes(data)))
    assert str(found["1.dcm"]) == f"zip_method_unsupported: the member is packed by {name}"
    assert isinstance(found["2.dcm"], Scan)


def test_a_later_version_of_the_format_is_not_called_broken() -> None:
    """The directory says what a program must know."""
    data = bytearray(zipped(("1.dcm", b"x")))
    data[data.index(b"PK\x01\x02") + 6] = 99
    assert outcomes(bytes(data)) == {"": "zip_method_unsupported"}


def _named(here: bytes, there: bytes, flag: int) -> bytes:
    """Return a zip file whose member has one name in its directory, another before its bytes."""
    content = dicoms.scan()
    packed = zlib.compress(content, wbits=-15)
    sizes = struct.pack("<III", zlib.crc32(content), len(packed), len(content))
    before = struct.pack("<HHHHH", 20, flag, 8, 0, 0x21)
    local = b"PK\x03\x04" + before + sizes + struct.pack("<HH", len(there), 0) + there + packed
    entry = (
        b"PK\x01\x02\x14\0" + before + sizes + struct.pack("<HHHHHII", len(here), *[0] * 6) + here
    )
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    return local + entry + b"PK\x05\x06" + end


@pytest.mark.parametrize(
    ("name", "flag", "shown"),
    [
        (unicodedata.normalize("NFD", "Müller.dcm").encode(), 0x800, "Mu\u0308ller.dcm"),
        ("Müller.dcm".encode("cp437"), 0, "Müller.dcm"),
        (b"M\xfcller.dcm", 0x800, "M\\xfcller.dcm"),
        (b"line\nbreak\x1b[31m.dcm", 0, "line\\nbreak\\x1b[31m.dcm"),
        ("a\u202emcd.exe".encode(), 0x800, "a\\u202emcd.exe"),
    ],
)
def test_names_never_matter(name: bytes, flag: int, shown: str) -> None:
    """In any encoding, said rightly or wrongly, and spelled in two ways."""
    assert outcomes(_named(name, name, flag)) == {shown: "scan"}
    assert outcomes(_named(name, b"OTHER~1.DCM", flag)) == {shown: "scan"}


def test_a_member_called_like_a_second_one_stays_apart() -> None:
    """``a#2`` may be a name of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = zipped(("a#2", b""), ("a", b""), ("a", b""), ("a", b""))
    assert len({name for name, _ in objects.members(data)}) == 4


@pytest.mark.parametrize("more", [b"\0" * 100, b"\0" * 200_000, b"signature" * 50_000])
def test_data_behind_the_end_of_a_zip_file_is_nothing(more: bytes) -> None:
    """Padded to a block, or signed."""
    assert outcomes(zipped(("1.dcm", dicoms.scan())) + more) == {"1.dcm": "scan"}


def test_zip64_is_read() -> None:
    """Sizes in 64 bits, as a program writes that does not know them before."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("1.dcm", "w", force_zip64=True) as member,
    ):
        member.write(dicoms.scan())
    assert outcomes(buffer.getvalue()) == {"1.dcm": "scan"}


def test_a_split_zip_file_is_no_unknown_format() -> None:
    """Its first disk begins with a mark of its own."""
    assert kinds.is_zip(b"PK\x07\x08PK\x03\x04")
    assert outcomes(b"PK\x07\x08" + bytes(200)) == {"": "zip_broken"}


def test_scans_behind_a_budget_of_pixels_are_refused_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scan here decodes to 1 MiB; what is no scan costs nothing."""
    monkeypatch.setattr(bounds, "LARGEST_DECODED_BYTES", 2 << 20)
    scan = dicoms.scan(dicoms.two_views())
    data = zipped(*((f"{i}.dcm", scan) for i in range(3)), ("note.txt", b"?"))
    found = dict(objects.scans("x", data))
    assert [isinstance(each, Scan) for each in found.values()] == [True, True, False, False]
    refusal = found["2.dcm"]
    assert not isinstance(refusal, Scan)
    assert (refusal.code, "2 MiB" in refusal.message) == ("zip_too_large", True)
    assert outcomes(scan) == {"": "scan"}

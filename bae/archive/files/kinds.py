"""What a file is, by its content; names decide nothing.

Signatures are those of the formats' own specifications. They can be forged and can collide by
chance, so a format that is read always comes before one that is only named.
"""

START_BYTES = 132
"""As many of an object's first bytes tell a DICOM file from a zip file."""

_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF-", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"{\\rtf", "RTF"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Microsoft Office or thumbnail"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (512, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"CDF\x01", "NetCDF or MINC"),
    (0, b"CDF\x02", "NetCDF or MINC"),
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "NIfTI"),
    (4, b"n+2\0\r\n\x1a\n", "NIfTI"),
    (4, b"ni2\0\r\n\x1a\n", "NIfTI"),
    (0, b"\x5c\x01\0\0", "Analyze"),
    (0, b"\0\0\x01\x5c", "Analyze"),
    (0, b"NRRD000", "NRRD"),
    (0, b"!INTERFILE", "Interfile"),
    (0, b"MATRIX7", "ECAT"),
    (0, b"MATLAB 5.0", "MATLAB"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"PAR1", "Parquet"),
    (0, b"SQLite format 3\0", "SQLite"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x1f\x9d", "compress"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"LZIP", "lzip"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (0, b"\x04\x22\x4d\x18", "LZ4"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"MSCF", "cabinet"),
    (257, b"ustar", "tar"),
    (32769, b"CD001", "ISO 9660"),
    (4, b"ftyp", "HEIC, AVIF or MP4"),
    (8, b"AVI ", "AVI"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska"),
    (0, b"\0\0\x01\xba", "MPEG"),
    (0, b"\x7fELF", "program"),
)
"""Place, bytes and name of formats that are known and not read."""

_TEXTS = (
    (b"<?xml", "XML"),
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"objecttype =", "MetaImage"),
    (b"ndims =", "MetaImage"),
    (b"!interfile", "Interfile"),
)
"""Beginnings of text formats, in small letters, behind a byte order mark and white space."""


def is_dicom_file(data: bytes) -> bool:
    """Say whether bytes are a DICOM file with its preamble.

    The preamble's 128 bytes belong to nobody (PS3.10, 7.1): a file that is TIFF or zip for other
    programs may begin there.
    """
    return data[128:132] == b"DICM"


def is_zip(data: bytes) -> bool:
    """Say whether bytes start like a zip file, also an empty or a split one, and are not DICOM."""
    marks = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
    return data[:4] in marks and not is_dicom_file(data)


def known(data: bytes) -> str | None:
    """Return the name of a format that is known and not read, None for anything else."""
    for place, mark, name in _MARKS:
        if data.startswith(mark, place):
            return name
    text = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, name in _TEXTS:
        if text.startswith(mark):
            return name
    if data[:2] == b"BM" and data[6:10] == bytes(4):  # two reserved numbers
        return "BMP"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "Netpbm"
    return "PDF" if b"%PDF-" in data[:1024] else None  # readers of PDF look as far

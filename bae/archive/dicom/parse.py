"""Bytes to a data set, whatever the file says of its own encoding (PS3.10 section 7, PS3.5 A)."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from bae.errors import ScanError

SYNTAX_MISSING, SYNTAX_CONFLICT = "syntax_missing", "syntax_conflict"
"""Flags: no transfer syntax is stated; the object is not in the one that is."""

GE_PRIVATE = "1.2.840.113619.5.2"
"""General Electric's own: elements in little endian, implicit as a rule, pixels in big endian."""
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"

_ENCODINGS = {
    str(ImplicitVRLittleEndian): (True, True),
    str(ExplicitVRLittleEndian): (False, True),
    str(ExplicitVRBigEndian): (False, False),
}
"""Transfer syntax to (implicit, little endian); the compressed ones are explicit little endian."""

_COMPRESSED = (
    *(f"1.2.840.10008.1.2.4.{number}" for number in (*range(50, 67), 70, 80, 81, *range(90, 94))),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)),
    "1.2.840.10008.1.2.5",
)
_READ = {*_ENCODINGS, str(DeflatedExplicitVRLittleEndian), ENCAPSULATED_UNCOMPRESSED, GE_PRIVATE}
_READ |= set(_COMPRESSED)

_CLASSES = {
    "1.2.840.10008.1.2.4.94": "pixels that lie elsewhere (JPIP)",
    "1.2.840.10008.1.2.4.95": "pixels that lie elsewhere (JPIP)",
    "1.2.840.10008.1.2.4.20": "pixels that lie elsewhere (JPIP)",
    "1.2.840.10008.1.2.4.10": "video (MPEG)",
    "1.2.840.10008.1.2.4.11": "JPEG XL",
    "1.2.840.10008.1.2.7.": "a live stream (SMPTE)",
    "1.2.840.10008.1.2.": "the standard's arc, and not one that is read",
    "1.2.840.10008.": "the standard's arc, and no transfer syntax",
    "1.2.840.113619.": "a private one of General Electric",
    "1.3.12.2.1107.": "a private one of Siemens",
    "1.3.46.670589.": "a private one of Philips",
    "1.2.392.200036.": "a private one of Canon",
}
"""Beginning of a UID to its class, for messages: a UID itself may be anybody's."""


@dataclass(frozen=True)
class Parsed:
    """A data set and how it was written.

    Args:
        ds: the data set.
        syntax: Transfer Syntax UID, the explicit big endian one where an object without any
            is in it, else empty where none is stated.
        flags: ``syntax_missing``, ``syntax_conflict``.
        cut: bytes that the pixel data's length claims and the file does not have.
    """

    ds: Dataset
    syntax: str
    flags: frozenset[str]
    cut: int


def check_syntax(syntax: str) -> None:
    """Refuse what no reader here is for: taken for little endian, its pixels would be noise.

    Raises:
        ScanError: ``codec_unsupported``, naming the class that the UID is of.
    """
    if not syntax or syntax in _READ:
        return
    found = (name for start, name in _CLASSES.items() if syntax.startswith(start))
    what = next(found, "a private one")
    if syntax.strip("0123456789."):
        what = "no UID"
    raise ScanError("codec_unsupported", f"the transfer syntax is not known: {what}")


def compressed(syntax: str) -> bool:
    """Say whether a transfer syntax promises fragments."""
    return syntax in _COMPRESSED or syntax == ENCAPSULATED_UNCOMPRESSED


def parse(data: bytes, largest: int) -> Parsed:
    """Parse an object.

    Args:
        data: a Part 10 file, or one without preamble or meta header.
        largest: bytes to which a deflated data set may unpack.

    Raises:
        ScanError: damaged, cut off, or larger than that; pydicom raises others.
    """
    syntax, start = meta(data)
    flags = set() if syntax else {SYNTAX_MISSING}
    first = data[start : start + 8]
    if syntax == DeflatedExplicitVRLittleEndian or not _begins(first):
        body = _unpacked(data[start:], syntax, largest, flags)
        if syntax == DeflatedExplicitVRLittleEndian or SYNTAX_CONFLICT in flags:
            ds = read_dataset(io.BytesIO(body), *_encoding(body, (False, True)))
            return Parsed(ds, syntax, frozenset(flags), _cut(ds))
    expected = _ENCODINGS.get(syntax, (syntax == GE_PRIVATE, True))
    found = _encoding(first, expected)
    if syntax and found != expected and syntax != GE_PRIVATE:
        flags.add(SYNTAX_CONFLICT)
    if syntax and found[1] == expected[1]:
        ds = pydicom.dcmread(io.BytesIO(data), force=True)
    else:
        ds = read_dataset(io.BytesIO(data[start:]), *found)
    if not len(ds) and first[:2] in (b"\x08\0", b"\0\x08"):
        # pydicom drops everything where the pixel data has no end
        raise ScanError("object_cut_off", "the file ends inside an element")
    if not len(ds):
        raise ScanError("header_broken", "there is not one element after the meta header")
    if not found[1]:
        syntax = syntax if compressed(syntax) else str(ExplicitVRBigEndian)
    elif syntax == ExplicitVRBigEndian:
        syntax = str(ExplicitVRLittleEndian)
    return Parsed(ds, syntax, frozenset(flags), _cut(ds))


def _begins(body: bytes) -> bool:
    """Say whether bytes can be the start of a data set: a low group in either byte order."""
    return len(body) < 8 or 0 in (body[0], body[1])


def _encoding(body: bytes, expected: tuple[bool, bool]) -> tuple[bool, bool]:
    """Return (implicit, little endian) by the first element; groups in use first are low."""
    if len(body) < 8:
        return expected
    little = expected[1] if body[0] == body[1] else body[1] < body[0]
    return not (body[4:6].isalpha() and body[4:6].isupper()), little


def _cut(ds: Dataset) -> int:
    """Return how many bytes of pixel data its length claims and the file lacks."""
    raw = ds.get_item("PixelData") if "PixelData" in ds else None
    length, value = getattr(raw, "length", 0), getattr(raw, "value", b"") or b""
    return max(length - len(value), 0) if 0 < length < 0xFFFFFFFF else 0


def meta(data: bytes) -> tuple[str, int]:
    """Return the transfer syntax and where the data set starts (PS3.10 section 7.1).

    Read by hand, because pydicom inflates a deflated object without a limit.
    """
    place = 132 if data[128:132] == b"DICM" else 0
    syntax = ""
    while data[place : place + 2] == b"\x02\x00" and place + 8 <= len(data):
        element, kind = data[place + 2 : place + 4], data[place + 4 : place + 6]
        if kind in (b"OB", b"OW", b"UN", b"SQ", b"UT"):
            head, (length,) = 12, struct.unpack_from("<I", data, place + 8)
        elif kind.isalpha():
            head, (length,) = 8, struct.unpack_from("<H", data, place + 6)
        else:  # a meta header in implicit form occurs
            head, (length,) = 8, struct.unpack_from("<I", data, place + 4)
        if element == b"\x10\x00":
            value = data[place + head : place + head + min(length, 64)]
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace").strip()
        place += head + length
    return syntax, place


def _unpacked(body: bytes, syntax: str, largest: int, flags: set[str]) -> bytes:
    """Inflate a data set (PS3.5 A.5) within bounds, also one that is labelled wrongly.

    Some writers wrap the deflated bytes in a zlib or gzip header, which A.5 forbids.
    """
    deflated = syntax == DeflatedExplicitVRLittleEndian
    if deflated and _begins(body) and body[4:6].isalpha() and body[4:6].isupper():
        flags.add(SYNTAX_CONFLICT)
        return body
    tries: tuple[Callable[[], zlib._Decompress], ...] = (
        lambda: zlib.decompressobj(-zlib.MAX_WBITS),
        lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
    )
    for number, made in enumerate(tries):
        try:
            inflated = made().decompress(body, largest + 1)
        except zlib.error:
            continue
        if len(inflated) > largest:
            raise ScanError("size_refused", "the deflated data set unpacks to more than 256 MiB")
        if not deflated and not (len(inflated) > 8 and _begins(inflated)):
            continue
        if number or not deflated:
            flags.add(SYNTAX_CONFLICT)
        return inflated
    if deflated:
        raise ScanError("header_broken", "the deflated data set is damaged")
    return body

"""Compressed frames: what they say of themselves, and decoders (ITU-T T.81, T.87, T.800, T.814).

A frame is decoded by what its own first bytes say it is, since some archives relabel
transfer syntaxes. Which fragments make which frame (PS3.5 A.4) is told in the same way: offset
tables are often wrong, and pydicom follows them. A code stream's first marker never occurs inside
of one, so where frames begin is read off the fragments, and the tables are compared with that.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from bae.errors import ScanError

Numbers = NDArray[np.generic]
Decoded = TypeVar("Decoded")

_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
"""The first of the boxes round a code stream, ITU-T T.800 I.5.1."""


OFFSETS_CONFLICT = "offsets_conflict"
"""Flag: an offset table points elsewhere than frames begin."""

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_SEAM = re.compile(rb"(?<=\xff\xd9)\x00?(?=\xff\xd8\xff|\xff\x4f\xff\x51)")
"""Between the end marker of one JPEG or JPEG 2000 stream and the start marker of another."""


@dataclass(frozen=True)
class Frame:
    """What a compressed frame says of itself.

    Args:
        kind: which decoder.
        rows, columns, samples: its size; RLE states none: 0.
        bits: depth of a sample.
        signed: its samples are, None where the codec knows no sign.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool | None = None


_DECODERS: dict[str, Callable[[bytes], Numbers]] = {
    "JPEG": imagecodecs.jpeg8_decode,  # baseline, extended and lossless, 8 to 16 bits
    "JPEG-LS": imagecodecs.jpegls_decode,
    "JPEG 2000": imagecodecs.jpeg2k_decode,
    "HTJ2K": imagecodecs.htj2k_decode,
}


def decode(frame: bytes, claimed: Frame, rows: int, columns: int) -> NDArray[np.unsignedinteger]:
    """Decode one frame.

    Args:
        frame: as compressed.
        claimed: what ``describe`` says of it.
        rows, columns: the size that it must have, bounded.

    Returns:
        (rows, columns) bit patterns, of 8, 16 or 32 bits; a sign is not yet resolved.

    Raises:
        ScanError: damaged, or of another size.
    """
    if claimed.kind == "RLE":
        return _decode_rle(frame, claimed.bits // 8, rows, columns)
    values = _call(_DECODERS[claimed.kind], frame, claimed.kind)
    if values.shape != (rows, columns) or values.dtype.kind not in "ui":
        raise ScanError("pixels_conflict", f"{claimed.kind} data decodes to another size or type")
    return values.view(f"u{values.dtype.itemsize}")


def _call(decoder: Callable[[bytes], Decoded], frame: bytes, kind: str) -> Decoded:
    """Run a native decoder; it may fail with any exception, which then ends this object."""
    try:
        return decoder(frame)
    except Exception as error:
        raise ScanError(
            "pixels_broken", f"the {kind} decoder gave up ({type(error).__name__})"
        ) from None


def _decode_rle(frame: bytes, count: int, rows: int, columns: int) -> NDArray[np.unsignedinteger]:
    """Decode PS3.5 annex G: byte planes from the most significant on, each run-length coded."""
    offsets = [*struct.unpack_from(f"<{count}I", frame, 4), len(frame)]
    if offsets != sorted(offsets):
        raise ScanError("pixels_broken", "RLE data with segments out of order")
    pixels = rows * columns
    values = np.zeros(pixels, f"u{count}")
    for start, stop in pairwise(offsets):
        plane = _call(imagecodecs.packbits_decode, frame[start:stop], "RLE")
        found = np.frombuffer(bytes(plane), np.uint8)
        if found.size < pixels:
            raise ScanError("pixels_short", f"an RLE segment of {found.size} of {pixels} bytes")
        if found.size >= pixels + columns:  # a row more is no padding
            raise ScanError("pixels_conflict", f"an RLE segment of {found.size} for {pixels} bytes")
        values = values << np.array(8 if count > 1 else 0, values.dtype) | found[:pixels]
    return values.reshape(rows, columns)


def plane(frame: bytes, number: int) -> NDArray[np.uint8]:
    """Return a byte plane of an RLE frame, of as many bytes as it has; none if damaged.

    Args:
        frame: as compressed.
        number: from 1, the most significant one and mostly the shortest to decode.
    """
    offsets = (*struct.unpack_from("<16I", frame)[1 : planes(frame) + 1], len(frame))
    coded = frame[offsets[number - 1] : offsets[number]]
    try:
        return np.frombuffer(bytes(_call(imagecodecs.packbits_decode, coded, "RLE")), np.uint8)
    except ScanError:
        return np.empty(0, np.uint8)


def begins(fragment: bytes) -> bool:
    """Say whether a fragment begins like a code stream; inside of one no marker looks so."""
    return fragment.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51", _JP2)) or planes(fragment) > 0


def planes(fragment: bytes) -> int:
    """Return the byte planes that an RLE header promises, PS3.5 G.5; 0 where it is none."""
    if len(fragment) < 64:
        return 0
    count, *offsets = struct.unpack_from("<16I", fragment)
    used, unused = offsets[:count], offsets[count:]
    sound = count in (1, 2, 4) and used[0] == 64 and not any(unused)
    return count if sound and used == sorted(used) else 0


def describe(frame: bytes) -> Frame | None:
    """Read kind, size and depth from the first markers of a compressed frame.

    Returns:
        None where the bytes start like no codec that is read.

    Raises:
        ScanError: a JPEG 2000 size that the standard does not allow.
    """
    if count := planes(frame):
        return Frame("RLE", 0, 0, 1, 8 * count)
    if frame[:2] == b"\xff\xd8":
        return _describe_jpeg(frame)
    if frame[:12] == _JP2:  # JP2 boxes round the code stream
        frame = frame[max(frame.find(b"\xff\x4f\xff\x51"), 0) :]
    return _describe_jpeg2000(frame) if frame[:4] == b"\xff\x4f\xff\x51" else None


def _describe_jpeg(frame: bytes) -> Frame | None:
    """Walk the marker segments to the frame header (ITU-T T.81 B.2.2, T.87 C.2.2)."""
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            kind = "JPEG-LS" if marker == 0xF7 else "JPEG"
            return Frame(kind, rows, columns, samples, bits)
        place += 2 + int.from_bytes(frame[place + 2 : place + 4])
    return None


def _describe_jpeg2000(frame: bytes) -> Frame | None:
    """Read the SIZ segment (ITU-T T.800 A.5.1); bit 14 of Rsiz marks HTJ2K (T.814)."""
    if len(frame) < 43:
        return None
    capability, width, height, left, top = struct.unpack_from(">HIIII", frame, 6)
    tile_width, tile_height = struct.unpack_from(">II", frame, 24)
    samples, depth = struct.unpack_from(">HB", frame, 40)
    tiles = -(-width // max(tile_width, 1)) * -(-height // max(tile_height, 1))
    if tiles > 65535:
        raise ScanError("pixels_broken", f"JPEG 2000 data of {tiles} tiles, at most 65535 exist")
    kind = "HTJ2K" if capability & 0x4000 else "JPEG 2000"
    return Frame(kind, height - top, width - left, samples, (depth & 0x7F) + 1, depth > 127)


@dataclass(frozen=True)
class Fragments:
    """Pixel data in fragments.

    Args:
        frames: the bytes of each frame, as far as its fragments tell.
        coded: they begin like code streams; else they are the samples themselves, or unknown.
        flags: ``offsets_conflict``.
    """

    frames: list[bytes]
    coded: bool
    flags: frozenset[str]


def parted(data: bytes, ds: Dataset, frames: int) -> Fragments:
    """Part encapsulated pixel data into frames.

    Args:
        data: the value of Pixel Data, from the item of the Basic Offset Table on.
        ds: the object, for its Extended Offset Table (PS3.3 C.7.6.3.1.8).
        frames: how many the header claims; believed only where nothing else tells.

    Raises:
        ScanError: items cannot be followed (``pixels_broken``), or there are none.
    """
    table, starts, parts = _items(data)
    if not parts:
        raise ScanError("pixels_missing", "there is not one fragment of pixel data")
    tables = [found for found in (table, _extended(ds)) if found]
    if begins(parts[0]):
        heads = [place for place, part in enumerate(parts) if begins(part)]
        wrong = any(found != [starts[head] for head in heads] for found in tables)
        joined = _joined(parts, heads)
        wrong |= not _lengths_fit(ds, joined)
        if len(joined) < frames:
            streamed = [part for whole in joined for part in _SEAM.split(whole)]
            if len(streamed) > len(joined):  # several frames in one fragment
                joined, wrong = streamed, True
        return Fragments(joined, True, frozenset({OFFSETS_CONFLICT} if wrong else ()))
    sound = [found for found in tables if found[0] == 0 and set(found) <= set(starts)]
    if sound and sound[0] == sorted(set(sound[0])):
        heads = [starts.index(offset) for offset in sound[0]]
    else:
        heads = [0] if frames == 1 else list(range(len(parts)))
    wrong = any(found != [starts[head] for head in heads] for found in tables)
    joined = _joined(parts, heads)
    wrong |= not _lengths_fit(ds, joined)
    return Fragments(joined, False, frozenset({OFFSETS_CONFLICT} if wrong else ()))


def _joined(parts: list[bytes], heads: list[int]) -> list[bytes]:
    ends = [*heads[1:], len(parts)]
    return [b"".join(parts[a:b]) for a, b in zip(heads, ends, strict=True)]


def _items(data: bytes) -> tuple[list[int], list[int], list[bytes]]:
    """Return the Basic Offset Table, and each fragment's offset and bytes."""
    table: list[int] = []
    starts: list[int] = []
    parts: list[bytes] = []
    place, first = 0, -1
    while place + 8 <= len(data) and data[place : place + 4] != _END:
        (length,) = struct.unpack_from("<I", data, place + 4)
        value = data[place + 8 : place + 8 + length]
        if data[place : place + 4] != _ITEM or len(value) < length:
            raise ScanError("pixels_broken", "the fragments cannot be followed")
        if first < 0:
            table = np.frombuffer(value[: length // 4 * 4], "<u4").tolist()
            first = place + 8 + length
        else:
            starts.append(place - first)
            parts.append(value)
        place += 8 + length
    return table, starts, parts


def _extended(ds: Dataset) -> list[int]:
    return _longs(ds, "ExtendedOffsetTable")


def _lengths_fit(ds: Dataset, frames: list[bytes]) -> bool:
    """Compare the Extended Offset Table's lengths with the frames; padding may be left out."""
    found = _longs(ds, "ExtendedOffsetTableLengths")
    if not found:
        return True
    lengths = [len(frame) for frame in frames]
    return len(found) == len(lengths) and all(
        said <= there <= said + 1 for said, there in zip(found, lengths, strict=True)
    )


def _longs(ds: Dataset, keyword: str) -> list[int]:
    value = ds[keyword].value if keyword in ds else b""
    if not isinstance(value, bytes):
        return []
    return [int(number) for number in np.frombuffer(value[: len(value) // 8 * 8], "<u8")]

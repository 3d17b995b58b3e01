"""Encapsulated pixel data: which fragments make which frame (PS3.5 A.4).

Offset tables are often wrong, and pydicom follows them. A code stream's first marker
never occurs inside of one, so where frames begin is read off the fragments themselves,
and the tables are compared with that.
"""

import re
import struct
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from bae.archive.dicom import streams
from bae.errors import ScanError

OFFSETS_CONFLICT = "offsets_conflict"
"""Flag: an offset table points elsewhere than frames begin."""

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_SEAM = re.compile(rb"(?<=\xff\xd9)\x00?(?=\xff\xd8\xff|\xff\x4f\xff\x51)")
"""Between the end marker of one JPEG or JPEG 2000 stream and the start marker of another."""


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


def read(data: bytes, ds: Dataset, frames: int) -> Fragments:
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
    if streams.begins(parts[0]):
        heads = [place for place, part in enumerate(parts) if streams.begins(part)]
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

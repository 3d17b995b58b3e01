"""DICOM written byte by byte, for tests: no library's writer can correct what is wrong on purpose.

All follows PS3.5 sections 7, 8 and A.4 by hand, so what is read back is compared with the
numbers that went in, and not with another reader's idea of them.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Elements = dict[int, Any]

LITTLE, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
RLE, JPEG, JPEG_LS = (f"1.2.840.10008.1.2.{end}" for end in ("5", "4.70", "4.80"))
GE_PRIVATE, RAW_FRAGMENTS = "1.2.840.113619.5.2", "1.2.840.10008.1.2.1.98"
DEFLATED = "1.2.840.10008.1.2.1.99"

_LONG = ("OB", "OW", "SQ", "UN", "OV")
_VRS = """
CS 00080005 00080008 00080060 00100040 00200020 00200060 00209072 00280004
UI 00080016 0020000D 00080018
DA 00080022 00100030
LO 00080070 00080104 00100020
SH 00080100 00080102
AS 00101010
IS 00280008
AT 00280009
US 00280002 00280010 00280011 00280100 00280101 00280102 00280103 00281101 00540010 00540011
US 00540020 00540021
DS 00200037 00280030 00281052 00281053 00540014 00540015 00540200
FD 00409224 00409225
SQ 00041220 00209450 00209071 00209116 00289110 00289145 00409096
SQ 00540012 00540013 00540022 00540220
SQ 52009229 52009230
OW 00281201 7FE00010
OV 7FE00001 7FE00002
"""
VRS = {int(tag, 16): row.split()[0] for row in _VRS.split("\n") for tag in row.split()[1:]}

ANTERIOR = [{0x00080100: "399321004", 0x00080102: "SCT", 0x00080104: "Anterior projection"}]
POSTERIOR = [{0x00080100: "399001007", 0x00080102: "SCT", 0x00080104: "Posterior projection"}]


def bone_scan(frames: NDArray[Any], **more: Any) -> Elements:
    """Return the elements of a sound object; anterior is detector 1, posterior detector 2."""
    bits, (count, rows, columns) = frames.dtype.itemsize * 8, frames.shape
    return {
        0x00080008: "ORIGINAL\\PRIMARY\\WHOLE BODY\\EMISSION",
        0x00080016: "1.2.840.10008.5.1.4.1.1.20",
        0x00080018: "1.2.826.0.1.3680043.8.498.9",
        0x00080022: "20110115",
        0x00080060: "NM",
        0x00100030: "19500601",
        0x00100040: "F",
        0x00101010: "060Y",
        0x00280002: 1,
        0x00280004: "MONOCHROME2",
        0x00280008: str(count),
        0x00280009: [0x00540010, 0x00540020],
        0x00280010: rows,
        0x00280011: columns,
        0x00280030: "2.26\\2.26",
        0x00280100: bits,
        0x00280101: bits,
        0x00280102: bits - 1,
        0x00280103: int(frames.dtype.kind == "i"),
        0x00540010: [1] * count,
        0x00540011: 1,
        0x00540012: [{0x00540013: [{0x00540014: "126", 0x00540015: "154"}]}],
        0x00540020: list(range(1, count + 1)),
        0x00540021: count,
        0x00540022: [{0x00540220: ANTERIOR}, {0x00540220: POSTERIOR}][:count],
    }


def file(
    elements: Mapping[int, Any],
    pixels: bytes | Sequence[bytes] = b"",
    syntax: str = LITTLE,
    *,
    implicit: bool | None = None,
    big: bool | None = None,
    vr: str = "OW",
    table: Sequence[int] = (),
) -> bytes:
    """Return a Part 10 file.

    Args:
        elements: tag to value; None leaves an element out.
        pixels: the value of Pixel Data, or its fragments.
        syntax: as the meta header states; empty: no meta header and no preamble.
        implicit, big: how it is really written; by default as the syntax says.
        vr: of Pixel Data.
        table: the Basic Offset Table.
    """
    implicit = syntax in (IMPLICIT, GE_PRIVATE) if implicit is None else implicit
    big = syntax == BIG if big is None else big
    body = b"".join(
        element(tag, value, implicit=implicit, big=big)
        for tag, value in sorted(elements.items())
        if value is not None
    )
    if isinstance(pixels, bytes):
        body += element(0x7FE00010, pixels, implicit=implicit, big=big, vr=vr) if pixels else b""
    else:
        body += b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
        body += _item(struct.pack(f"<{len(table)}I", *table))
        body += b"".join(map(_item, pixels)) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return meta(syntax) + body if syntax else body


def meta(syntax: str) -> bytes:
    """Return preamble and meta header, PS3.10 section 7.1."""
    text = _padded(syntax.encode(), b"\0")
    group = b"\x02\0\x10\0UI" + struct.pack("<H", len(text)) + text
    return bytes(128) + b"DICM\x02\0\0\0UL\x04\0" + struct.pack("<I", len(group)) + group


def element(tag: int, value: Any, *, implicit: bool, big: bool, vr: str = "") -> bytes:
    """Return one element, PS3.5 section 7.1."""
    order, kind = ">" if big else "<", vr or VRS[tag]
    if kind == "SQ":
        parts = [
            b"".join(element(t, v, implicit=implicit, big=big) for t, v in sorted(item.items()))
            for item in value
        ]
        content = b"".join(
            struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(part)) + part for part in parts
        )
    elif isinstance(value, bytes):
        content = value
    elif kind == "US":
        content = struct.pack(f"{order}{np.size(value)}H", *np.atleast_1d(value).tolist())
    elif kind == "AT":
        content = b"".join(struct.pack(f"{order}HH", t >> 16, t & 0xFFFF) for t in value)
    elif kind == "FD":
        content = struct.pack(f"{order}d", value)
    elif kind == "OV":
        content = struct.pack(f"{order}{len(value)}Q", *value)
    else:
        content = _padded(value.encode("latin-1"), b"\0" if kind == "UI" else b" ")
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack(f"{order}I", len(content)) + content
    if kind in _LONG:
        return head + kind.encode() + struct.pack(f"{order}HI", 0, len(content)) + content
    return head + kind.encode() + struct.pack(f"{order}H", len(content)) + content


def _padded(content: bytes, filler: bytes) -> bytes:
    return content + filler * (len(content) % 2)


def _item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content


def starts(fragments: Sequence[bytes]) -> list[int]:
    """Return the offset of each fragment from the first one's item."""
    return [sum(8 + len(f) for f in fragments[:n]) for n in range(len(fragments))]


def native(frames: NDArray[Any], *, big: bool = False) -> bytes:
    """Return samples as they are."""
    return frames.astype(frames.dtype.newbyteorder(">" if big else "<")).tobytes()


def coded(frames: NDArray[Any], syntax: str) -> list[bytes]:
    """Return one fragment for each frame."""
    plain = frames.view(f"u{frames.dtype.itemsize}")
    makers = {RLE: rle, JPEG: jpeg, JPEG_LS: jpeg_ls, RAW_FRAGMENTS: native}
    return [_padded(makers[syntax](frame), b"\0") for frame in plain]


def rle(frame: NDArray[Any]) -> bytes:
    """Return PS3.5 annex G of one frame, in literal runs only."""
    size = frame.dtype.itemsize
    planes = native(frame, big=True)
    segments = [_literal(planes[place::size]) for place in range(size)]
    offsets = [64 + sum(map(len, segments[:n])) for n in range(size)]
    return struct.pack("<16I", size, *offsets, *[0] * (15 - size)) + b"".join(segments)


def _literal(content: bytes) -> bytes:
    runs = (content[n : n + 128] for n in range(0, len(content), 128))
    return _padded(b"".join(bytes([len(run) - 1]) + run for run in runs), b"\x80")


def jpeg(frame: NDArray[Any], bits: int = 0) -> bytes:
    """Return lossless JPEG."""
    bits = bits or frame.dtype.itemsize * 8
    return bytes(imagecodecs.jpeg8_encode(frame, lossless=True, bitspersample=bits, predictor=1))


def jpeg_ls(frame: NDArray[Any]) -> bytes:
    """Return lossless JPEG-LS."""
    return bytes(imagecodecs.jpegls_encode(frame))

"""Pixel Data to numbers, for every transfer syntax (PS3.5 sections 8 and A).

A compressed frame is decoded by what its own first bytes say it is, since some
archives relabel transfer syntaxes. Before a decoder sees a frame, the size and depth
inside the frame are compared with the header's, so that a small file cannot ask for
much memory.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from bae.archive.dicom.header import Header
from bae.errors import ScanError

Numbers = NDArray[np.generic]
Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class Frame:
    """What a compressed frame says of itself.

    Args:
        kind: which decoder.
        rows, columns, samples: its size.
        bits: depth of a sample.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    bits: int


_DECODERS: dict[str, Callable[[bytes], Numbers]] = {
    "JPEG": imagecodecs.jpeg8_decode,  # baseline, extended and lossless, 8 to 16 bits
    "JPEG-LS": imagecodecs.jpegls_decode,
    "JPEG 2000": imagecodecs.jpeg2k_decode,
    "HTJ2K": imagecodecs.htj2k_decode,
}


def decode(ds: Dataset, header: Header, wanted: Sequence[int]) -> NDArray[np.integer]:
    """Decode the wanted frames.

    Args:
        ds: data set with Pixel Data.
        header: of the data set, already bounded by ``bae.archive.dicom.rules``.
        wanted: frame indices from 0, rising.

    Returns:
        (len(wanted), rows, columns) integers as stored, sign and unused bits resolved.

    Raises:
        ScanError: absent, short, damaged or contradictory pixel data.
    """
    _check_layout(header)
    if "PixelData" not in ds:
        real = "FloatPixelData" in ds or "DoubleFloatPixelData" in ds
        what = (
            "pixels are stored as floating-point numbers"
            if real
            else "there is no Pixel Data element"
        )
        raise ScanError("pixels_missing", what)
    element = ds["PixelData"]
    data = element.value
    if not isinstance(data, bytes) or not data:
        raise ScanError("pixels_missing", "the Pixel Data element is empty")
    compressed = header.syntax.startswith("1.2.840.10008.1.2.4")
    # a sequence of fragments, PS3.5 A.4
    if element.is_undefined_length or (compressed and data[:4] == b"\xfe\xff\x00\xe0"):
        frames = _encapsulated_frames(data, header, wanted)
        return np.stack([_decode_frame(frame, header) for frame in frames])
    return _native(data, header, wanted, words=element.VR == "OW")


def _check_layout(header: Header) -> None:
    """Check the elements that say how a sample is stored (PS3.5 section 8.1.1)."""
    if not (header.rows > 0 and header.columns > 0 and header.bits_allocated > 0):
        raise ScanError("header_incomplete", "Rows, Columns or Bits Allocated is absent or zero")
    if header.bits_allocated not in (8, 16, 32):
        raise ScanError(
            "codec_unsupported", f"{header.bits_allocated} bits allocated, expected 8, 16 or 32"
        )
    if not 1 <= header.bits_stored <= header.high_bit + 1 <= header.bits_allocated:
        raise ScanError(
            "header_conflict",
            f"{header.bits_stored} bits stored up to bit {header.high_bit} do not fit "
            f"{header.bits_allocated} bits allocated",
        )


def _native(
    data: bytes, header: Header, wanted: Sequence[int], *, words: bool
) -> NDArray[np.integer]:
    size = header.bits_allocated // 8
    per_frame = header.rows * header.columns
    expected = per_frame * size * header.frames
    if len(data) < expected:
        raise ScanError("pixels_short", f"{len(data)} bytes of pixel data, expected {expected}")
    big = header.syntax == ExplicitVRBigEndian
    if big and words and size == 1:  # PS3.5 8.1.2: bytes are swapped in pairs inside words
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    kind = np.dtype(f"{'>' if big else '<'}u{size}")
    stored = np.frombuffer(data, kind, per_frame * header.frames)
    frames = stored.reshape(header.frames, header.rows, header.columns)[list(wanted)]
    return _resolved(frames.astype(kind.newbyteorder("=")), header)


def _encapsulated_frames(data: bytes, header: Header, wanted: Sequence[int]) -> list[bytes]:
    """Return the wanted compressed frames."""
    found: list[bytes] = []
    frames: Iterator[bytes] = generate_frames(data, number_of_frames=header.frames)
    try:
        for index, frame in enumerate(frames):
            if index in wanted:
                found.append(frame)
            if len(found) == len(wanted):
                return found
    except (ValueError, struct.error, EOFError, LookupError) as error:
        raise ScanError(
            "pixels_broken", f"the fragments cannot be followed ({type(error).__name__})"
        ) from None
    raise ScanError("pixels_short", f"{len(found)} of {len(wanted)} frames are there")


def _decode_frame(frame: bytes, header: Header) -> NDArray[np.integer]:
    if header.syntax == RLELossless:
        return _resolved(_decode_rle(frame, header), header)
    claimed = describe(frame)
    if claimed is None:
        raise ScanError("codec_unsupported", "the compressed data starts like no known codec")
    if (claimed.rows, claimed.columns) != (header.rows, header.columns) or claimed.samples != 1:
        raise ScanError(
            "pixels_conflict",
            f"{claimed.kind} data of {claimed.columns} x {claimed.rows} x {claimed.samples} "
            f"samples, the header says {header.columns} x {header.rows} x 1",
        )
    if not 1 < claimed.bits <= header.bits_allocated:
        raise ScanError(
            "pixels_conflict",
            f"{claimed.kind} data of {claimed.bits} bits in {header.bits_allocated} bits allocated",
        )
    values = _call(_DECODERS[claimed.kind], frame, claimed.kind)
    if values.shape != (header.rows, header.columns) or values.dtype.kind not in "ui":
        raise ScanError("pixels_conflict", f"{claimed.kind} data decodes to another size or type")
    # both depths are the same in sound objects; where they differ, the sign bit lies at the
    # lower one, while unsigned counts may use all that the codec has
    bits = min(claimed.bits, header.bits_stored) if header.signed else claimed.bits
    return _signed(values, bits, header.signed)


def _call(decoder: Callable[[bytes], Decoded], frame: bytes, kind: str) -> Decoded:
    """Run a native decoder; it may fail with any exception, which then ends this object."""
    try:
        return decoder(frame)
    except Exception as error:
        raise ScanError(
            "pixels_broken", f"the {kind} decoder gave up ({type(error).__name__})"
        ) from None


def _decode_rle(frame: bytes, header: Header) -> Numbers:
    """Decode PS3.5 annex G: byte planes from the most significant on, each run-length coded."""
    planes = header.bits_allocated // 8
    if len(frame) < 64 or struct.unpack_from("<I", frame)[0] != planes:
        raise ScanError("pixels_broken", f"RLE data without the {planes} segments it must have")
    offsets = [*struct.unpack_from(f"<{planes}I", frame, 4), len(frame)]
    if offsets[0] != 64 or offsets != sorted(offsets):
        raise ScanError("pixels_broken", "RLE data with segments out of order")
    pixels = header.rows * header.columns
    values = np.zeros(pixels, f"u{planes}")
    for start, stop in pairwise(offsets):
        plane = _call(imagecodecs.packbits_decode, frame[start:stop], "RLE")
        found = np.frombuffer(bytes(plane), np.uint8)
        if found.size < pixels:
            raise ScanError("pixels_short", f"an RLE segment of {found.size} of {pixels} bytes")
        values = values << np.array(8 if planes > 1 else 0, values.dtype) | found[:pixels]
    return values.reshape(header.rows, header.columns)


def _resolved(values: Numbers, header: Header) -> NDArray[np.integer]:
    """Cut the stored bits out of the allocated ones; overlays may hide in the rest."""
    shift = header.high_bit + 1 - header.bits_stored
    integers = values.view(f"u{values.dtype.itemsize}")
    if shift:
        integers = integers >> np.array(shift, integers.dtype)
    return _signed(integers, header.bits_stored, header.signed)


def _signed(values: Numbers, bits: int, signed: bool) -> NDArray[np.integer]:
    """Read the lowest ``bits`` bits as two's complement or as unsigned.

    The header decides the sign: codecs often give unsigned numbers for signed pixels.
    """
    width = values.dtype.itemsize * 8
    integers = values.view(f"u{values.dtype.itemsize}")
    if not signed:
        mask = np.array((1 << bits) - 1, integers.dtype)
        return integers if bits == width else integers & mask
    move = np.array(width - bits, f"i{values.dtype.itemsize}")
    shifted = integers << move.astype(integers.dtype)
    extended: NDArray[np.integer] = np.right_shift(shifted.view(move.dtype), move)
    return extended


def describe(frame: bytes) -> Frame | None:
    """Read kind, size and depth from the first markers of a compressed frame.

    Returns:
        None where the bytes start like no codec that is read.

    Raises:
        ScanError: a JPEG 2000 size that the standard does not allow.
    """
    if frame[:2] == b"\xff\xd8":
        return _describe_jpeg(frame)
    if frame[:12] == b"\0\0\0\x0cjP  \r\n\x87\n":  # JP2 boxes round the code stream
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
    return Frame(kind, height - top, width - left, samples, (depth & 0x7F) + 1)

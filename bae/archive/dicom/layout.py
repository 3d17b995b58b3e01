"""How many frames of what size the pixel data holds, where its length contradicts the header.

The header is right wherever the length bears it out. Where it does not, the one element
is looked for without which both would agree; if the data leaves only one such element,
that one is corrected and flagged, else the object is refused.
"""

from dataclasses import dataclass, replace

from pydicom.uid import ExplicitVRBigEndian

from bae.archive.dicom import lengths, rules, streams
from bae.archive.dicom.header import Header
from bae.archive.dicom.parse import (
    ENCAPSULATED_UNCOMPRESSED,
    GE_PRIVATE,
    SYNTAX_CONFLICT,
    Parsed,
    check_syntax,
    compressed,
)
from bae.errors import ScanError

FRAMES, SIZE = "frames_conflict", "size_conflict"
"""Flags: Number of Frames is not what the pixel data holds; its rows, columns, samples or bits
allocated are not."""


@dataclass(frozen=True)
class Layout:
    """What is to be decoded.

    Args:
        header: with the corrections that the data asks for.
        flags: of these corrections.
        fault: why the pixels cannot be read; raised when the header's rules have been asked,
            since an object of another kind is refused as such.
        streams: compressed frames, in order; empty for samples as they are.
        native: the samples' bytes, of all frames.
        big: the samples are said to be in big endian.
        words: they are written in words (OW).
    """

    header: Header
    flags: frozenset[str] = frozenset()
    fault: ScanError | None = None
    streams: tuple[bytes, ...] = ()
    native: bytes = b""
    big: bool = False
    words: bool = False


def settle(parsed: Parsed, header: Header) -> Layout:
    """Compare a header with the length of its pixel data.

    Args:
        parsed: the object.
        header: of it.

    Returns:
        The layout; it has a fault where there are no pixels or no reading of them.
    """
    try:
        check_syntax(header.syntax)
        return _encapsulated(parsed, header) or _native(parsed, header)
    except ScanError as fault:
        return Layout(header, fault=fault)


def _value(parsed: Parsed) -> bytes:
    ds = parsed.ds
    if "PixelData" not in ds:
        real = "FloatPixelData" in ds or "DoubleFloatPixelData" in ds
        what = (
            "pixels are stored as floating-point numbers"
            if real
            else "there is no Pixel Data element"
        )
        raise ScanError("pixels_missing", what)
    data = ds["PixelData"].value
    if not isinstance(data, bytes) or not data:
        raise ScanError("pixels_missing", "the Pixel Data element is empty")
    return data


def _encapsulated(parsed: Parsed, header: Header) -> Layout | None:
    """Return the layout of a sequence of fragments, PS3.5 A.4; None where there is none."""
    data, said = _value(parsed), compressed(header.syntax)
    item = data[:4] == b"\xfe\xff\x00\xe0"
    if not parsed.ds["PixelData"].is_undefined_length and not (said and item):
        return None
    found = streams.parted(data, parsed.ds, header.frames)
    flags = set(found.flags)
    raw = header.syntax == ENCAPSULATED_UNCOMPRESSED
    if header.syntax and not (said and found.coded != raw):
        flags.add(SYNTAX_CONFLICT)
    if not found.coded:
        return _uncompressed(found.frames, header, flags)
    header, frame_flags = _counted(header, len(found.frames))
    header, size_flags = _sized(header, found.frames)
    flags |= frame_flags | size_flags
    return Layout(header, frozenset(flags), streams=tuple(found.frames))


def _uncompressed(frames: list[bytes], header: Header, flags: set[str]) -> Layout:
    """Return the layout of samples that lie in fragments as they are, PS3.5 A.4.11."""
    _check_samples(header)
    one = header.rows * header.columns * header.bits_allocated // 8
    if all(len(frame) == one + one % 2 for frame in frames):
        frames = [frame[:one] for frame in frames]
    whole = b"".join(frames)
    if header.syntax != ENCAPSULATED_UNCOMPRESSED and len(whole) not in (one * header.frames, one):
        raise ScanError("codec_unsupported", "the compressed data starts like no known codec")
    return _measured(whole, header, flags, cut=0, big=False, words=False)


def _counted(header: Header, there: int) -> tuple[Header, set[str]]:
    """Return the header with the number of frames that there are, if nothing else denies it."""
    if there == header.frames:
        return header, set()
    if there > rules.MOST_FRAMES or rules.RULES["size_refused"](header):
        return header, set()  # the rules refuse it
    if lengths.deny(header, there):
        code = "pixels_short" if there < header.frames else "header_conflict"
        raise ScanError(code, f"{there} frames are there, the header says {header.frames}")
    return replace(header, frames=there), {FRAMES}


def _sized(header: Header, frames: list[bytes]) -> tuple[Header, set[str]]:
    """Return the header with the size that every code stream states of itself; RLE has none."""
    if rules.RULES["size_refused"](header):
        return header, set()
    said = {streams.describe(frame) for frame in frames}
    sizes = {(one.rows, one.columns, one.samples) for one in said if one}
    if len(sizes) != 1:
        return header, set()  # they differ: decoding refuses those
    rows, columns, samples = sizes.pop()
    if not rows:
        rows, columns = _unrolled(frames[0], header)
    own = replace(header, rows=rows, columns=columns)
    if samples == 1 and lengths.grey(header):
        own = replace(own, samples=1)
    if own == header or rules.RULES["size_refused"](own) or not (rows and columns):
        return header, set()
    return own, {SIZE}


def _unrolled(frame: bytes, header: Header) -> tuple[int, int]:
    """Return rows and columns of an RLE frame, which states only how many bytes a plane has."""
    there = streams.plane(frame, 1).size
    if 0 <= there - header.rows * header.columns <= 1:
        return header.rows, header.columns
    lowest = streams.plane(frame, streams.planes(frame))
    return lengths.reshaped(lowest, header.rows, header.columns)


def _native(parsed: Parsed, header: Header) -> Layout:
    flags = {SYNTAX_CONFLICT} if compressed(header.syntax) else set()
    big = header.syntax in (ExplicitVRBigEndian, GE_PRIVATE)
    words = parsed.ds["PixelData"].VR == "OW"
    return _measured(_value(parsed), header, flags, cut=parsed.cut, big=big, words=words)


def _check_samples(header: Header) -> None:
    if not (header.rows > 0 and header.columns > 0 and header.bits_allocated > 0):
        raise ScanError("header_incomplete", "Rows, Columns or Bits Allocated is absent or zero")
    if header.bits_allocated not in (8, 16, 32):
        raise ScanError(
            "codec_unsupported", f"{header.bits_allocated} bits allocated, expected 8, 16 or 32"
        )


def _measured(
    data: bytes, header: Header, flags: set[str], *, cut: int, big: bool, words: bool
) -> Layout:
    """Return the layout of uncompressed samples."""
    _check_samples(header)
    if not rules.RULES["size_refused"](header):
        header, more = lengths.corrected(data, header, cut)
        flags = flags | {FRAMES if word == "frames" else SIZE for word in more}
    return Layout(header, frozenset(flags), native=data, big=big, words=words)

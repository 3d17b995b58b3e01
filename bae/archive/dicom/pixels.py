"""Pixel Data to numbers, for every transfer syntax (PS3.5 sections 8 and A).

Before a decoder sees a compressed frame, the size inside the frame is compared with the
header's, so that a small file cannot ask for much memory. Byte order, depth and sign are
``samples``'s business, frames and their size ``layout``'s.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bae.archive.dicom import samples, streams
from bae.archive.dicom.header import Header
from bae.archive.dicom.layout import Layout
from bae.errors import ScanError


def decode(layout: Layout, wanted: Sequence[int]) -> tuple[NDArray[np.integer], set[str]]:
    """Decode the wanted frames.

    Args:
        layout: without a fault, its header already bounded by ``bae.archive.dicom.rules``.
        wanted: frame indices from 0, rising.

    Returns:
        (len(wanted), rows, columns) integers as stored, sign and unused bits resolved; and
        flags of what the header says of samples and the samples deny.

    Raises:
        ScanError: absent, short, damaged or contradictory pixel data.
    """
    if layout.streams:
        return _compressed(layout, wanted)
    _check_bits(layout.header)
    return _native(layout, wanted)


def _check_bits(header: Header) -> None:
    """Check the elements that say how a sample is stored (PS3.5 section 8.1.1)."""
    if not 1 <= header.bits_stored <= header.high_bit + 1 <= header.bits_allocated:
        raise ScanError(
            "header_conflict",
            f"{header.bits_stored} bits stored up to bit {header.high_bit} do not fit "
            f"{header.bits_allocated} bits allocated",
        )


def _native(layout: Layout, wanted: Sequence[int]) -> tuple[NDArray[np.integer], set[str]]:
    header = layout.header
    size = header.bits_allocated // 8
    whole = np.frombuffer(
        layout.native,
        f"{'>' if layout.big else '<'}u{size}",
        header.rows * header.columns * header.frames,
    )
    frames = whole.reshape(header.frames, header.rows, header.columns)
    chosen = frames[list(wanted)].astype(f"u{size}")
    if size == 1:
        patterns, flags = _unpaired(chosen, layout)
    else:
        patterns, flags = samples.in_order(chosen, header)
    values, more = samples.resolve(patterns, header, header.bits_allocated)
    return values, flags | more


def _unpaired(
    chosen: NDArray[np.unsignedinteger], layout: Layout
) -> tuple[NDArray[np.unsignedinteger], set[str]]:
    """Undo the swapping of 8-bit samples in pairs, PS3.5 8.1.2: big endian words have it.

    Many writers of words do not swap, so the picture is asked first.
    """
    swapped, said = samples.in_pairs(chosen), layout.big and layout.words
    flags = {samples.BYTE_ORDER} if swapped not in (None, said) else set()
    if not (said if swapped is None else swapped):
        return chosen, flags
    if chosen[0].size % 2:
        raise ScanError("header_conflict", "8-bit samples in words, and an odd number of them")
    return chosen.reshape(len(chosen), -1, 2)[..., ::-1].reshape(chosen.shape), flags


def _compressed(layout: Layout, wanted: Sequence[int]) -> tuple[NDArray[np.integer], set[str]]:
    header = layout.header
    if max(wanted) >= len(layout.streams):
        raise ScanError(
            "pixels_short", f"{len(layout.streams)} of {header.frames} frames are there"
        )
    if not (header.rows > 0 and header.columns > 0 and header.bits_allocated > 0):
        raise ScanError("header_incomplete", "Rows, Columns or Bits Allocated is absent or zero")
    said = [_checked(layout.streams[index], header) for index in wanted]
    decoded = [
        streams.decode(layout.streams[index], one, header.rows, header.columns)
        for index, one in zip(wanted, said, strict=True)
    ]
    if len(set(said)) == 1:
        return _understood(np.stack(decoded), header, said[0])
    # encoders may take for each frame no more bits than it needs
    each = [_understood(d[None], header, one) for d, one in zip(decoded, said, strict=True)]
    return np.concatenate([values for values, _ in each]), set().union(*(f for _, f in each))


def _understood(
    patterns: NDArray[np.unsignedinteger], header: Header, said: streams.Frame
) -> tuple[NDArray[np.integer], set[str]]:
    """Read decoded frames by the depth that they state, which is the header's in sound objects."""
    flags: set[str] = set()
    if said.bits <= header.bits_allocated:
        _check_bits(header)
    header, more = samples.widened(header, said.bits, exactly=said.kind != "RLE")
    flags |= more
    top = samples.used_bits(patterns) >> (said.bits - 1) & 1
    if top and said.signed not in (None, header.signed):
        flags.add(samples.SIGN)  # without that bit both signs mean the same
    if said.bits == patterns.dtype.itemsize * 8:
        patterns, more = samples.in_order(patterns, header)
        flags |= more
    values, more = samples.resolve(patterns, header, said.bits)
    return values, flags | more


def _checked(frame: bytes, header: Header) -> streams.Frame:
    """Return what a frame says of itself, if the header says the same of its size."""
    claimed = streams.describe(frame)
    if claimed is None:
        raise ScanError("codec_unsupported", "the compressed data starts like no known codec")
    size = (claimed.rows, claimed.columns) if claimed.rows else (header.rows, header.columns)
    if size != (header.rows, header.columns) or claimed.samples != 1:
        raise ScanError(
            "pixels_conflict",
            f"{claimed.kind} data of {claimed.columns} x {claimed.rows} x {claimed.samples} "
            f"samples, the header says {header.columns} x {header.rows} x 1",
        )
    if not 1 < claimed.bits <= 32:
        raise ScanError("pixels_conflict", f"{claimed.kind} data of {claimed.bits} bits")
    return claimed

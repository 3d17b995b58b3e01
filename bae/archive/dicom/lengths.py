"""Which element of a header makes it fit the length of uncompressed pixel data."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bae.archive.dicom import rules
from bae.archive.dicom.header import Header
from bae.errors import ScanError

ALIKE = 0.5
"""Correlation: pixels of neighbouring rows and bytes of neighbouring pixels have more."""
SAME_BODY = 0.5
"""Correlation of two views with each other: they have more, the halves of one body less."""
NEARLY = 0.03
"""Two row lengths explain the rows equally well within this correlation."""
MOST_VALUES = 1 << 20
"""Values looked at."""


def deny(header: Header, frames: int) -> bool:
    """Say whether a vector of the header, or its functional groups, exclude a number of frames."""
    vectors = (header.detector_of_frame, header.window_of_frame)
    counts = {len(vector) for vector in vectors if vector}
    counts |= {header.frame_groups} if header.frame_groups else set()
    return bool(counts) and frames not in counts


def grey(header: Header) -> bool:
    """Say whether the header claims several samples or none, and a photometry that has one."""
    one = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    return header.samples != 1 and header.photometric in one


def corrected(data: bytes, header: Header, cut: int) -> tuple[Header, set[str]]:
    """Return the header with the one element corrected that contradicts the length.

    Args:
        data: the samples of all frames, as stored.
        header: bounded by the rules on size.
        cut: bytes of pixel data that the file has lost; such data corrects nothing.

    Returns:
        The header, and the field that was corrected, ``surplus`` for bytes behind the last
        frame that are only padding; none where all agrees.

    Raises:
        ScanError: cut off or too short (``pixels_short``), or with more than one way to
            read it or none (``pixels_conflict``).
    """
    if header.samples < 1:
        if not grey(header):
            return header, set()  # the rules refuse it
        own, more = corrected(data, replace(header, samples=1), cut)
        return own, {"samples", *more}
    size = header.bits_allocated // 8
    expected = header.rows * header.columns * header.samples * size * header.frames
    if len(data) in (expected, expected + expected % 2) and header.frames > 0:
        return header, set()
    short = ScanError("pixels_short", f"{len(data)} bytes of pixel data, expected {expected}")
    if cut:
        raise short
    found = _candidates(data, header)
    if len(found) > 1:
        found = _believable(data, found, header)
    if len(found) > 1:
        raise ScanError(
            "pixels_conflict",
            f"{len(data)} bytes of pixel data, expected {expected}, and several ways to read them",
        )
    for word, own in found.items():
        if word == "frames" and deny(header, own.frames):
            if own.frames < header.frames:
                raise short
            raise ScanError(
                "header_conflict", f"{own.frames} frames are there, and {header.frames} described"
            )
        if word == "rows" and own.rows < header.rows and not _seamed(data, own, header):
            raise short
        return own, {word}
    if len(data) < expected:
        raise short
    rest = data[expected:]
    if not expected or rest.count(rest[:1]) < len(rest):
        raise ScanError("pixels_conflict", f"{len(data)} bytes of pixel data, expected {expected}")
    return header, {"surplus"}


def _candidates(data: bytes, header: Header) -> dict[str, Header]:
    """Return the headers that one element would make fit, by its field."""
    found: dict[str, Header] = {}
    size = header.bits_allocated // 8
    own = {"rows": header.rows, "columns": header.columns, "frames": max(header.frames, 1)}
    for word in own:
        rest = size * header.samples * int(np.prod([n for w, n in own.items() if w != word]))
        # an odd length is padded to an even one, PS3.5 8.1.1
        for length in {len(data), len(data) - 1 if size == 1 and rest % 2 else len(data)}:
            if length % rest == 0 and length // rest not in (0, own[word]):
                found.setdefault(word, _with(header, word, length // rest))
    values = int(np.prod([*own.values()]))
    if header.frames < 1:
        found = {word: one for word, one in found.items() if word == "frames"}
        if len(data) == values * size * header.samples:
            found["frames"] = replace(header, frames=1)
        values = 0
    for bits in (8, 16, 32):
        if bits != header.bits_allocated and values * header.samples * bits // 8 == len(data):
            stored = header.bits_stored
            if stored in (header.bits_allocated, 0) or stored > bits:
                stored = bits
            high = stored - 1 if stored != header.bits_stored else header.high_bit
            fixed = replace(header, bits_allocated=bits, bits_stored=stored, high_bit=high)
            found["bits"] = fixed
    if grey(header) and values * size == len(data):
        found["samples"] = replace(header, samples=1)
    return {
        word: one
        for word, one in found.items()
        if (word == "frames" or not deny(header, one.frames))
        and not rules.RULES["size_refused"](one)
    }


def _with(header: Header, word: str, value: int) -> Header:
    changed: dict[str, Any] = {word: value}
    return replace(header, **changed)


def _believable(data: bytes, found: dict[str, Header], header: Header) -> dict[str, Header]:
    """Leave the candidates that the content bears out: width of a sample, of a row, frames."""
    width = _sample_bytes(data)
    found = {word: one for word, one in found.items() if one.bits_allocated // 8 == width}
    values = np.frombuffer(data[: len(data) // width * width], f"<u{width}")[:MOST_VALUES]
    strides = {one.columns for one in found.values()}
    if len(strides) > 1:
        fits = {stride: _correlation(values, stride) for stride in strides}
        # every multiple of a row's length explains the rows almost as well
        best = min(s for s in strides if fits[s] > max(fits.values()) - NEARLY)
        found = {word: one for word, one in found.items() if one.columns == best}
    if {"rows", "frames"} <= set(found):
        # at the end of the shorter frame a body begins again, or goes on
        rows = min(header.rows, found["rows"].rows)
        alike = _correlation(values, rows * header.columns) > SAME_BODY
        found.pop("rows" if alike == (rows == header.rows) else "frames")
    return found


def _sample_bytes(data: bytes) -> int:
    """Return the bytes of a sample: those of one are unlike, those of several are alike."""
    for width in (1, 2):
        some = np.frombuffer(data[: len(data) // (2 * width) * 2 * width], f"<u{width}")
        pairs = some[: 2 * MOST_VALUES].reshape(-1, 2).astype(np.float64)
        first, second = pairs.mean(axis=0)
        if abs(first - second) <= 0.1 * max(first, second) and _alike(*pairs.T) > ALIKE:
            return width
    return 4 if _thin(data) else 2


def _thin(data: bytes) -> bool:
    """Say whether every second 16-bit word is empty, as in counts of 32 bits."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u2").reshape(-1, 2)
    return bool(words.any()) and min(int(words[:, 0].max()), int(words[:, 1].max())) == 0


def reshaped(plane: NDArray[np.uint8], rows: int, columns: int) -> tuple[int, int]:
    """Return rows and columns of as many pixels as there are; the same where none fit alone.

    Args:
        plane: the lowest byte of each pixel of one frame, with up to one byte of padding.
        rows, columns: as the header says, one of them wrongly.
    """
    there = {plane.size, plane.size - plane.size % 2, plane.size - 1}
    if rows * columns in there or not (rows and columns):
        return rows, columns
    tries = {(n // columns, columns) for n in there if n % columns == 0}
    tries |= {(rows, n // rows) for n in there if n % rows == 0}
    fits = {(r, c): _correlation(plane, c) for r, c in tries if min(r, c) > 0}
    near = [size for size, fit in fits.items() if fit > max(fits.values()) - NEARLY]
    return min(near, key=lambda size: size[1], default=(rows, columns))


def _seamed(data: bytes, own: Header, header: Header) -> bool:
    """Say whether frames begin where fewer rows put them, rather than being cut off."""
    if header.frames < 2:
        return False
    width = own.bits_allocated // 8
    values = np.frombuffer(data[: len(data) // width * width], f"<u{width}")[:MOST_VALUES]
    there, said = (_correlation(values, one.rows * one.columns) for one in (own, header))
    return there > said


def _correlation(values: NDArray[np.unsignedinteger], lag: int) -> float:
    """Return the correlation of values with those a lag further on, on a root scale."""
    if not 0 < lag < len(values):
        return 0.0
    roots = np.sqrt(values.astype(np.float64))
    return _alike(roots[:-lag], roots[lag:])


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nan_to_num(np.corrcoef(one, other)[0, 1]))

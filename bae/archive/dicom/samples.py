"""Bit patterns to stored values: byte order, depth and sign, settled by the values themselves.

All is judged by neighbours along a row. A picture is smooth: read rightly, a pixel lies
closer to the next than read wrongly. What is not evident stays as the header says.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bae.archive.dicom.header import Header
from bae.errors import ScanError

BYTE_ORDER, BIT_DEPTH, SIGN = "byte_order_conflict", "bit_depth_conflict", "sign_conflict"
"""Flags: the samples are in the other byte order; they fill more or fewer bits, or other ones,
than Bits Stored and High Bit say; they have a sign that Pixel Representation denies or lack one."""

Patterns = NDArray[np.unsignedinteger]

EVIDENT = 4.0
"""Times smoother that the other byte order must be; a factor of 256 is usual."""
PREFERRED = 2.0
"""The same for depth and sign, judged only where they make a difference."""
PAIRS_EVIDENT = 1.03
"""The same for 8-bit samples swapped in pairs: neighbours against pixels three apart."""
SAMPLED_ROWS = 64
"""Rows looked at for the byte order."""


def in_order(patterns: Patterns, header: Header) -> tuple[Patterns, set[str]]:
    """Swap bytes where the samples are evidently in the other order.

    Args:
        patterns: (n, rows, columns) of 16 or 32 bits; others come back as they are.
        header: Bits Stored and High Bit decide where smoothness alone does not.

    Returns:
        The patterns, and flags.
    """
    if patterns.dtype.itemsize == 1:
        return patterns, set()
    some = patterns[:, :: max(patterns.shape[0] * patterns.shape[1] // SAMPLED_ROWS, 1)]
    other = some.byteswap()
    field = ((1 << header.bits_stored) - 1) << (header.high_bit + 1 - header.bits_stored)
    out, other_out = (bool(used_bits(x) & ~field) for x in (some, other))
    if other_out and not out:
        return patterns, set()  # only so do the values keep to their bits
    rough, other_rough = _roughness(some), _roughness(other)
    least = 1.0 if out and not other_out else EVIDENT
    if rough > least * other_rough:
        return patterns.byteswap(), {BYTE_ORDER}
    return patterns, set()


def used_bits(patterns: Patterns) -> int:
    """Return the bits that are set in any sample."""
    return int(np.bitwise_or.reduce(patterns.ravel()))


def _roughness(some: Patterns) -> float:
    """Return the mean step along a row; steps wrap, so that signs and overlays do not matter."""
    whole = some.view(f"i{some.dtype.itemsize}")
    steps = whole[..., 1:] - whole[..., :-1]
    return float(np.abs(steps.astype(np.int64)).mean()) if steps.size else 0.0


def in_pairs(patterns: Patterns) -> bool | None:
    """Say whether 8-bit samples are swapped in pairs; None where that is not evident.

    Args:
        patterns: (n, rows, columns), columns even.
    """
    some = patterns[:, :: max(patterns.shape[0] * patterns.shape[1] // (8 * SAMPLED_ROWS), 1)]
    if some.shape[-1] % 2 or some.shape[-1] < 4:
        return None
    pairs = some.reshape(-1, some.shape[-1] // 2, 2).astype(np.int16)
    # next to each other as stored, and as they would be with each pair turned round
    near = float(np.abs(pairs[:, :-1, 1] - pairs[:, 1:, 0]).sum())
    turned = float(np.abs(pairs[:, :-1, 0] - pairs[:, 1:, 1]).sum())
    if near > PAIRS_EVIDENT * turned:
        return True
    return False if turned > PAIRS_EVIDENT * near else None


def resolve(patterns: Patterns, header: Header, width: int) -> tuple[NDArray[np.integer], set[str]]:
    """Cut the stored bits out of the allocated ones, and read them with their sign.

    Args:
        patterns: (n, rows, columns) of 8, 16 or 32 bits.
        header: Bits Stored, High Bit and Pixel Representation.
        width: bits of a sample that can be set: Bits Allocated, or a code stream's precision.

    Returns:
        Values, and flags.

    Raises:
        ScanError: bits beyond the stored ones that are neither a part of the values nor
            evidently something else (``pixels_conflict``).
    """
    flags: set[str] = set()
    bits, shift = header.bits_stored, header.high_bit + 1 - header.bits_stored
    if bits + shift > width:
        bits, shift = width, 0
    used = used_bits(patterns) & ((1 << width) - 1)
    if shift and used & ((1 << shift) - 1):
        flags.add(BIT_DEPTH)
        if _low_bits_belong(patterns, shift):
            bits, shift = bits + shift, 0
    values = patterns >> np.array(shift, patterns.dtype) if shift else patterns
    width -= shift
    if used >> shift >> bits and not (header.signed and _extends(values, bits, width)):
        flags.add(BIT_DEPTH)
        if _high_bits_belong(values, bits, width):
            bits = width
    signed = header.signed
    if used >> (shift + bits - 1) & 1:
        signed = _signed(values, bits, header.signed)
    if signed != header.signed:
        flags.add(SIGN)
    return _cut(values, bits, signed), flags


def _low_bits_belong(patterns: Patterns, shift: int) -> bool:
    """Say whether the bits below the stored ones are the values' own.

    Counting up, the low bits of a number fall where its high bits rise; those of an
    overlay do not.
    """
    high = (patterns >> np.array(shift, patterns.dtype)).astype(np.int64)
    low = (patterns & np.array((1 << shift) - 1, patterns.dtype)).astype(np.int64)
    rises, falls = np.diff(high), np.diff(low)
    near = np.abs(rises) == 1
    moves = (rises * falls)[near]
    if not moves.any():
        return False
    score = float(moves.mean() / max(float(moves.std()), 1e-9) * np.sqrt(moves.size))
    if -10 < score < -4:
        raise ScanError("pixels_conflict", "bits below the stored ones that may be the values'")
    return score <= -10


def _extends(values: Patterns, bits: int, width: int) -> bool:
    """Say whether the bits above the stored ones only repeat the sign: many writers do that."""
    top = values >> np.array(bits - 1, values.dtype)
    top = top & np.array((1 << (width - bits + 1)) - 1, values.dtype)
    return bool(((top == 0) | (top == (1 << (width - bits + 1)) - 1)).all())


def _high_bits_belong(values: Patterns, bits: int, width: int) -> bool:
    """Say whether the bits above the stored ones are the values' own, where they change."""
    mask = np.array((1 << width) - 1, values.dtype)
    whole = (values & mask).astype(np.int64)
    kept = whole & ((1 << bits) - 1)
    change = np.diff(whole >> bits) != 0
    with_them = float(np.abs(np.diff(whole))[change].sum())
    without = float(np.abs(np.diff(kept))[change].sum())
    if not change.any() or with_them > PREFERRED * without:
        return False
    if without > PREFERRED * with_them:
        return True
    # a number below zero, written in more bits than are stored, runs to both ends
    wrapped = np.diff(whole)[change]
    turned = np.minimum(np.abs(wrapped), (1 << width) - np.abs(wrapped))
    if without > PREFERRED * float(turned.sum()):
        return False  # the sign is settled in the stored bits
    raise ScanError("pixels_conflict", "bits above the stored ones that may be the values'")


def _signed(values: Patterns, bits: int, claimed: bool) -> bool:
    """Say whether the values have a sign: read the right way, they do not jump at their top bit."""
    kept = values & np.array((1 << bits) - 1, values.dtype)
    half = 1 << (bits - 1)
    top = kept >= half
    if not top.any() or top.all():
        return claimed
    change = top[..., 1:] != top[..., :-1]
    steps = np.abs(np.diff(kept.astype(np.int64))[change])
    plain, wrapped = float(steps.sum()), float((2 * half - steps).sum())
    if claimed:
        return not wrapped > PREFERRED * plain
    # letters burnt in at the largest value are no numbers below zero: they are all alike, or
    # not far from the rest
    high = kept[top]
    apart = int(high.min()) - int(kept[~top].max()) > half and high.min() < high.max()
    return apart and plain > PREFERRED * wrapped


def _cut(values: Patterns, bits: int, signed: bool) -> NDArray[np.integer]:
    """Read the lowest ``bits`` bits as two's complement or as unsigned.

    The header decides the sign: codecs often give unsigned numbers for signed pixels.
    """
    size = values.dtype.itemsize
    if not signed:
        mask = np.array((1 << bits) - 1, values.dtype)
        return values if bits == size * 8 else values & mask
    move = np.array(size * 8 - bits, f"i{size}")
    shifted = values << move.astype(values.dtype)
    extended: NDArray[np.integer] = np.right_shift(shifted.view(move.dtype), move)
    return extended


def widened(header: Header, width: int, *, exactly: bool) -> tuple[Header, set[str]]:
    """Return the header with the depth of a code stream, which knows its own, and flags.

    Args:
        header: as read.
        width: precision of the code stream, bits.
        exactly: the precision is that of the values; RLE has whole bytes.
    """
    whole = header.high_bit == width - 1 if exactly else header.bits_allocated == width
    if whole and (not exactly or header.bits_stored == width):
        return header, set()
    if not exactly or not 1 <= header.bits_stored <= header.high_bit + 1 <= width:
        header = replace(header, bits_stored=width, high_bit=width - 1)
    return header, {BIT_DEPTH}

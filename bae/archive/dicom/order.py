"""Which frame is of which energy window and detector, and where a header contradicts itself."""

from itertools import pairwise

from bae.archive.dicom.header import Header
from bae.errors import ScanError

CONFLICT = "frame_order_conflict"
"""Flag of vectors, pointers and counts that disagree, in a way that leaves one reading."""

_WINDOWS, _DETECTORS = "(0054,0010)", "(0054,0020)"


def indices(header: Header) -> tuple[tuple[int, ...], tuple[int, ...], set[str]]:
    """Return energy window and detector of each frame, PS3.3 C.8.4.8.

    Args:
        header: with the number of frames that there are.

    Returns:
        Window and detector numbers from 1, one per frame (detector 0: not known), and flags.

    Raises:
        ScanError: a vector of another length than there are frames, or of windows that are
            not described, with several windows to choose from (``header_conflict``).
    """
    frames, flags = header.frames, _counts_disagree(header)
    windows, detectors = header.window_of_frame, header.detector_of_frame
    pointed = {_WINDOWS: windows, _DETECTORS: detectors}
    if frames > 1 and any(name in header.pointers and not pointed[name] for name in pointed):
        flags.add(CONFLICT)
    described = max(header.windows, len(header.windows_kev))
    if windows and len(windows) != frames and described <= 1 and len(set(windows)) == 1:
        windows = (1,) * frames
        flags.add(CONFLICT)
    windows = windows or (1,) * frames
    # without the vector, one frame is of one detector; more than one stay unnamed: no detector is 0
    detectors = detectors or ((1,) if frames == 1 else (0,) * frames)
    if len(windows) != frames or len(detectors) != frames:
        raise ScanError(
            "header_conflict",
            f"{frames} frames, but {len(windows)} energy window and {len(detectors)} detector "
            "indices",
        )
    windows = _from_one(windows, described, flags)
    detectors = _from_one(detectors, max(header.detectors, len(header.views)), flags)
    windows = _described(windows, detectors, described, flags)
    if _turned(header.pointers, windows, detectors) or _repeated(windows, detectors):
        flags.add(CONFLICT)
    return windows, detectors, flags


def _counts_disagree(header: Header) -> set[str]:
    """Compare each count with the items that it counts."""
    pairs = (
        (header.windows, len(header.windows_kev)),
        (header.detectors, len(header.views)),
        (header.frame_groups, header.frames),
    )
    return {CONFLICT for said, there in pairs if said > 0 and there > 0 and said != there}


def _from_one(vector: tuple[int, ...], count: int, flags: set[str]) -> tuple[int, ...]:
    """Return indices that count from 1: some writers count from 0."""
    known = max(count, 1)
    if any(vector) and min(vector) == 0 and max(vector) < known:
        flags.add(CONFLICT)
        return tuple(index + 1 for index in vector)
    if any(vector) and count and not all(1 <= index <= known for index in vector):
        flags.add(CONFLICT)
    return vector


def _described(
    windows: tuple[int, ...], detectors: tuple[int, ...], count: int, flags: set[str]
) -> tuple[int, ...]:
    """Return the windows, all 1 where only one exists and the vector cannot be believed.

    Every detector is read in every window, so a vector of two windows for as many
    detectors as there are frames tells nothing of windows.
    """
    if not count or all(1 <= window <= count for window in windows):
        return windows
    flags.add(CONFLICT)
    if count > 1:
        raise ScanError(
            "header_conflict", f"{count} energy windows are described, and frames are of others"
        )
    whole = len(set(windows)) * len(set(detectors)) == len(windows)
    return windows if whole and len(set(windows)) > 1 else (1,) * len(windows)


def _turned(
    pointers: tuple[str, ...], windows: tuple[int, ...], detectors: tuple[int, ...]
) -> bool:
    """Say whether the pointer's first vector changes faster than its second (PS3.3 C.7.6.6)."""
    if len(set(windows)) < 2 or len(set(detectors)) < 2:
        return False
    vectors = {_WINDOWS: windows, _DETECTORS: detectors}
    named = [vectors[name] for name in pointers if name in vectors]
    if len(named) != 2:
        return False
    slow, fast = (sum(a != b for a, b in pairwise(v)) for v in named)
    return slow > fast


def _repeated(windows: tuple[int, ...], detectors: tuple[int, ...]) -> bool:
    """Say whether two frames claim to be the same window of the same detector."""
    pairs = list(zip(windows, detectors, strict=True))
    return any(detectors) and len(set(pairs)) < len(pairs)

"""Which frames of an object are its views: photopeak first, then one frame per detector."""

from __future__ import annotations

from bae.errors import ScanError
from bae.header import Header
from bae.scan import UNKNOWN
from bae.select import MOST_FRAMES

PHOTOPEAK_KEV = 140.5
"""Gamma line of Tc-99m."""
MOST_VIEWS = 2


def choose(header: Header) -> tuple[list[tuple[int, str]], set[str]]:
    """Choose the frames to read, PS3.3 C.8.4.8: indexed by energy window, then detector.

    A view is named by its detector's code or angle, never by the order of frames.

    Returns:
        (frame index, view name) of each view, and flags.

    Raises:
        ScanError: the vectors do not fit the frames, no window holds the photopeak, or
            more than two views are left.
    """
    frames = header.frames
    if not 1 <= frames <= MOST_FRAMES:
        raise ScanError("header_conflict", f"{frames} frames claimed, expected 1 to {MOST_FRAMES}")
    windows = header.window_of_frame or (1,) * frames
    detectors = header.detector_of_frame or _default_detectors(header)
    if len(windows) != frames or len(detectors) != frames:
        raise ScanError(
            "header_conflict",
            f"{frames} frames, but {len(windows)} energy window and {len(detectors)} detector "
            "indices",
        )
    peak = _photopeak(header, windows)
    chosen = [f for f in range(frames) if windows[f] == peak]
    if len(chosen) > MOST_VIEWS:
        raise ScanError(
            "too_many_views", f"{len(chosen)} frames in the photopeak, at most {MOST_VIEWS} fit"
        )
    named = [(f, _name(header, detectors[f])) for f in chosen]
    flags = {"view_conflict"} if header.views_conflict else set()
    names = [name for _, name in named]
    if len(set(names)) < len(names) and UNKNOWN not in names:
        # two detectors cannot both have been in front: believe neither
        named = [(f, UNKNOWN) for f in chosen]
        flags.add("view_conflict")
    if UNKNOWN in {name for _, name in named}:
        flags.add("view_unknown")
    return named, flags


def _default_detectors(header: Header) -> tuple[int, ...]:
    """Return detector numbers where the vector is absent.

    One frame has one detector. With more, the frame to detector map is not stated,
    so the frames get numbers that no detector has and stay unnamed.
    """
    return (1,) if header.frames == 1 else (0,) * header.frames


def _name(header: Header, detector: int) -> str:
    return header.views[detector - 1] if 1 <= detector <= len(header.views) else UNKNOWN


def _photopeak(header: Header, windows: tuple[int, ...]) -> int:
    """Return the number of the energy window to read."""
    used = sorted(set(windows))
    ranges = {
        number: header.windows_kev[number - 1]
        for number in used
        if 1 <= number <= len(header.windows_kev) and header.windows_kev[number - 1]
    }
    holding = {
        number: min(high - low for low, high in found if low <= PHOTOPEAK_KEV <= high)
        for number, found in ranges.items()
        if any(low <= PHOTOPEAK_KEV <= high for low, high in found)
    }
    if holding:  # of a narrow and a wide window round the peak, the narrow one has less scatter
        return min(holding, key=lambda number: (holding[number], number))
    if len(used) == 1 and not ranges:
        return used[0]
    what = "none of them holds" if ranges else "their limits are not stated, so none is known for"
    raise ScanError(
        "photopeak_unknown", f"{len(used)} energy windows; {what} {PHOTOPEAK_KEV} keV (Tc-99m)"
    )

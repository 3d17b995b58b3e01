"""Keep freed memory for the next scan: fetching it anew costs more than decoding.

By default glibc gives large blocks back to the system as soon as they are free, and the
kernel then fills each page with zeros when it is touched again: half of the time that a
worker spent on a scan (``bae/pipeline/NOTES.md``).
"""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""
KEPT_BYTES = 1 << 30
LARGEST_BYTES = 1 << 25
"""Larger blocks still come from the system and go back to it; glibc allows no more."""


def keep_freed() -> None:
    """Let this process keep up to ``KEPT_BYTES`` that it has freed; without glibc, nothing."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGEST_BYTES)

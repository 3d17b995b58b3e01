"""Memory of parent and child: an object goes one way through it, pixels the other."""

import fcntl
import mmap
import os

KEPT_BYTES = 1 << 26
"""Shared memory that stays in use between two objects."""


class Shared:
    """Memory of two processes: a file without a name that can grow and never shrink.

    Could it shrink, a hostile child would take the pages away that its parent reads.
    """

    def __init__(self, fd: int | None = None, *, fixed_bytes: int = 0) -> None:
        """Make it, or take over what the other process made.

        Args:
            fd: of the other process' memory.
            fixed_bytes: with it, the memory never grows either; untouched pages cost nothing.
        """
        self.fd = os.memfd_create("bae", os.MFD_ALLOW_SEALING) if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, fixed_bytes)
            grow = fcntl.F_SEAL_GROW if fixed_bytes else 0
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL | grow)
        self._map: mmap.mmap | None = None

    def grow(self, size: int) -> None:
        """Make room for as many bytes."""
        if os.fstat(self.fd).st_size < size:
            os.ftruncate(self.fd, size)

    def view(self, size: int) -> memoryview:
        """Return the first bytes.

        Raises:
            ValueError: there are not so many.
        """
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self.fd, size)
        return memoryview(self._map)[:size]

    def shed(self) -> None:
        """Give pages back to the system after a large object."""
        if self._map is not None and len(self._map) > KEPT_BYTES:
            self._map.madvise(mmap.MADV_REMOVE)
            self._map = None  # the next object maps as much as it needs

    def close(self) -> None:
        """Let go of it; views of it keep their memory."""
        os.close(self.fd)

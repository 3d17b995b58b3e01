"""A stand-in for ``bae.archive`` whose decoder does whatever the object says."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator

import numpy as np

from bae.errors import ScanError
from bae.scan import Identity, Scan, View


def members(data: bytes, start: int) -> Iterator[tuple[str, bytes | ScanError]]:
    """Take an object apart at semicolons; one part is a plain object."""
    parts = data.split(b";")
    for index, part in enumerate(parts):
        if index >= start:
            if part == b"crash while unpacking":
                os.abort()
            yield (f"member {index}" if len(parts) > 1 else ""), part


def decode(data: bytes) -> Scan | ScanError:
    """Obey."""
    if data == b"hang":
        while True:
            time.sleep(1)
    if data == b"spin in native code":
        ctypes.CDLL(None).pause()
    if data == b"segfault":
        ctypes.string_at(0)
    if data == b"abort":
        os.abort()
    if data == b"killed for want of memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"overloaded":  # on the clock twice the limit, on the CPU next to nothing
        time.sleep(1)
    if data == b"spin":
        while True:
            pass
    if data == b"exit":
        os._exit(3)
    if data == b"raise":
        raise ZeroDivisionError("DOE^JANE")
    if data == b"eat memory":
        with contextlib.suppress(MemoryError):
            return _scan(np.ones(1 << 42, np.uint8)[:2].reshape(1, 2))
        return ScanError("decoder_memory", "as expected")
    if data == b"rubbish on every output":
        print("DOE^JANE", flush=True)
        print("DOE^JANE", file=sys.stderr, flush=True)
        return ScanError("pixels_broken", "quiet")
    if data == b"tell the environment":
        return ScanError("pixels_broken", " ".join(os.environ))
    if data == b"answer nonsense":
        from bae.archive import sandbox

        parent = sys._getframe(1).f_locals["parent"]
        parent.answers.write(sandbox.LENGTH.pack(5, 0) + b"xxxxx")
        parent.answers.flush()
        time.sleep(60)
    if data == b"promise more pixels than there are":
        from bae.archive import sandbox

        parent = sys._getframe(1).f_locals["parent"]
        text = b'{"kind": "scan", "views": [["anterior", "<u2", [2, 2]]]}'
        parent.answers.write(sandbox.LENGTH.pack(len(text), 1 << 27) + text)
        parent.answers.flush()
        time.sleep(60)
    if data == b"take the pixels away":
        os.ftruncate(sys._getframe(1).f_locals["parent"].pixels.fd, 0)
    return _scan(np.frombuffer(data.ljust(8), "<u2")[:4].reshape(2, 2))


def _scan(counts: np.ndarray) -> Scan:
    views = (View(name="anterior", counts=counts), View(name="posterior", counts=counts[::-1]))
    return Scan(
        views=views,
        identity=Identity(patient="P\0é", study="S", instance="I"),
        pixel_mm=(2.0, 3.0),
        sex="F",
        age_years=61.25,
        age_source="birth_date",
        manufacturer="GE",
        flags=("lossy", "view_unknown"),
    )

"""A stand-in for ``bae.archive`` whose decoder does whatever the object says."""

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bae.archive import sandbox
from bae.archive.files.bounds import Budget
from bae.archive.files.zips import Unpack
from bae.errors import ScanError
from bae.scan import Identity, Scan, View


def entries(data: bytes, start: int, budget: Budget) -> Iterator[tuple[str, Unpack]]:
    """Take an object apart at semicolons; one part is a plain object."""
    parts = data.split(b";")
    for index, part in enumerate(parts):
        if index >= start:
            if part == b"crash while taking apart":
                os.abort()
            yield (f"member {index}" if len(parts) > 1 else ""), partial(_unpack, part)


def _unpack(part: bytes) -> bytes | ScanError:
    """Return a part's bytes, or never."""
    if part == b"hang while unpacking":
        time.sleep(60)
    return part


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
    if data.startswith(b"try "):
        return ScanError("pixels_broken", _tried(*data.decode().split(" ")[1:]))
    if data == b"stop the clock":
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(60)
    if data.startswith(b"answer "):
        parent = sys._getframe(1).f_locals["parent"]
        text = data.removeprefix(b"answer ")
        pixels = 8 if b"views" in text else 0
        parent.answers.write(sandbox.ANSWER.pack(len(text), pixels) + text)
        parent.answers.flush()
        time.sleep(60)
    if data == b"drip":
        parent = sys._getframe(1).f_locals["parent"]
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(60):
            parent.answers.write(b"\1")
            parent.answers.flush()
            time.sleep(1)
    if data == b"promise more pixels than there are":
        parent = sys._getframe(1).f_locals["parent"]
        text = b'{"kind": "scan", "views": [["anterior", "<u2", [2, 2]]]}'
        parent.answers.write(sandbox.ANSWER.pack(len(text), 1 << 27) + text)
        parent.answers.flush()
        time.sleep(60)
    if data == b"take the pixels away":
        os.ftruncate(sys._getframe(1).f_locals["parent"].pixels.fd, 0)
    return _scan(np.frombuffer(data.ljust(8), "<u2")[:4].reshape(2, 2))


def _tried(what: str, argument: str = "") -> str:
    """Say ``done`` where something forbidden went well, else why not."""
    try:
        if what == "read":
            Path(argument).read_bytes()
        elif what == "list":
            os.listdir(argument)  # noqa: PTH208
        elif what == "write":
            Path(argument).write_bytes(b"x")
        elif what == "connect":
            socket.create_connection(("127.0.0.1", int(argument)), timeout=2).close()
        elif what == "send":
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
        elif what == "run":
            subprocess.run([argument], check=True)
        elif what == "kill":
            os.kill(int(argument), 0)
        elif what == "import":
            importlib.import_module(argument)
    except OSError as error:
        return error.strerror or "failed"
    return "done"


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

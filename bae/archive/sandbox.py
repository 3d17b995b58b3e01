"""Decode in a child process: what hangs or crashes a decoder costs one object, not a job.

Native decoders run on bytes from anywhere. This is the parent's side; the child's side is
``bae.archive.child``. The child answers with small JSON headers, so that its parent never
executes what it sends; pixels cross in shared memory, where pipes took as long as decoding.
Its own output goes nowhere, since codecs print parts of headers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bae.errors import RunError, ScanError
from bae.scan import Identity, Scan, View

MEMORY_BYTES = 8 << 30
"""Address space of the child; libraries alone map about 1 GiB."""
LENGTH = struct.Struct("<QQ")
"""Before each request: bytes of the object, files to skip. Before each answer: bytes of its
header, bytes of its pixels."""
TAKEN = b"k"
"""The parent's word that it has copied a scan's pixels."""
_LONGEST_HEADER = 1 << 20
LARGEST_ANSWER_BYTES = 1 << 28
"""Two views of 4096 x 4096 float32 numbers take half of this."""
_KEYS = ("AWS_", "BAE_", "RAY_AUTH_", "REDIS_", "MLFLOW_")
"""What begins the names of variables that the child is not given."""
KEPT_BYTES = 1 << 26
"""Shared memory that stays in use between two objects."""


class Shared:
    """Memory of two processes: a file without a name that can grow and never shrink.

    Could it shrink, a hostile child would take the pages away that its parent reads.
    """

    def __init__(self, fd: int | None = None) -> None:
        """Make it, or take over what the other process made."""
        self.fd = os.memfd_create("bae", os.MFD_ALLOW_SEALING) if fd is None else fd
        if fd is None:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
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


class Decoder:
    """``objects.scans`` in a persistent child process; use it as a context manager."""

    def __init__(
        self,
        *,
        limit_s: float = 30.0,
        memory_bytes: int = MEMORY_BYTES,
        reader: str = "bae.archive.objects",
    ) -> None:
        """Start nothing yet: the child starts with the first object.

        Args:
            limit_s: seconds of CPU time after which one file is given up; on the clock ten
                times as many, since an overloaded machine may give it little of its CPUs.
            memory_bytes: address space that the child may use.
            reader: module with ``members`` and ``decode``.
        """
        self._arguments = (str(limit_s), str(memory_bytes), reader)
        self._limit_s = limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._answers: BinaryIO | None = None
        self._object: Shared | None = None
        self._pixels: Shared | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; the next object would start another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, self._answers, self._object, self._pixels):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def scans(self, name: str, data: bytes) -> list[tuple[str, Scan | ScanError]]:
        """Read every scan of one object; see ``objects.scans``.

        A file that hangs or crashes the child becomes ``decoder_hang`` or
        ``decoder_crash``; the child is started again and goes on behind it.

        Raises:
            RunError: the child does not start at all.
        """
        found: list[tuple[str, Scan | ScanError]] = []
        while True:
            member: str | None = None
            try:
                self._send(data, len(found))
                while (message := self._receive())["kind"] != "end":
                    if message["kind"] == "begin":
                        member = str(message["member"])
                    else:
                        found.append((member or "", _outcome(message)))
                        member = None
                return found
            except (EOFError, BrokenPipeError):
                found.append((member or "", self._autopsy()))
            except (ValueError, LookupError, TypeError):
                self.close()
                nonsense = ScanError("decoder_crash", "the decoding process answered nonsense")
                found.append((member or "", nonsense))
            if member is None:  # not inside a file: there is nothing to go on behind
                return found

    def _send(self, data: bytes, start: int) -> None:
        child = self._running()
        assert child.stdin is not None and self._object is not None
        self._object.grow(max(1, len(data)))
        self._object.view(max(1, len(data)))[: len(data)] = data
        child.stdin.write(LENGTH.pack(len(data), start))

    def _receive(self) -> dict[str, Any]:
        """Read one message; a scan's views come out as (name, counts).

        Raises:
            EOFError: the child has gone.
            ValueError: the message makes no sense.
        """
        assert self._answers is not None
        length, size = LENGTH.unpack(_exactly(self._answers, LENGTH.size))
        if length > _LONGEST_HEADER:
            raise ValueError("a header longer than any scan has")
        message: dict[str, Any] = json.loads(_exactly(self._answers, length))
        if message.get("kind") == "scan":
            message["views"] = self._views(message["views"], size)
        return message

    def _views(self, described: list[Any], size: int) -> list[tuple[str, NDArray[Any]]]:
        """Copy a scan's views out of the shared memory, and let the child go on."""
        if size > LARGEST_ANSWER_BYTES:
            raise ValueError("more pixels than any scan has")
        child, shared = self._child, self._pixels
        assert child is not None and child.stdin is not None and shared is not None
        pixels = np.array(shared.view(size))
        shared.shed()
        child.stdin.write(TAKEN)
        views, place = [], 0
        for name, kind, shape in described:
            if kind not in ("<u2", "<f4"):
                raise ValueError("a view that is neither uint16 nor float32")
            pixel_count = int(shape[0]) * int(shape[1])
            counts = np.frombuffer(pixels, kind, pixel_count, place).reshape(shape)
            views.append((name, counts))
            place += counts.nbytes
        return views

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the child, started if there is none."""
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()  # it may have been killed between two objects, for want of memory
        reading, writing = os.pipe()
        self._object, self._pixels = Shared(), Shared()
        handed = (writing, self._object.fd, self._pixels.fd)
        # it decodes bytes from anywhere: no credentials, tokens or keys for it
        harmless = {k: v for k, v in os.environ.items() if not k.startswith(_KEYS)}
        environment = harmless | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
        }
        self._child = subprocess.Popen(
            [sys.executable, "-m", "bae.archive.child", *map(str, handed), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=handed,
            env=environment,
        )
        os.close(writing)
        self._answers = os.fdopen(reading, "rb", buffering=0)
        try:
            self._receive()
        except EOFError as error:
            code_returned = self._child.wait()
            self.close()
            raise RunError(
                f"the decoding process does not start (exit code {code_returned}); "
                "try: python -c 'import bae.archive.objects'"
            ) from error
        return self._child

    def _autopsy(self) -> ScanError:
        """Bury the child and say what it died of."""
        child = self._child
        assert child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=5)
        died_of = child.poll()
        self.close()
        if died_of in (-signal.SIGPROF, -signal.SIGALRM):  # the child's own clocks
            return ScanError("decoder_hang", f"not decoded within {self._limit_s:g} s")
        if died_of == -signal.SIGKILL:  # neither we nor a decoder did that
            return ScanError("decoder_killed", "the decoding process was killed from outside")
        if died_of is not None and died_of < 0:
            name = signal.Signals(-died_of).name
            return ScanError("decoder_crash", f"the decoding process was ended by {name}")
        return ScanError("decoder_crash", "the decoding process broke off")


def _outcome(message: dict[str, Any]) -> Scan | ScanError:
    """Build the value that a message describes."""
    if message["kind"] == "refused":
        return ScanError(message["code"], message["text"])
    said = message["scan"]
    return Scan(
        **said
        | {
            "views": tuple(View(name=name, counts=counts) for name, counts in message["views"]),
            "identity": Identity(**said["identity"]),
            "pixel_mm": said["pixel_mm"] and tuple(said["pixel_mm"]),
            "flags": tuple(said["flags"]),
        }
    )


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := pipe.read(size - len(data))):
            raise EOFError("the decoding process has gone")
        data += more
    return data

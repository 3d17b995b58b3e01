"""Decode in a child process: what hangs or crashes a decoder costs one object, not a job.

Native decoders run on bytes from anywhere. This is the parent's side; the child's side is
``bae.archive.child``, and ``bae.archive.fence`` says what it may not do. The child answers with
small JSON headers, so that its parent never executes what it sends; pixels cross in shared
memory, where pipes took as long as decoding. Its own output goes nowhere, since codecs print
parts of headers.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bae.archive.fence import answers, kernel
from bae.archive.fence.answers import LARGEST_ANSWER_BYTES, LONGEST_HEADER
from bae.archive.fence.shared import Shared
from bae.archive.files import bounds, kinds
from bae.errors import RunError, ScanError
from bae.scan import Scan

MEMORY_BYTES = 8 << 30
"""Address space of the child; libraries alone map about 1 GiB."""
REQUEST = struct.Struct("<QQQQ")
"""Bytes of the object, files to skip, bytes of pixels that the rest may decode to; bytes behind the
object that name files (a JSON list) which are only to be unpacked, 0 to read all."""
ANSWER = struct.Struct("<QQ")
"""Bytes of an answer's header, bytes of its pixels."""
TAKEN = b"k"
"""The parent's word that it has copied a scan's pixels."""
_KEYS = ("AWS_", "BAE_", "RAY_AUTH_", "REDIS_", "MLFLOW_")
"""What begins the names of variables that the child is not given."""
_START_S = 120.0
"""Seconds for the child to start: its imports may come from a slow disk."""
WALL_TIMES = 10
"""Seconds on the clock for each second of CPU time that an object may take."""
GRACE_S = 5.0
"""Beyond that limit, the parent's patience with a child that says nothing."""
LONGEST_OBJECT = 40
"""Times the limit of one file: as long may all files of an object take together."""


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
            reader: module with ``entries`` and ``decode``.
        """
        self._arguments = (str(limit_s), str(WALL_TIMES * limit_s), str(memory_bytes), reader)
        self._limit_s = limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._answers: int | None = None
        self._object: Shared | None = None
        self._pixels: Shared | None = None
        self._hidden: kernel.Hidden | None = None
        self._fences: tuple[str, ...] = ()

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
            for pipe in (child.stdin, self._object, self._pixels):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            if self._answers is not None:
                os.close(self._answers)
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            hidden.end()

    def fences(self) -> tuple[str, ...]:
        """Return the fences (of ``kernel.NAMES``) round the child, which starts if there is none.

        Raises:
            RunError: the child does not start at all.
        """
        self._running()
        return self._fences

    def scans(
        self, name: str, data: bytes, decoded_bytes: int = bounds.LARGEST_DECODED_BYTES
    ) -> list[tuple[str, Scan | ScanError]]:
        """Read every scan of one object; see ``objects.scans``.

        A file that hangs or crashes the child becomes ``decoder_hang`` or
        ``decoder_crash``; the child is started again and goes on behind it. An object whose
        files take ``LONGEST_OBJECT`` times the limit together is given up there.

        Args:
            decoded_bytes: of pixels from a zip file; members behind are refused.

        Raises:
            RunError: the child does not start at all.
        """
        found: list[tuple[str, Scan | ScanError]] = []
        give_up = time.monotonic() + LONGEST_OBJECT * self._limit_s
        while True:
            member: str | None = None
            try:
                left = decoded_bytes - sum(bounds.decoded_bytes(outcome) for _, outcome in found)
                self._send(data, len(found), max(0, left))
                while (message := self._receive())["kind"] != "end":
                    if message["kind"] == "begin":
                        member = answers.member(message)
                        continue
                    found.append((member or "", self._outcome(message)))
                    member = None
                    if time.monotonic() > give_up:
                        self.close()
                        return [*found, ("", self._too_long())]
                    if len(found) > bounds.MOST_MEMBERS + 1:
                        raise ValueError("more files than any object has")
                return found
            except (EOFError, BrokenPipeError):
                found.append((member or "", self._autopsy()))
            except TimeoutError:  # somebody has stopped the child's own clock
                self.close()
                found.append((member or "", self._hang()))
            except (ValueError, LookupError, TypeError):
                self.close()
                nonsense = ScanError("decoder_crash", "the decoding process answered nonsense")
                found.append((member or "", nonsense))
            if member is None:  # not inside a file: there is nothing to go on behind
                return found
            if time.monotonic() > give_up:
                return [*found, ("", self._too_long())]

    def files(self, data: bytes, wanted: Collection[str]) -> list[tuple[str, bytes]]:
        """Return name and bytes of those files of an object that are wanted.

        Left out are files that cannot be unpacked, or are larger than any scan's pixels, and all
        behind one that ends the child.

        Args:
            wanted: names as ``scans`` gives them, empty for a plain object.

        Raises:
            RunError: the child does not start at all.
        """
        if not kinds.is_zip(data):
            return [("", data)] if "" in wanted else []
        found = []
        try:
            self._send(data, 0, 0, json.dumps([*wanted]).encode())
            while (message := self._receive())["kind"] == "file":
                found.append((answers.member(message), message["pixels"].tobytes()))
        except (EOFError, BrokenPipeError, TimeoutError, ValueError, LookupError, TypeError):
            self.close()
        return found

    def _send(self, data: bytes, start: int, decoded_bytes: int, wanted: bytes = b"") -> None:
        child, size = self._running(), len(data) + len(wanted)
        assert child.stdin is not None and self._object is not None
        self._object.grow(max(1, size))
        shared = self._object.view(max(1, size))
        shared[: len(data)], shared[len(data) : size] = data, wanted
        child.stdin.write(REQUEST.pack(len(data), start, decoded_bytes, len(wanted)))

    def _receive(self, within_s: float | None = None) -> dict[str, Any]:
        """Read one message; a scan's pixels or a file's bytes come with it, in one array.

        Raises:
            EOFError: the child has gone.
            TimeoutError: no message came, although the child's own clock should have rung.
            ValueError: the message makes no sense.
        """
        assert self._answers is not None
        give_up = time.monotonic() + (within_s or WALL_TIMES * self._limit_s + GRACE_S)
        length, size = ANSWER.unpack(_exactly(self._answers, ANSWER.size, give_up))
        if length > LONGEST_HEADER:
            raise ValueError("a header longer than any scan has")
        message = answers.message(_exactly(self._answers, length, give_up))
        if message["kind"] in ("scan", "file"):
            message["pixels"] = self._taken(size)
        return message

    def _taken(self, size: int) -> NDArray[np.uint8]:
        """Copy a scan's pixels out of the shared memory, and let the child go on."""
        if size > LARGEST_ANSWER_BYTES:
            raise ValueError("more pixels than any scan has")
        child, shared = self._child, self._pixels
        assert child is not None and child.stdin is not None and shared is not None
        pixels = np.array(shared.view(size))
        shared.shed()
        child.stdin.write(TAKEN)
        return pixels

    @staticmethod
    def _outcome(message: dict[str, Any]) -> Scan | ScanError:
        if message["kind"] == "refused":
            return answers.refusal(message)
        return answers.scan(message, message["pixels"])

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the child, started if there is none."""
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()  # it may have been killed between two objects, for want of memory
        reading, writing = os.pipe()
        self._object, self._pixels = Shared(), Shared(fixed_bytes=LARGEST_ANSWER_BYTES)
        handed = (writing, self._object.fd, self._pixels.fd)
        # it decodes bytes from anywhere: no credentials, tokens or keys for it
        harmless = {k: v for k, v in os.environ.items() if not k.startswith(_KEYS)}
        environment = harmless | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",  # the fence is for one thread
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
        self._answers = reading
        try:
            self._fences = answers.fences(self._receive(_START_S))
        except (EOFError, TimeoutError, ValueError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=1)
            code_returned = self._child.poll()
            self.close()
            raise RunError(
                f"the decoding process does not start (exit code {code_returned}); "
                "try: python -c 'import bae.archive.objects'"
            ) from error
        if not {kernel.FILES, kernel.NAMESPACE} & set(self._fences):
            self._hidden = kernel.Hidden()
            self._fences += (kernel.HIDDEN,) * self._hidden.start()
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
            return self._hang()
        if died_of == -signal.SIGKILL:  # neither we nor a decoder did that
            return ScanError("decoder_killed", "the decoding process was killed from outside")
        if died_of is not None and died_of < 0:
            name = signal.Signals(-died_of).name
            return ScanError("decoder_crash", f"the decoding process was ended by {name}")
        return ScanError("decoder_crash", "the decoding process broke off")

    def _hang(self) -> ScanError:
        return ScanError("decoder_hang", f"not decoded within {self._limit_s:g} s")

    def _too_long(self) -> ScanError:
        total = f"{LONGEST_OBJECT * self._limit_s:g} s"
        return ScanError("decoder_hang", f"its files took {total}; the rest is not tried")


def fences() -> tuple[str, ...]:
    """Return the names of the fences (of ``fence.kernel.NAMES``) that hold on this machine.

    Raises:
        RunError: the decoding process does not start at all.
    """
    with Decoder() as decoder:
        return decoder.fences()


def _exactly(pipe: int, size: int, give_up: float) -> bytes:
    """Read so many bytes; a child that lets them drip is given up at the same time."""
    data = b""
    watch = select.poll()
    watch.register(pipe, select.POLLIN)
    while len(data) < size:
        if not watch.poll(max(0.0, give_up - time.monotonic()) * 1000):
            raise TimeoutError("the decoding process says nothing")
        if not (more := os.read(pipe, size - len(data))):
            raise EOFError("the decoding process has gone")
        data += more
    return data

"""The decoding process itself: serves one object after another to ``bae.archive.sandbox``.

A plain Python process that imports neither Ray nor torch. It has alarm clocks of its own
(the kernel ends an object that takes too long, even inside native code) and an upper bound
on memory.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np

from bae import malloc
from bae.archive.sandbox import LENGTH, TAKEN, Shared
from bae.errors import ScanError
from bae.scan import Scan, View

WALL_TIMES = 10
"""Seconds on the clock for each second of CPU time that an object may take."""


class Reader(Protocol):
    """What the child runs: ``bae.archive.objects``, or a stand-in with the same two functions."""

    def members(self, data: bytes, start: int) -> Iterator[tuple[str, bytes | ScanError]]:
        """Take an object apart."""

    def decode(self, data: bytes) -> Scan | ScanError:
        """Read one file."""


@dataclass(frozen=True)
class _Parent:
    """What the child knows of its parent."""

    requests: BinaryIO
    answers: BinaryIO
    pixels: Shared

    def answer(self, message: dict[str, Any], views: tuple[View, ...] = ()) -> None:
        """Send a message; where it has views, wait until they were copied."""
        size = sum(view.counts.nbytes for view in views)
        if views:
            self.pixels.grow(size)
            shared, place = self.pixels.view(size), 0
            for view in views:
                kind, shape = view.counts.dtype, view.counts.shape
                np.ndarray(shape, kind, buffer=shared, offset=place)[:] = view.counts
                place += view.counts.nbytes
        text = json.dumps(message).encode()
        self.answers.write(LENGTH.pack(len(text), size) + text)
        self.answers.flush()
        if views:
            self.requests.read(len(TAKEN))


def main() -> None:
    """Serve objects until the parent closes the pipe."""
    answers_fd, object_fd, pixels_fd, limit_s, memory_bytes, reader_name = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the object
    with contextlib.suppress(ValueError):  # a lower hard limit is already set
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    malloc.keep_freed()
    reader: Reader = importlib.import_module(reader_name)
    shared, pixels = Shared(int(object_fd)), Shared(int(pixels_fd))
    with os.fdopen(int(answers_fd), "wb") as answers:
        parent = _Parent(sys.stdin.buffer, answers, pixels)
        parent.answer({"kind": "ready"})
        while head := parent.requests.read(LENGTH.size):
            length, start = LENGTH.unpack(head)
            data = bytes(shared.view(max(1, length))[:length])
            shared.shed()
            _serve(reader, data, start, float(limit_s), parent)


def _serve(reader: Reader, data: bytes, start: int, limit_s: float, parent: _Parent) -> None:
    """Answer one object, file by file; an alarm's default action ends the process."""
    _alarm(limit_s)
    for member, content in reader.members(data, start):
        parent.answer({"kind": "begin", "member": member})
        _alarm(limit_s)
        outcome = content if isinstance(content, ScanError) else reader.decode(content)
        _alarm(0)
        if isinstance(outcome, ScanError):
            parent.answer({"kind": "refused", "code": outcome.code, "text": outcome.message})
        else:
            views = [[v.name, v.counts.dtype.str, v.counts.shape] for v in outcome.views]
            plain = asdict(replace(outcome, views=()))
            parent.answer({"kind": "scan", "views": views, "scan": plain}, outcome.views)
        _alarm(limit_s)
    _alarm(0)
    parent.answer({"kind": "end"})


def _alarm(limit_s: float) -> None:
    """Set both clocks, 0 stops them: CPU time, and ten times as long for one that only waits.

    By the clock on the wall alone, a sound object would hang on an overloaded machine.
    """
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    signal.setitimer(signal.ITIMER_REAL, WALL_TIMES * limit_s)


if __name__ == "__main__":
    main()

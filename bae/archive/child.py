"""The decoding process itself: serves one object after another to ``bae.archive.sandbox``.

A plain Python process that imports neither Ray nor torch. It has alarm clocks of its own
(the kernel ends a file that takes too long, even inside native code), an upper bound on memory,
and gives up all rights that decoding does not need.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np

from bae import malloc
from bae.archive.fence import kernel
from bae.archive.fence.shared import Shared
from bae.archive.files.bounds import Budget
from bae.archive.files.zips import Unpack
from bae.archive.sandbox import ANSWER, REQUEST, TAKEN
from bae.errors import ScanError
from bae.scan import Scan, View


class Reader(Protocol):
    """What the child runs: ``bae.archive.objects``, or a stand-in with the same two functions."""

    def entries(self, data: bytes, start: int, budget: Budget) -> Iterator[tuple[str, Unpack]]:
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
            shared, place = self.pixels.view(size), 0
            for view in views:
                kind, shape = view.counts.dtype, view.counts.shape
                np.ndarray(shape, kind, buffer=shared, offset=place)[:] = view.counts
                place += view.counts.nbytes
        text = json.dumps(message).encode()
        self.answers.write(ANSWER.pack(len(text), size) + text)
        self.answers.flush()
        if views:
            self.requests.read(len(TAKEN))


def main() -> None:
    """Serve objects until the parent closes the pipe."""
    answers_fd, object_fd, pixels_fd, *limits, memory_bytes, reader_name = sys.argv[1:]
    cpu_s, wall_s = map(float, limits)
    held = kernel.enter(int(memory_bytes))
    malloc.keep_freed()
    reader: Reader = importlib.import_module(reader_name)
    shared, pixels = Shared(int(object_fd)), Shared(int(pixels_fd))
    with os.fdopen(int(answers_fd), "wb") as answers:
        parent = _Parent(sys.stdin.buffer, answers, pixels)
        held += kernel.close(sys.modules)
        parent.answer({"kind": "ready", "fences": held})
        while head := parent.requests.read(REQUEST.size):
            length, start, decoded_bytes = REQUEST.unpack(head)
            data = bytes(shared.view(max(1, length))[:length])
            shared.shed()
            _serve(reader, data, start, Budget(decoded_bytes), (cpu_s, wall_s), parent)


def _serve(
    reader: Reader,
    data: bytes,
    start: int,
    budget: Budget,
    limits: tuple[float, float],
    parent: _Parent,
) -> None:
    """Answer one object, file by file; an alarm's default action ends the process."""
    _alarm(*limits)
    for member, unpack in reader.entries(data, start, budget):
        parent.answer({"kind": "begin", "member": member})
        # unpacking may take as long as decoding, so a member's time begins before it
        _alarm(*limits)
        content = unpack()
        outcome = content if isinstance(content, ScanError) else reader.decode(content)
        _alarm(0, 0)
        budget.spend(outcome)
        if isinstance(outcome, ScanError):
            parent.answer({"kind": "refused", "code": outcome.code, "text": outcome.message})
        else:
            views = [[v.name, v.counts.dtype.str, v.counts.shape] for v in outcome.views]
            plain = asdict(replace(outcome, views=()))
            del plain["views"]
            parent.answer({"kind": "scan", "views": views, "scan": plain}, outcome.views)
        _alarm(*limits)
    _alarm(0, 0)
    parent.answer({"kind": "end"})


def _alarm(cpu_s: float, wall_s: float) -> None:
    """Set both clocks, 0 stops them: CPU time, and a longer one for what only waits.

    By the clock on the wall alone, a sound object would hang on an overloaded machine.
    """
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, wall_s)


if __name__ == "__main__":
    main()

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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from bae import malloc
from bae.archive.fence import kernel
from bae.archive.fence.answers import LARGEST_ANSWER_BYTES
from bae.archive.fence.shared import Shared
from bae.archive.files.bounds import Budget
from bae.archive.files.zips import Unpack
from bae.archive.sandbox import ANSWER, REQUEST, TAKEN
from bae.errors import ScanError
from bae.scan import Scan


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

    def answer(self, message: dict[str, Any], arrays: Sequence[NDArray[Any]] = ()) -> None:
        """Send a message; where there are arrays with it, wait until they were copied."""
        size = sum(array.nbytes for array in arrays)
        if arrays:
            shared, place = self.pixels.view(size), 0
            for array in arrays:
                np.ndarray(array.shape, array.dtype, buffer=shared, offset=place)[:] = array
                place += array.nbytes
        text = json.dumps(message).encode()
        self.answers.write(ANSWER.pack(len(text), size) + text)
        self.answers.flush()
        if arrays:
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
            length, start, decoded_bytes, names = REQUEST.unpack(head)
            view = shared.view(max(1, length + names))
            data, wanted = bytes(view[:length]), bytes(view[length : length + names])
            del view
            shared.shed()
            if wanted:
                _unpack(reader, data, json.loads(wanted), (cpu_s, wall_s), parent)
            else:
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
            counts = [view.counts for view in outcome.views]
            parent.answer({"kind": "scan", "views": views, "scan": plain}, counts)
        _alarm(*limits)
    _alarm(0, 0)
    parent.answer({"kind": "end"})


def _unpack(
    reader: Reader, data: bytes, wanted: list[str], limits: tuple[float, float], parent: _Parent
) -> None:
    """Answer the bytes of some files of an object."""
    _alarm(*limits)
    for member, unpack in reader.entries(data, 0, Budget(1)):
        content = unpack() if member in wanted else b""
        if isinstance(content, bytes) and 0 < len(content) <= LARGEST_ANSWER_BYTES:
            parent.answer({"kind": "file", "member": member}, [np.frombuffer(content, np.uint8)])
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

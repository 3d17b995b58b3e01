"""What a process and all its descendants cost: wall time, CPU time, memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

EVERY_S = 0.5


@dataclass
class Cost:
    """What a ``with measured()`` block cost; filled in when it ends.

    Attributes:
        wall_s: seconds on the clock.
        cpu_s: seconds of CPU over the whole process tree; a process that lives for less
            than ``EVERY_S`` may be missed. Says more than ``wall_s`` on a busy machine.
        peak_bytes: most memory of the tree at once, shared pages shared out (PSS).
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    _seen: dict[tuple[int, float], float] = field(default_factory=dict)


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure a block."""
    cost, stop = Cost(), threading.Event()
    _look(cost)
    before, start = dict(cost._seen), time.monotonic()

    def watch() -> None:
        while not stop.wait(EVERY_S):
            _look(cost)

    thread = threading.Thread(target=watch, name="bae-meter", daemon=True)
    thread.start()
    try:
        yield cost
    finally:
        cost.wall_s = time.monotonic() - start
        stop.set()
        thread.join()
        _look(cost)
        cost.cpu_s = sum(cost._seen.values()) - sum(before.values())


def _look(cost: Cost) -> None:
    root, total = psutil.Process(), 0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            cost._seen[process.pid, process.create_time()] = times.user + times.system
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    cost.peak_bytes = max(cost.peak_bytes, total)

"""What a process and all its descendants cost: wall time, CPU time, memory."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

EVERY_S = 0.5
MEMORY_EVERY = 10
"""Looks; the kernel takes 0.1 s to add up a job's shared pages, which would slow the job."""


@dataclass
class Cost:
    """What a ``with measured()`` block has cost.

    Attributes:
        wall_s: seconds on the clock, once the block has ended.
        cpu_s: seconds of CPU over the whole process tree; a process that lives for less
            than ``EVERY_S`` may be missed. Says more than ``wall_s`` on a busy machine.
        peak_bytes: most memory of the tree at once, shared pages shared out (PSS).
        history: (``time.time()``, ``cpu_s``), one for each look.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    history: list[tuple[float, float]] = field(default_factory=list)
    _seen: dict[tuple[int, float], float] = field(default_factory=dict)
    _before_s: float = 0.0


@contextmanager
def measured(pid: int | None = None) -> Iterator[Cost]:
    """Measure a block.

    Args:
        pid: the process at the root of the tree; by default this one.
    """
    root, cost, stop = psutil.Process(pid), Cost(), threading.Event()
    _look(root, cost, memory=True)
    cost._before_s, start = cost.cpu_s, time.monotonic()

    def watch() -> None:
        looks = 0
        while not stop.wait(EVERY_S):
            looks += 1
            _look(root, cost, memory=looks % MEMORY_EVERY == 1)

    thread = threading.Thread(target=watch, name="bae-meter", daemon=True)
    thread.start()
    try:
        yield cost
    finally:
        cost.wall_s = time.monotonic() - start
        stop.set()
        thread.join()
        _look(root, cost, memory=True)


def _look(root: psutil.Process, cost: Cost, *, memory: bool) -> None:
    total = 0
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            times = process.cpu_times()
            cost._seen[process.pid, process.create_time()] = times.user + times.system
            total += process.memory_full_info().pss if memory else 0
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    cost.peak_bytes = max(cost.peak_bytes, total)
    cost.cpu_s = sum(cost._seen.values()) - cost._before_s
    cost.history.append((time.time(), cost.cpu_s))

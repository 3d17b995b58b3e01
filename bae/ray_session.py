"""One quiet Ray for one job: a running cluster where there is one, else a local one."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.data

from bae.errors import UseError

log = logging.getLogger(__name__)


@contextmanager
def session() -> Iterator[None]:
    """Connect to Ray for the length of a ``with`` block.

    A Ray that is already connected is used and left alone. ``RAY_ADDRESS`` (which
    ``ray job submit`` sets) names a cluster; without it a local Ray starts and ends
    with the block. Ray's own progress output stays out of the job's.
    """
    if ray.is_initialized():
        yield
        return
    with _native_stderr_logged():
        ray.init(
            # Never None: Ray would then join, or wait for, whatever was started here last.
            address=os.environ.get("RAY_ADDRESS", "local"),
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False}),
        )
        quieten()
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _native_stderr_logged() -> Iterator[None]:
    """Send what Ray's C++ core prints past every logger to our log, at level DEBUG.

    It warns of things that are no fault, such as ray-project/ray#53727 for each pool of
    actors. Python's own stderr stays what it was.
    """
    sys.stderr.flush()
    kept_fd, python_stderr = os.dup(2), sys.stderr
    read_fd, write_fd = os.pipe()
    os.dup2(write_fd, 2)
    os.close(write_fd)
    own_stderr = os.fdopen(os.dup(kept_fd), "w", buffering=1)
    sys.stderr = own_stderr

    def copy() -> None:
        with os.fdopen(read_fd, errors="replace") as lines:
            for line in lines:
                log.debug("ray: %s", line.rstrip())

    thread = threading.Thread(target=copy, name="bae-native-stderr", daemon=True)
    thread.start()
    try:
        yield
    finally:
        if sys.stderr is own_stderr:  # a test runner may have put its own in place
            sys.stderr = python_stderr
        own_stderr.close()
        os.dup2(kept_fd, 2)
        os.close(kept_fd)


def quieten() -> None:
    """Keep Ray Data's bars and notices out of the job's output; its log files keep them."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_rich_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.propagate = False


def cpus() -> int:
    """Return the cluster's CPU count."""
    return int(ray.cluster_resources().get("CPU", 1))


def gpus_for_training(workers: int | tuple[int, int], wanted: int | None) -> bool:
    """Say whether training runs on GPUs, one for each worker.

    Args:
        workers: number of workers, or the least and the most.
        wanted: 0 or 1; None: GPUs where the cluster has enough for the least number.

    Raises:
        UseError: more GPUs are asked for than the cluster has, or there is no CPU to
            spare for Ray Data, without which training would wait for ever.
    """
    least = workers if isinstance(workers, int) else workers[0]
    there = int(ray.cluster_resources().get("GPU", 0))
    if wanted and there < least:
        raise UseError(
            f"{least} GPUs are asked for, the cluster has {there}; use --gpus 0 or start GPU nodes"
        )
    if cpus() < 2:
        raise UseError("training needs two CPUs, one to feed the other; the cluster has one")
    return there >= least if wanted is None else wanted > 0


def cpus_per_worker(workers: int) -> float:
    """Return the CPUs to reserve for each training worker: one is left to Ray Data."""
    return min(1.0, (cpus() - 1) / workers)

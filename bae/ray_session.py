"""One quiet Ray for one job: a running cluster where there is one, else a local one."""

from __future__ import annotations

import logging
import os
import queue
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import ray
import ray.data
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.exceptions import RayError

from bae import logs
from bae.errors import RunError, UseError

T = TypeVar("T")

_RAISED = re.compile(r"^[A-Za-z_][\w.]*: .+$", re.MULTILINE)
"""The line of a traceback that says what was raised; the first is the innermost cause."""
_OURS = re.compile(r"^bae\.errors\.\w+: (.+)$", re.MULTILINE)
"""The same of an error of ours: a sentence for people, whatever caused it."""

ANSWER_S = 30.0
"""Seconds in which a cluster's head must accept a connection."""
PART_GB = 0.08
"""About what a decoded part takes of the object store (``runs.PART_BYTES``)."""

log = logging.getLogger(__name__)


@contextmanager
def session() -> Iterator[None]:
    """Connect to Ray for the length of a ``with`` block.

    A Ray that is already connected is used and left alone. ``RAY_ADDRESS`` (which
    ``ray job submit`` sets) names a cluster; without it a local Ray starts and ends
    with the block. Ray's own progress output stays out of the job's.

    Raises:
        RunError: nothing answers at ``RAY_ADDRESS``.
    """
    if ray.is_initialized():
        yield
        return
    _require_answer(os.environ.get("RAY_ADDRESS", "local"))
    workers_log = {
        "logging_config": ray.LoggingConfig(
            encoding="JSON", log_level="WARNING", additional_log_standard_attrs=["name"]
        )
    }
    on_terminate = signal.getsignal(signal.SIGTERM)
    with _native_stderr_logged():
        ray.init(
            # Never None: Ray would then join, or wait for, whatever was started here last.
            address=os.environ.get("RAY_ADDRESS", "local"),
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False}),
            **(workers_log if logs.as_json() else {}),
        )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray has put its own in place
        if logs.as_json():
            logs.setup()  # and added a handler of its own
        quieten()
        try:
            yield
        finally:
            _quieten_left_threads()
            ray.shutdown()


def _quieten_left_threads() -> None:
    """Log what threads raise that outlive Ray, at level DEBUG; the job's last word is its own.

    After a run that got stuck Ray Data still asks a Ray that has gone.
    """
    left, usual = set(threading.enumerate()), threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        if raised.thread in left:
            log.debug("after Ray: %s in %s", raised.exc_value, raised.thread)
        else:
            usual(raised)

    threading.excepthook = hook


def _require_answer(address: str) -> None:
    """Ask a cluster's port whether anybody is there; ``ray.init`` waits for twelve minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except OSError as error:
        raise RunError(
            f"no Ray answers at RAY_ADDRESS={address} ({error}); start one, or unset it to "
            "run on this machine"
        ) from error


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
    # each look at a worker's memory takes the kernel some 10 ms, and nobody reads the answer
    context.memory_usage_poll_interval_s = None
    context.enable_progress_bars = False
    context.enable_rich_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.propagate = False


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run over an archive takes of its cluster; None: found from the cluster.

    Attributes:
        actors: model processes.
        gpus: GPUs for each of them, 0 for the CPU; a share such as 0.5 puts two on one.
        decode_cpus: parts decoded at once, each on one CPU.
        object_store_gb: how much of Ray's object store scans on their way may fill.
    """

    actors: int | None = None
    gpus: float | None = None
    decode_cpus: int | None = None
    object_store_gb: float | None = None


def fitted(wanted: Resources) -> Resources:
    """Fill in what was left open, and refuse what this cluster can never give.

    By default a cluster with GPUs gets one model process for each GPU that is there, and
    one that has none a single process on the CPU: on a cluster that starts GPU nodes when
    they are asked for, ask (``gpus=1``). ``decode_cpus`` stays None: Ray Data then takes
    what is free.

    Raises:
        UseError: more is asked for than there is, and no autoscaler could add it; without
            this check Ray would wait for it for ever.
    """
    gpus = wanted.gpus
    if gpus is None:
        gpus = 1.0 if reachable("GPU") >= 1 else 0.0
    fitting = int(ray.cluster_resources().get("GPU", 0) / gpus) if gpus else 1
    actors = wanted.actors or max(1, fitting)
    _require("GPU", gpus * actors, "--gpus 0, fewer --actors, or start GPU nodes")
    cpus_needed = (actors if gpus else 0) + (wanted.decode_cpus or 1)
    _require("CPU", cpus_needed, "fewer --actors or --decode-cpus, or start more nodes")
    ahead = wanted.object_store_gb or _decoded_ahead_gb(actors, wanted.decode_cpus)
    return replace(wanted, actors=actors, gpus=gpus, object_store_gb=ahead)


def _decoded_ahead_gb(actors: int, decode_cpus: int | None) -> float | None:
    """Return the room that keeps model processes fed; decoding further ahead gains nothing.

    That is four parts for each of them and one for each CPU that decodes, in half of the
    store at most. None, Ray's own half, where nobody knows how many CPUs there will be.
    """
    if grows() and decode_cpus is None:
        return None
    parts = 4 * actors + (decode_cpus or cpus())
    store = float(ray.cluster_resources().get("object_store_memory", 0.0))
    return min(PART_GB * parts, store / 2**31)


def limit_object_store(gigabytes: float | None) -> None:
    """Keep Ray Data's share of the object store below a size; None: half of it, Ray's own."""
    options = ray.data.DataContext.get_current().execution_options
    if gigabytes is not None:
        options.resource_limits = options.resource_limits.copy(
            object_store_memory=gigabytes * 2**30
        )


def reachable(resource: str) -> float:
    """Return how much of a resource the cluster has, or is known to be able to get."""
    # what Ray Train itself asks; there is no public way yet
    most = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return max(float(most.get(resource, 0.0)), float(ray.cluster_resources().get(resource, 0.0)))


def grows() -> bool:
    """Say whether an autoscaler (KubeRay's, ``ray up``'s) adds nodes when work waits.

    Open source autoscalers do not tell how far. So what is asked for is then believed;
    ``watched`` gives up if it does not come.
    """
    return bool(is_autoscaler_v2(fetch_from_server=True))


def _require(resource: str, needed: float, remedy: str) -> None:
    there = reachable(resource)
    if needed > there and not grows():
        raise UseError(
            f"{needed:g} {resource} asked for, the cluster can give {there:g}; use {remedy}"
        )


def cpus() -> int:
    """Return the CPUs that are there, at least one: a growing cluster may have none yet."""
    return max(1, int(reachable("CPU")))


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
    if wanted:
        _require("GPU", least, "--gpus 0, fewer --workers, or start GPU nodes")
    if cpus() < 2 and not grows():
        raise UseError("training needs two CPUs, one to feed the other; the cluster has one")
    return reachable("GPU") >= least if wanted is None else wanted > 0


def fitted_workers(
    workers: int | tuple[int, int],
) -> tuple[int | tuple[int, int], float]:
    """Return training workers that leave a CPU to Ray Data, and the CPUs for each.

    An elastic training takes at most what fits beside that CPU; its workers share what
    there is only where not even the least number would get a CPU each. Where nodes can be
    added, each has one.

    Args:
        workers: number of workers, or the least and the most.
    """
    least, most = (workers, workers) if isinstance(workers, int) else workers
    if grows():
        return workers, 1.0
    spare = max(1, cpus() - 1)
    each = min(1.0, spare / least)
    most = max(least, min(most, int(spare / each)))
    return least if least == most else (least, most), each


def root_cause(error: BaseException) -> str:
    """Return the message of the innermost cause: Ray wraps a worker's error several times."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = next(iter(failures.values()))
    chain = [error]
    while (cause := getattr(chain[-1], "cause", None) or chain[-1].__cause__) is not None:
        chain.append(cause)
    said = [e for e in chain if not isinstance(e, RayError) and str(e).strip()]
    if said:
        return str(said[-1]).strip().splitlines()[-1]
    # Ray Data keeps a worker's error as the text of its traceback only
    text = str(chain[0])
    ours, raised = _OURS.findall(text), _RAISED.search(text)
    return ours[-1] if ours else raised[0] if raised else type(chain[-1]).__name__


def in_thread(call: Callable[[], T]) -> T:
    """Return what a call returns, made in a thread of its own; Ctrl-C ends the waiting."""

    def once() -> Iterator[T]:
        yield call()

    (result,) = watched(once(), None)
    return result


def watched(items: Iterable[T], patience_s: float | None) -> Iterator[T]:
    """Yield the items, and stop waiting for one that does not come.

    After some faults of actors Ray Data waits for ever (ray-project/ray#50814). The
    waiting goes on in a thread of its own, which ends with Ray's session.

    Args:
        items: waited for in that thread.
        patience_s: seconds to wait for each, None for ever.

    Raises:
        RunError: nothing came for ``patience_s`` seconds, or a worker failed more often than
            Ray tries again; in one sentence, where Ray has pages.
    """
    found: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(maxsize=1)

    def pull() -> None:
        try:
            for item in items:
                found.put(("item", item))
        except BaseException as error:  # handed over, raised by whoever waits
            found.put(("error", error))
        else:
            found.put(("end", None))

    threading.Thread(target=pull, name="bae-watched", daemon=True).start()
    while True:
        try:
            kind, value = found.get(timeout=patience_s)
        except queue.Empty:
            raise RunError(
                f"no part was finished for {(patience_s or 0) / 60:.0f} minutes, though no fault "
                "was reported; the same command goes on with what is left"
            ) from None
        if kind == "end":
            return
        if isinstance(value, RayError):
            raise RunError(
                f"{root_cause(value)}; the same command goes on with what is left"
            ) from value
        if isinstance(value, BaseException):
            raise value
        yield value  # type: ignore[misc]

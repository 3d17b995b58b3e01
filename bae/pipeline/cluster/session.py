"""One quiet Ray for one job: a running cluster where there is one, else a local one."""

import logging
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
import ray.data
from ray.exceptions import RayError

from bae import environment, logs
from bae.errors import RunError

T = TypeVar("T")

_RAISED = re.compile(r"^[A-Za-z_][\w.]*: .+$", re.MULTILINE)
"""The line of a traceback that says what was raised; the first is the innermost cause."""
_OURS = re.compile(r"^bae\.errors\.\w+: (.+)$", re.MULTILINE)
"""The same of an error of ours: a sentence for people, whatever caused it."""

ANSWER_S = 30.0
"""Seconds in which a cluster's head must accept a connection."""

BUSY_MACHINE = {"RAY_worker_niceness": "0", "RAY_worker_register_timeout_seconds": "300"}
"""What a Ray of our own does otherwise than Ray's defaults, on a machine that others use, too.

With 15 for the first its workers get a thirtieth of a core beside any other process. After 60
seconds, the default of the second, a worker that is slow to start is given up and never replaced:
the job then waits for ever.
"""

LEFT_THREADS_S = 2.0
"""Most seconds that a failed session waits for threads that Ray Data has left behind."""

log = logging.getLogger(__name__)


@contextmanager
def session() -> Iterator[None]:
    """Connect to Ray for the length of a ``with`` block.

    A Ray that is already connected is used and left alone. ``RAY_ADDRESS`` (which
    ``ray job submit`` sets) names a cluster; without it a local Ray starts and ends
    with the block. Ray's own progress output stays out of the job's.

    Raises:
        RunError: nothing answers at ``RAY_ADDRESS``, or Ray does not start.
        UseError: it cannot be had here, see ``environment.check``.
    """
    if ray.is_initialized():
        yield
        return
    # Never None: Ray would then join, or wait for, whatever was started here last.
    named = environment.address()
    address = named or "local"
    _require_answer(address)
    options: dict[str, Any] = {} if named else {"include_dashboard": False}
    if named is None:
        os.environ.pop(environment.ADDRESS, None)  # empty: Ray's own processes would read it
        if folder := environment.folder():
            options["_temp_dir"] = folder
        for name, value in BUSY_MACHINE.items():
            os.environ.setdefault(name, value)  # Ray's processes inherit it
        if not environment.shared_memory():
            options["_plasma_directory"] = str(environment.place())
        if token := environment.token():
            os.environ["RAY_AUTH_TOKEN"] = token  # for Ray's processes, which inherit it
    if logs.as_json():
        options["logging_config"] = ray.LoggingConfig(
            encoding="JSON", log_level="WARNING", additional_log_standard_attrs=["name"]
        )
    on_terminate, before = signal.getsignal(signal.SIGTERM), set(threading.enumerate())
    with _native_stderr_logged():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises bare ones, such as where it starts too slowly
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(f"Ray does not start, or lets nobody in: {first}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray has put its own in place
        if logs.as_json():
            logs.setup()  # and added a handler of its own
        failed = True
        try:
            with _quiet_ray_data():
                yield
            failed = False
        finally:
            with _threads_errors_logged():
                ray.shutdown()
                end = time.monotonic() + LEFT_THREADS_S
                # threads that lost their Ray get the time to notice; some of Ray's never end
                for thread in set(threading.enumerate()) - before if failed else ():
                    thread.join(max(0.0, end - time.monotonic()))


@contextmanager
def _threads_errors_logged() -> Iterator[None]:
    """Log what threads raise, at level DEBUG, so that a job's last word is its own.

    After a run that got stuck, Ray Data's threads still ask a Ray that has gone.
    """
    usual = threading.excepthook
    threading.excepthook = lambda raised: log.debug("after Ray: %s", raised.exc_value)
    try:
        yield
    finally:
        threading.excepthook = usual


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


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Keep Ray Data's bars and notices out of the job's output; its log files keep them."""
    context = ray.data.DataContext.get_current().copy()
    # each look at a worker's memory takes the kernel some 10 ms, and nobody reads the answer
    context.memory_usage_poll_interval_s = None
    context.enable_progress_bars = False
    context.enable_rich_progress_bars = False
    context.print_on_execution_start = False
    loggers = [logging.getLogger(name) for name in ("ray.data", "ray.train", "ray.tune")]
    usual = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        for logger, (level, propagate) in zip(loggers, usual, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate


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

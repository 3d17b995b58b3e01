"""What every job shares: flags, one clear sentence when something is wrong, progress.

Exit codes: 0 done; 1 the run failed and may be repeated; 2 wrong use, nothing written;
130 interrupted.
"""

import argparse
import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from tqdm import tqdm

from bae import logs
from bae.errors import BaeError, UseError

log = logging.getLogger(__name__)

PLAIN_EVERY_S = 10.0
"""Seconds between progress lines where there is no terminal."""


class Parser(argparse.ArgumentParser):
    """argparse with one line per mistake and a pasteable example in ``--help``."""

    def __init__(self, name: str, description: str, example: str) -> None:
        """Name the job as it is called: ``python -m jobs.<name>``."""
        super().__init__(
            prog=f"python -m jobs.{name}",
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print the mistake and where help is, and exit with 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def run(
    parser: argparse.ArgumentParser,
    job: Callable[[argparse.Namespace], None],
    argv: Sequence[str] | None,
) -> int:
    """Parse the flags, do the job, and turn our errors into a sentence and an exit code.

    ``ray job stop``, a container's end and ``kill`` (SIGTERM) are taken as Ctrl-C.

    Args:
        parser: the job's flags; its ``prog`` ends with the job's name.
    """
    options = parser.parse_args(argv)
    name = parser.prog.rpartition(".")[2]
    try:
        with _terminate_as_interrupt():
            logs.setup()
            logs.bind(job=name, run_id=None)  # the demo runs jobs one after the other
            log.info("begins")
            job(options)
            log.info("done")
    except BaeError as error:
        if logs.as_json():
            log.error("%s", error)
        print(f"error: {error}", file=sys.stderr, flush=True)  # last: schedulers show it
        return 2 if isinstance(error, UseError) else 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C while inside; only the main thread can ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


class Progress:
    """A bar on a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, total: int, what: str, unit: str) -> None:
        """Begin at 0 of ``total``."""
        self._what, self._unit, self._total, self._done = what, unit, total, 0
        self._plain = not sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=what, unit=f" {unit}", disable=self._plain, leave=False)
        self._start = self._said = time.monotonic()

    def add(self, count: int) -> None:
        """Advance by ``count``."""
        self._done += count
        self._bar.update(count)
        if self._done >= self._total:
            self._bar.close()  # now, while stderr is what it was: Ray's session may end before us
        now = time.monotonic()
        if self._plain and now - self._said > PLAIN_EVERY_S:
            self._said = now
            rate = self._done / (now - self._start)
            say(f"{self._what}: {self._done} of {self._total} {self._unit}, {rate:.1f} per second")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def duration(seconds: float) -> str:
    """Return a time in the unit that people would say it in."""
    for unit, length, most in (("s", 1, 90), ("minutes", 60, 90), ("hours", 3600, 36)):
        if seconds < most * length:
            return f"{seconds / length:.{int(seconds < 10 * length and length > 1)}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def say(line: str) -> None:
    """Show one line of progress where a bar would not tell enough."""
    if logs.as_json():
        log.info("%s", line)
    else:
        print(line, file=sys.stderr, flush=True)

"""One run at a time on one set of tables.

The lease is a row of numbered objects ``<tables>/restricted/lease/000007.json``; the
highest number holds. To take it means creating the next number, which only one of
several can do (``storage.create``), so no clock and no server-side lock is needed.
The holder rewrites its object every few seconds. A holder that was silent for
``STALE_S``, or whose process is gone from this very machine, may be followed by the
next number; it finds that out by ``Lease.check`` before it commits anything.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bae import storage
from bae.errors import LockedError, StorageError
from bae.tables import contract, delta

BEAT_S = 10.0
"""Seconds between two signs of life."""
STALE_S = 60.0
"""Seconds of silence after which a lease may be taken over."""

_log = logging.getLogger(__name__)


@dataclass
class Lease:
    """A lease that is held; ``check`` before every commit.

    Attributes:
        number: its fencing number; the highest holds.
    """

    uri: str
    number: int
    run_id: str
    _last_beat: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Make sure that nobody else has taken over.

        Raises:
            LockedError: the lease was taken over, or could not be renewed for too long.
        """
        folder = self.uri.rsplit("/", 1)[0]
        if max(_numbers(folder), default=0) != self.number:
            raise LockedError(
                "another run took these tables over while this one was silent; "
                "nothing more is written, run again to finish what is left"
            )
        if time.monotonic() - self._last_beat > STALE_S:
            raise LockedError(
                f"this run could not renew its hold on the tables for {STALE_S:.0f} s; "
                "run again to finish what is left"
            )

    def _beat(self) -> None:
        storage.write_bytes(self.uri, _note(self.run_id, released=False))
        self._last_beat = time.monotonic()

    def _beat_until_stopped(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._beat()
            except StorageError as error:
                _log.warning("could not renew the hold on the tables: %s", error)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The last lease, as one finds it who does not want the tables.

    Attributes:
        run_id, host: whose it is or was.
        state: ``released``; ``gone`` (its process is, on this machine: it was killed); ``silent``
            for longer than ``STALE_S``; or ``held``.
        beat: its last sign of life, seconds since 1970 by its machine's clock.
    """

    run_id: str
    host: str
    state: str
    beat: float


def last(tables_uri: str) -> Seen | None:
    """Return the last lease of some tables without taking it; None where there was none yet."""
    folder = storage.join(storage.normal(tables_uri), contract.LEASE)
    number = max(_numbers(folder), default=0)
    if not number:
        return None
    note = _read(_name(folder, number))
    state = "silent" if time.time() - note["beat"] > STALE_S else "held"
    if note["released"] or _process_is_gone(note):
        state = "released" if note["released"] else "gone"
    return Seen(run_id=note["run_id"], host=note["host"], state=state, beat=note["beat"])


@contextmanager
def hold(tables_uri: str, run_id: str) -> Iterator[Lease]:
    """Hold the tables for one run; others get a ``LockedError`` meanwhile.

    Args:
        run_id: shown to whoever finds the tables held.

    Raises:
        LockedError: another run holds the tables, and gave a sign of life lately.
        UseError: no tables can lie at this place, or it cannot be written; no lease is there.
    """
    storage.check_writable(delta.uri(tables_uri, delta.LAST))
    lease = _take(storage.join(storage.normal(tables_uri), contract.LEASE), run_id)
    thread = threading.Thread(target=lease._beat_until_stopped, name="bae-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease._stop.set()
        thread.join()
        try:
            # deltalake writes its files by the umask; every writer of tables passes here
            storage.keep_private(storage.join(storage.normal(tables_uri), contract.RESTRICTED))
            storage.write_bytes(lease.uri, _note(run_id, released=True))
        except StorageError as error:
            _log.warning("could not release the tables: %s", error)


def _take(folder: str, run_id: str) -> Lease:
    last = max(_numbers(folder), default=0)
    if last:
        _require_free(_name(folder, last))
    if not storage.create(_name(folder, last + 1), _note(run_id, released=False)):
        raise LockedError("another run took the tables at the same moment; try again later")
    lease = Lease(uri=_name(folder, last + 1), number=last + 1, run_id=run_id)
    for old in _numbers(folder):
        if old < last:
            storage.delete(_name(folder, old))
    return lease


def _require_free(uri: str) -> None:
    """Return if the lease at ``uri`` is released or stale, else raise."""
    note = _read(uri)
    if note["released"] or _process_is_gone(note):
        return
    silent_s = time.time() - note["beat"]
    if silent_s > STALE_S:
        # Clocks of two machines may differ: believe in silence only after listening.
        time.sleep(2 * BEAT_S)
        if _read(uri) == note:
            return
        silent_s = 0.0
    raise LockedError(
        f"run {note['run_id']} holds these tables (last sign of life {max(silent_s, 0):.0f} s "
        f"ago); wait for it, or until it has been silent for {STALE_S:.0f} s"
    )


def _process_is_gone(note: dict[str, Any]) -> bool:
    """Say whether the holder ran where this process runs and no longer exists."""
    if note.get("where") is None or note["where"] != _where():
        return False
    try:
        os.kill(note["pid"], 0)
    except OSError as error:  # PermissionError: it is somebody else's, and there
        return isinstance(error, ProcessLookupError)
    return False


def _where() -> str | None:
    """Return where a process's number means one process: this boot, this PID namespace.

    A host's name does not do: two containers may share it and see nothing of each other.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _note(run_id: str, *, released: bool) -> bytes:
    note = {
        "run_id": run_id,
        "host": socket.gethostname(),
        "where": _where(),
        "pid": os.getpid(),
        "beat": time.time(),
        "released": released,
    }
    return json.dumps(note).encode()


def _read(uri: str) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(storage.read_bytes(uri))
    return note


def _name(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:06d}.json")


def _numbers(folder: str) -> list[int]:
    if not storage.exists(folder):
        return []
    names = storage.list_objects(folder)["object_uri"].to_pylist()
    return [int(name.rsplit("/", 1)[1].removesuffix(".json")) for name in names]

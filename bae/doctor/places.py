"""Can a place be read, written, and an object created only where there is none?

What a place can do shows by trying only, so a probe object is written below the tables and
removed again. (Where a bucket keeps old versions, the probe's stay as long as others do.)
"""

import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

from bae import storage
from bae.doctor.finding import Finding, fail, ok, warn
from bae.errors import ObjectError, StorageError
from bae.tables import contract, delta, lease, nights

PROBE = ".doctor-"
"""How the name of a probe begins; listings pass over it."""
SKEW_S = 30.0
"""Seconds that two clocks may differ."""
_TRIED = 5


def archive(uri: str) -> Finding:
    """See that an archive holds objects and gives one; it is never written.

    Raises:
        StorageError: it cannot be reached or listed.
    """
    about, names = "archive read", storage.some(uri, _TRIED)
    if not names:
        return fail(about, f"{uri} holds no objects", "check its place")
    why = ""
    for name in names:
        try:
            storage.read_bytes(name, 0, 1)
            return ok(about, f"{uri} is listed, and gives an object")
        except ObjectError as error:
            why = error.message
    return fail(
        about,
        f"{uri} is listed, but gives none of its first {len(names)} objects ({why})",
        "let this user read objects",
    )


def tables(uri: str) -> list[Finding]:
    """See what the tables' place can do, and what its clock says.

    Raises:
        StorageError: it cannot be reached or written, or the probe could not be removed.
    """
    storage.check_writable(delta.uri(uri, delta.LAST))  # as the lease does
    restricted = _probed(uri, contract.RESTRICTED, "restricted/")
    return [*restricted, *_probed(uri, contract.COHORT, "cohort/")[:1]]


def clock(skew_s: float, latest: datetime | None, now: datetime) -> Finding:
    """Judge a clock.

    Args:
        skew_s: by how much the storage's clock is ahead of this machine's, seconds.
        latest: the last time that somebody noted in the tables.
        now: by this machine's clock.
    """
    about, remedy = "clock", "let NTP set the clocks"
    if abs(skew_s) > SKEW_S:
        which = "ahead of" if skew_s > 0 else "behind"
        return warn(about, f"the storage's is {abs(skew_s):.0f} s {which} this machine's", remedy)
    behind = (latest - now).total_seconds() if latest else 0.0
    if behind > SKEW_S:
        return warn(about, f"{behind:.0f} s behind what the last run has noted", remedy)
    return ok(about, f"{now:%Y-%m-%d %H:%M} UTC, the storage's within {abs(skew_s):.0f} s")


def _probed(uri: str, area: str, said: str) -> list[Finding]:
    """Try a part of the tables; return what it can do, and the clock."""
    about, name = f"{said} written", _probe(storage.join(storage.normal(uri), area))
    before = time.time()
    if not storage.create(name, b"1"):
        return [fail(about, "a new object was said to be there", "use another file system")]
    after = time.time()
    try:
        if storage.create(name, b"2"):
            return [
                fail(
                    about,
                    "an object was created twice, so two runs could write these tables at once",
                    "use a file system with hard links, or a server that knows If-None-Match",
                )
            ]
        if storage.read_bytes(name) != b"1":
            return [fail(about, "an object is not read as written", "use another place")]
        skew = storage.written_at(name).timestamp() - (before + after) / 2
        storage.write_bytes(name, b"3")
    finally:
        _removed(name)
    found = ok(about, "created where there was none, read, replaced and removed a probe object")
    return [found, clock(skew, _latest(uri), datetime.now(UTC))]


def _probe(place: str) -> str:
    """Return a new name there; locally in the nearest folder that is there, so as to make none."""
    name = PROBE + secrets.token_hex(8)
    if storage.is_s3(place):
        return storage.join(place, name)
    folder = Path(place)
    while not folder.exists():
        folder = folder.parent
    return storage.join(str(folder), name)


def _removed(name: str) -> None:
    """Remove the probe.

    Raises:
        StorageError: it stays; nights delete what they no longer need, so they would fail.
    """
    try:
        storage.delete(name)
    except StorageError as error:
        raise StorageError(f"{error}; the probe {name} stays: delete it") from error


def _latest(uri: str) -> datetime | None:
    """Return the last time that a run has noted in the tables, by its machine's clock."""
    seen = lease.last(uri)
    noted = [night.ended for night in nights.last(uri, 1)]
    noted += [datetime.fromtimestamp(seen.beat, UTC)] if seen else []
    return max(noted, default=None)

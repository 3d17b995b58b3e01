"""How the last nights went: one small object each, ``<tables>/restricted/nights/<begun>.json``.

It is written when a run over an archive ends, well or badly; one that was killed leaves none, and
its lease tells so. It holds counts, times and the sentence of a failure, nothing of an object or a
person. The newest ``KEPT`` stay.
"""

import json
import logging
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

from bae import storage
from bae.errors import BaeError, StorageError
from bae.tables import contract

KEPT = 30
"""How many nights are remembered."""
_OF_RATE = 5
"""The last so many nights that read something say how long the next one takes."""
_FURTHER = 4
"""Times as many objects as a night has read, for which its rate is believed."""
_FORM = "%Y%m%dT%H%M%S%fZ"

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Night:
    """What one run over an archive came to; filled in while it goes.

    Attributes:
        job: ``index`` or ``predict``.
        begun_at, ended_at: as in ``20261124T203859123456Z``.
        run_id: the run, as in every row; None where nothing was left to do.
        objects: read by this job, in ``reading_s`` of its ``seconds``.
        scans: added to the tables by the run, beside ``refused`` objects.
        failed: why it ended badly, in one sentence; empty where it did not.
    """

    job: str
    model_id: str | None
    begun_at: str
    ended_at: str = ""
    run_id: str | None = None
    objects: int = 0
    scans: int = 0
    refused: int = 0
    reading_s: float = 0.0
    seconds: float = 0.0
    failed: str = ""

    @property
    def ended(self) -> datetime:
        """Return when it ended, by the clock of the machine it ran on."""
        return datetime.strptime(self.ended_at, _FORM).replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long a run takes.

    Attributes:
        nights: how many the rate is of.
        at_most: the nights read so few objects that most of their time was starting.
    """

    seconds: float
    nights: int
    at_most: bool


@contextmanager
def kept(tables_uri: str, job: str, model_id: str | None) -> Iterator[Night]:
    """Remember what happens inside the ``with`` block; hold the lease around it.

    No night fails because it cannot be remembered.
    """
    night = Night(job=job, model_id=model_id, begun_at=f"{datetime.now(UTC):{_FORM}}")
    start = time.monotonic()
    try:
        yield night
    except BaseException as error:
        night.failed = _said(error)
        raise
    finally:
        night.ended_at = f"{datetime.now(UTC):{_FORM}}"
        night.seconds = time.monotonic() - start
        try:
            place = storage.join(_folder(tables_uri), f"{night.begun_at}.json")
            storage.write_bytes(place, json.dumps(asdict(night)).encode())
            for old in _names(tables_uri)[:-KEPT]:
                storage.delete(old)
        except StorageError as error:
            _log.warning("could not remember how this night ended: %s", error)


def last(tables_uri: str, count: int = KEPT) -> list[Night]:
    """Return the last nights, oldest first; empty where none is remembered."""
    known = {field.name for field in fields(Night)}
    nights = []
    for name in _names(tables_uri)[-count:]:
        told = json.loads(storage.read_bytes(name))
        nights.append(Night(**{key: told[key] for key in known & told.keys()}))
    return nights


def estimate(
    nights: Sequence[Night], job: str, model_id: str | None, objects: int
) -> Estimate | None:
    """Return how long so many objects take, None where no night has read any.

    What nights took beside reading, in the median, and the time of an object in all of them
    together. Nights of this model say it, or of any where it has none yet.
    """
    read = [night for night in nights if night.job == job and night.objects]
    read = [night for night in read if night.model_id == model_id] or read
    read = read[-_OF_RATE:]
    if not read:
        return None
    beside = statistics.median(night.seconds - night.reading_s for night in read)
    each = sum(night.reading_s for night in read) / sum(night.objects for night in read)
    return Estimate(
        seconds=beside + objects * each,
        nights=len(read),
        at_most=objects > _FURTHER * max(night.objects for night in read),
    )


def _said(error: BaseException) -> str:
    if isinstance(error, BaeError):
        return str(error)
    return "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__


def _folder(tables_uri: str) -> str:
    return storage.join(storage.normal(tables_uri), contract.NIGHTS)


def _names(tables_uri: str) -> list[str]:
    folder = _folder(tables_uri)
    if not storage.exists(folder):
        return []
    return [str(name) for name in storage.list_objects(folder)["object_uri"].to_pylist()]

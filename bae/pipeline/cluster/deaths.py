"""Who died with which part in hand, and what becomes of such a part.

Ray tries a part again when its worker has died, in a task or an actor, for ever: the run would
wait for its patience to end. So a worker says which part it takes up and when it lets go of it,
by success or error alike. One that took a part up and never let go has died of it, or beside it:
its whole node may have gone. What raises an error, such as a store that is out of reach, is no
death.

Blame is only a suspicion. A part that workers died with comes back as lost, ``survive`` cuts it
into smaller ones and tries these alone, and at the end each single object once more with nothing
else in the whole job. Only who dies then has died of it. An object that takes the job along, too,
is found by notes in the run's folder: whatever was in hand when a job vanished is blamed by the
next one.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bae import storage

if TYPE_CHECKING:
    from bae.pipeline.step import PartDone

MOST_DEATHS = 2
"""Workers, or whole jobs, that may die with a part in hand before nobody takes it up again."""

PIECES = 8
"""Into how many a lost part is cut: of 64 objects the culprit is alone after two rounds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Deaths that outlive the job: a JSON list with a part's number for each.

    Attributes:
        before: deaths in earlier jobs. Behind these stands what is in hand now, which the job
            takes away again unless it vanishes.
    """

    uri: str
    before: tuple[int, ...] = ()

    @classmethod
    def of(cls, folder: str) -> tuple[Notes, bool]:
        """Return what earlier jobs over a folder left, and whether there was one."""
        uri = cls.place(folder)
        data = storage.read_or_none(uri)
        if data is None:  # the next job shall see that there was one
            storage.write_bytes(uri, b"[]")
        return cls(uri=uri, before=tuple(json.loads(data or b"[]"))), data is not None

    @staticmethod
    def place(folder: str) -> str:
        """Return where the notes of a folder lie."""
        return storage.join(folder, "in-hand.json")

    def write(self, in_hand: Collection[int] = ()) -> None:
        """Note what would be to blame if the job vanished now."""
        text = json.dumps([*self.before, *sorted(set(in_hand))])
        storage.write_bytes(self.uri, text.encode())


class Ledger:
    """Parts in hand, and deaths of each part. Plain Python: ``open_ledger`` makes it an actor."""

    def __init__(self, notes: Notes | None = None) -> None:
        """Begin empty; with notes, write down what is in hand at every change."""
        self._notes = notes
        self._in_hand: set[tuple[int, str]] = set()
        self._deaths = Counter[int]()

    def begin(self, part: int, stage: str) -> bool:
        """Note that a worker takes a part up; say whether it may."""
        if (part, stage) in self._in_hand:
            self._in_hand.remove((part, stage))
            self._deaths[part] += 1
        may = self._deaths[part] < MOST_DEATHS
        if may:
            self._in_hand.add((part, stage))
        self._write()
        return may

    def end(self, part: int, stage: str) -> None:
        """Note that the worker lives and has let go of the part."""
        self._in_hand.discard((part, stage))
        self._write()

    def _write(self) -> None:
        if self._notes is not None:
            self._notes.write([part for part, _ in self._in_hand])


def open_ledger(notes: Notes | None = None) -> Any:
    """Start the ledger's actor beside the driver, so that it goes with the job and not before."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0)(Ledger)
    # should that node go all the same, it begins anew elsewhere: counts are lost, no part is
    again = {"max_restarts": -1, "max_task_retries": -1}
    return actor.options(scheduling_strategy=here, **again).remote(notes)


@contextmanager
def in_hand(ledger: Any, part: int, stage: str) -> Iterator[bool]:
    """Say whether this worker may take a part up, and keep the ledger while it has it.

    Args:
        ledger: what ``open_ledger`` returned; None: any part may be taken up.
        stage: which of the part's workers this is; each lets go for itself.
    """
    if ledger is None:
        yield True
        return
    if not ray.get(ledger.begin.remote(part, stage)):
        yield False
        return
    try:
        yield True
    finally:
        ray.get(ledger.end.remote(part, stage))


class Work(Protocol):
    """Numbered parts whose results are kept somewhere, so that what is left can be told."""

    @property
    def uri(self) -> str:
        """Return the folder for notes."""

    def remaining(self) -> dict[int, pa.Table]:
        """Return the parts without a result."""

    def cut(self, pieces: Mapping[int, int]) -> list[int]:
        """Replace parts by so many pieces each; return the pieces' numbers."""

    def refuse(self, number: int, objects: pa.Table) -> PartDone:
        """Give up a part of one object, which ends its workers."""


def survive(work: Work, run: Callable[..., Iterator[PartDone]]) -> Iterator[PartDone]:
    """Do what is left of some work; a part that kills its workers costs one object.

    Args:
        work: what to do.
        run: ``parts.run_parts`` but for its parts, ``notes`` and ``alone``.

    Yields:
        Each part that is done or refused, in no particular order.
    """
    notes, vanished = Notes.of(work.uri)
    try:
        yield from _survive(work, run, notes, vanished)
    except (KeyboardInterrupt, GeneratorExit):
        notes.write()  # whoever ends us, it was no object
        raise


def _survive(
    work: Work, run: Callable[..., Iterator[PartDone]], notes: Notes, vanished: bool
) -> Iterator[PartDone]:
    jobs, left = Counter(notes.before), work.remaining()
    suspects = {n for n in left if jobs[n] >= (1 if left[n].num_rows == 1 else MOST_DEATHS)}
    others = {number: left[number] for number in left.keys() - suspects}
    # notes cost requests for each part: only once a job has vanished, and where little is left
    suspects |= yield from _tried(work, run, others, notes=notes if vanished else None)
    while suspects:
        log.warning("%d parts ended their workers; cut and tried alone", len(suspects))
        left = work.remaining()
        single = {number for number in suspects if left[number].num_rows == 1}
        for number in sorted(single):
            one = {number: left[number]}
            died = jobs[number] >= MOST_DEATHS
            if died or (yield from _tried(work, run, one, notes=notes, alone=True)):
                yield work.refuse(number, left[number])
        # each job that vanishes may cost a night: nothing between such a part and its objects
        pieces = {n: left[n].num_rows if jobs[n] else PIECES for n in sorted(suspects - single)}
        made, left = work.cut(pieces), work.remaining()
        cut = {number: left[number] for number in made}
        suspects = yield from _tried(work, run, cut, notes=notes, alone=True)


def _tried(
    work: Work, run: Callable[..., Iterator[PartDone]], parts: Mapping[int, pa.Table], **how: Any
) -> Generator[PartDone, None, set[int]]:
    """Yield each part that is done; return the numbers of those that are lost."""
    lost = set()
    for done in run(parts, **how) if parts else ():
        if done.lost:
            lost.add(done.number)
        else:
            yield done
    return lost & work.remaining().keys() if lost else lost  # not stored, then died of

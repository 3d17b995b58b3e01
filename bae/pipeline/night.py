"""One run over an archive: list, compare, read, (score,) publish. Index and nightly job alike.

Neither Ray nor torch is imported before there is something to read: a night with nothing new
would take three times as long.
"""

import contextlib
import functools
import logging
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from bae import logs
from bae.archive import labels, privacy, refusals
from bae.archive.label_words import Habits
from bae.errors import LabelsError, RunError, TooManyRejectedError, after_writing
from bae.method import card
from bae.pipeline import plan, relabel
from bae.pipeline.rows import Index, killer
from bae.pipeline.score import Score
from bae.pipeline.step import PATIENCE_S, PartDone, Reading, Resources
from bae.tables import current, delta, lease, nights, publish, runs, settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to do.

    Attributes:
        model_uri: the model to score with; None to index only.
        inventory_uri: manifest of an S3 Inventory to use in place of a listing, or None.
        labels_uri: CSV or Parquet of ages and sexes, see ``archive.labels``; None: headers.
        label_habits: how values of that file are meant that could mean two things.
        age_decimals: of ages in ``cohort/``, see ``tables.settings``; None: as they are.
        max_rejected: share of read objects that may be refused before the run counts as failed;
            those refused once more are left out.
        retry_rejected: codes whose objects are tried again now, beside those that are anyway.
        patience_s: seconds without a finished part after which the run fails.
    """

    archive_uri: str
    tables_uri: str
    model_uri: str | None = None
    inventory_uri: str | None = None
    labels_uri: str | None = None
    label_habits: Habits = field(default_factory=Habits)
    age_decimals: int | None = None
    max_rejected: float = 0.5
    retry_rejected: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run came to.

    Attributes:
        run_id: the run, as in every row it published; None where nothing was left to do.
        refused: code to count; of the whole run, an earlier attempt's parts included.
        retried: objects refused before, and tried again by this run.
        rows: table to rows added.
        labels: what the labels file matched, in one sentence; None without one.
        labels_read_as: how its separators, letters, dates, ... were understood, in one phrase.
        corrected: rows of ages that other facts of their scans changed.
        seconds: from listing to publishing.
    """

    run_id: str | None
    listed: int
    done_before: int
    scans: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    labels: str | None = None
    labels_read_as: str | None = None
    corrected: int = 0
    seconds: float = 0.0


def run(
    request: Request,
    on_start: Callable[[int], None] = lambda objects: None,
    on_part: Callable[[PartDone], None] = lambda done: None,
) -> Summary:
    """Bring the tables up to date with the archive.

    The same call after a fault goes on with the parts that are missing; with nothing
    left to do it reads no object.

    ``on_start`` is called with the number of objects to read, before reading.

    Raises:
        UseError: archive missing or empty, labels or model unusable; nothing was written.
        LockedError: another run holds the tables.
        TooManyRejectedError: after publishing; the rejects table says why.
    """
    start = time.monotonic()
    model_id = None if request.model_uri is None else card.load_whole(request.model_uri).model_id
    key = privacy.load_key()
    reading = Reading.of(request.tables_uri, request.age_decimals, key)
    known = (
        labels.load(request.labels_uri, key, request.label_habits) if request.labels_uri else None
    )
    reading = replace(reading, labels=known)
    listing = plan.listed(request.archive_uri, request.inventory_uri)
    retry = plan.retry(request.retry_rejected)
    job = "index" if model_id is None else "predict"
    with contextlib.ExitStack() as entered:
        entered.enter_context(_ready(request, listing, model_id, retry))
        held = entered.enter_context(lease.hold(request.tables_uri, job))
        settings.keep(request.tables_uri, reading.settings)
        kept = entered.enter_context(nights.kept(request.tables_uri, job, model_id))
        with after_writing():
            _mark(request, listing, held)
            todo = runs.todo(request.tables_uri, listing, model_id, retry)
            begun = runs.unfinished_of(request.tables_uri, request.archive_uri, model_id)
            if todo.num_rows or begun:
                begun = _read(request, reading, todo, kept, on_start, on_part)
        said, relabelled = _matched(request, known, key, begun, listing) if known else (None, None)
        with after_writing():
            retried = int(pc.sum(begun.objects()["retried"]).as_py() or 0) if begun else 0
            rows, refused = publish.finish(begun, held.check) if begun else ({}, Counter())
            if known and begun:  # rows that an earlier attempt staged had other labels
                relabelled, _ = relabel.scans(request.tables_uri, known)
            if relabelled is not None:
                relabel.change(request.tables_uri, relabelled, held.check)
            if begun:
                _mark(request, listing, held)
            corrected = current.tell_ages(request.tables_uri, reading.settings, held.check)
        summary = Summary(
            run_id=begun.run_id if begun else None,
            listed=listing.num_rows,
            done_before=listing.num_rows - todo.num_rows,
            scans=rows.get("cohort/ages" if model_id else "restricted/scans", 0),
            refused=refused,
            retried=retried,
            rows=rows,
            labels=said,
            labels_read_as=known.read_as if known else None,
            corrected=corrected,
            seconds=time.monotonic() - start,
        )
        kept.run_id, kept.scans = summary.run_id, summary.scans
        kept.refused = summary.refused.total()
        facts = {"scans": summary.scans, "refused": dict(summary.refused), "rows": rows}
        log.info("published", extra=facts | {"seconds": round(summary.seconds, 1)})
        # what is refused once more says nothing new of the archive, or of the night
        _check_refused(request, summary, publish.refused_again(begun) if begun and retried else 0)
    return summary


def _read(
    request: Request,
    reading: Reading,
    todo: pa.Table,
    kept: nights.Night,
    on_start: Callable[[int], None],
    on_part: Callable[[PartDone], None],
) -> runs.Run:
    """Store every part of the run that is left, or of a new one; return the run.

    ``kept`` learns how many objects were read, and in what time.
    """
    from bae.pipeline.cluster import deaths, session
    from bae.pipeline.cluster.resources import fitted
    from bae.pipeline.parts import run_parts

    with session.session():
        taken = fitted(request.resources)
        begun = runs.open_run(
            request.tables_uri,
            request.archive_uri,
            kept.model_id,
            todo,
            decoder_version=refusals.DECODER_VERSION,
        )
        left = begun.remaining()
        objects = sum(part.num_rows for part in left.values())
        logs.bind(run_id=begun.run_id)
        log.info("%d objects to read", objects, extra={"parts": len(left), **asdict(taken)})
        on_start(objects)
        step = Index(run=begun)
        if request.model_uri is not None:
            told = current.labelled(request.tables_uri, todo)
            step = Score(run=begun, model_uri=request.model_uri, told=told)
        tried = functools.partial(
            run_parts, reading=reading, step=step, resources=taken, patience_s=request.patience_s
        )
        kept.run_id, start = begun.run_id, time.monotonic()
        for done in deaths.survive(_Objects(begun), tried):
            log.info("part %d is stored", done.number, extra=asdict(done))
            kept.objects += left[done.number].num_rows if done.number in left else 0
            kept.reading_s = time.monotonic() - start
            on_part(done)
    return begun


def _mark(request: Request, listing: pa.Table, held: lease.Lease) -> None:
    where = request.tables_uri, request.archive_uri
    current.mark(*where, listing, held.check, refusals.TRANSIENT)


def _matched(
    request: Request,
    known: labels.Labels,
    key: bytes,
    begun: runs.Run | None,
    listing: pa.Table,
) -> tuple[str, pa.Table]:
    """Return what the labels matched, in one sentence, and the rows of the tables they change.

    Raises:
        LabelsError: nothing, or by different ways; the run is given up and no table changed.
    """
    changed, there = relabel.scans(request.tables_uri, known)
    staged = begun.label_keys() if begun else there.slice(0, 0)
    found = relabel.found([there, staged])
    try:
        found.check(known)
    except LabelsError:
        if begun and not publish.has_begun(begun):
            begun.remove()
        raise
    persons = {*there["person_key"].to_pylist(), *staged["person_key"].to_pylist()}
    names = set(listing["object_uri"].to_pylist())
    said = relabel.note_unmatched(request.tables_uri, known, found, persons, names, key)
    return said, changed


@dataclass(frozen=True)
class _Objects:
    """What is left of a run, as ``deaths.survive`` asks; a killer becomes a refusal of the run."""

    run: runs.Run

    @property
    def uri(self) -> str:
        """Return the run's folder."""
        return self.run.uri

    def remaining(self) -> dict[int, pa.Table]:
        """Return the parts without a staged result."""
        return self.run.remaining()

    def cut(self, pieces: Mapping[int, int]) -> list[int]:
        """Write a later to-do list with the pieces."""
        return self.run.cut(pieces)

    def refuse(self, number: int, objects: pa.Table) -> PartDone:
        """Stage the refusal."""
        self.run.store(number, killer(objects))
        return PartDone(number=number, scans=0, refused=objects.num_rows, seconds=0.0)


@contextlib.contextmanager
def _ready(
    request: Request, listing: pa.Table, model_id: str | None, retry: runs.Retry
) -> Iterator[None]:
    """Have what reading takes, where there is something to read: a Ray, and a model that loads.

    The model is loaded once here, so that a bad one is refused before anything is written, and
    in a process of its own: torch would take 0.5 GB of the driver for the whole night. Ray starts
    meanwhile.
    """
    begun = runs.unfinished_of(request.tables_uri, request.archive_uri, model_id)
    if not begun and not runs.todo(request.tables_uri, listing, model_id, retry).num_rows:
        yield
        return
    with contextlib.ExitStack() as checking, contextlib.ExitStack() as reading:
        if request.model_uri is not None:
            loading = checking.enter_context(
                ProcessPoolExecutor(
                    1,
                    multiprocessing.get_context("spawn"),
                    signal.signal,
                    (signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is for the driver
                )
            ).submit(_load, request.model_uri)
        from bae.pipeline.cluster import session

        reading.enter_context(session.session())
        if request.model_uri is not None:
            try:
                loading.result()
            except BrokenProcessPool as error:
                raise RunError("the process that checks the model was killed") from error
            checking.close()
        yield


def _load(model_uri: str) -> None:
    from bae.method import model  # torch, in the child alone

    model.check(model_uri)


def _check_refused(request: Request, summary: Summary, again: int) -> None:
    refused = summary.refused.total() - again
    read = refused + summary.scans
    if read and refused / read > request.max_rejected:
        worst = ", ".join(f"{code} {count}" for code, count in summary.refused.most_common(3))
        raise TooManyRejectedError(
            f"{refused} of {read} objects were refused ({worst}), more than --max-rejected "
            f"{request.max_rejected:g} allows; the rejects table in "
            f"{delta.uri(request.tables_uri, 'restricted/rejects')} says why"
        )

"""Bone scans from a DICOMweb server into an archive: ``<study>/<series>/<instance>.dcm``.

What is asked for is generous, since ``archive.dicom.rules`` decide when the objects are read, and
decide by headers that a search does not show: all objects of modality NM, whatever they are
called. Left where they are: what the same rules refuse by SOP class, frames and matrix alone.

An object is written once, whole, and only if its name is free; what is there is not fetched again.
So the same call after a fault goes on, and a call on the next day fetches what is new. Nothing is
kept but the archive itself.
"""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from fnmatch import fnmatchcase

from bae import storage
from bae.archive.dicom import rules
from bae.dicomweb import address, answers
from bae.dicomweb.answers import Item
from bae.dicomweb.server import Server
from bae.errors import ObjectError, StorageError, after_writing

FETCHED = "fetched"
THERE = "there before"
LEFT = "left at the server: no image, or larger than a whole-body scan"
BAD_UID = "a UID is missing or malformed"

MODALITY = "NM"

_UID = re.compile(r"\d+(\.\d+)*")


def run(
    source: Server,
    archive_uri: str,
    since: date | None = None,
    descriptions: Sequence[str] = (),
    connections: int = address.CONNECTIONS,
    on_start: Callable[[int], None] = lambda studies: None,
    on_study: Callable[[], None] = lambda: None,
) -> Counter[str]:
    """Fetch what the archive does not have, a few studies at a time.

    Memory holds the UIDs of all studies found and one object for each connection.

    Args:
        since: studies of this day and later; those without a date are then left out.
        descriptions: patterns (``*`` and ``?``, in any case of letters) of which a Study
            Description must match one; where the server tells none, the study is taken.

    Returns:
        ``FETCHED``, ``THERE``, ``LEFT``, or the reason why an object could not be had, to the
        number of objects.

    Raises:
        StorageError: the server or the archive is out of reach; nothing was written.
        RunError: the same, later.
    """
    archive = storage.normal(archive_uri)
    storage.check_writable(archive)
    studies = list(dict.fromkeys(_studies(source, since, descriptions)))
    on_start(len(studies))
    done: Counter[str] = Counter()
    with after_writing():
        for counts in _in_parallel(source, archive, studies, connections):
            done += counts
            on_study()
    return done


def failures(done: Counter[str]) -> Counter[str]:
    """Return what could not be had, by reason."""
    return done - Counter({kind: done[kind] for kind in (FETCHED, THERE, LEFT)})


def _studies(source: Server, since: date | None, descriptions: Sequence[str]) -> Iterator[str]:
    filters = {"ModalitiesInStudy": MODALITY}
    if since:
        filters["StudyDate"] = f"{since:%Y%m%d}-"
    patterns = [text.casefold() for text in descriptions]
    for item in source.studies(**filters):
        uid = answers.text(item, answers.STUDY)
        # matched here: servers differ in letters' case, and some in what %2A and %20 mean
        told = answers.text(item, answers.DESCRIPTION).casefold()
        if uid and (not told or not patterns or any(fnmatchcase(told, p) for p in patterns)):
            yield uid


def _in_parallel(
    source: Server, archive: str, studies: Sequence[str], connections: int
) -> Iterator[Counter[str]]:
    """Yield what became of each study in order, a few under way."""
    under_way: deque[Future[Counter[str]]] = deque()
    with ThreadPoolExecutor(connections, "bae-pull") as pool:
        try:
            for study in studies:
                if len(under_way) == 2 * connections:
                    yield under_way.popleft().result()
                under_way.append(pool.submit(_study, source, archive, study))
            while under_way:
                yield under_way.popleft().result()
        except BaseException:
            source.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _study(source: Server, archive: str, study: str) -> Counter[str]:
    """Fetch a study's objects one after the other."""
    done: Counter[str] = Counter()
    if not _sound(study):
        return Counter({BAD_UID: 1})
    there = _names(storage.join(archive, study))
    for item in source.instances(study, Modality=MODALITY):
        if source.stopped.is_set():
            raise StorageError("stopped")
        series, instance = (answers.text(item, tag) for tag in (answers.SERIES, answers.INSTANCE))
        name = f"{series}/{instance}.dcm"
        if not _sound(series) or not _sound(instance):
            done[BAD_UID] += 1
        elif name in there:
            done[THERE] += 1
        elif _no_scan(item):
            done[LEFT] += 1
        else:
            try:
                data = source.fetch(study, series, instance)
            except ObjectError as error:
                done[error.message] += 1
                continue
            written = storage.create(storage.join(archive, study, name), data)
            done[FETCHED if written else THERE] += 1
    return done


def _names(folder: str) -> set[str]:
    """Return ``<series>/<instance>.dcm`` of what is there of a study."""
    if not storage.exists(folder):
        return set()
    uris = storage.list_objects(folder)["object_uri"].to_pylist()
    return {uri[len(folder) + 1 :] for uri in uris}


def _sound(uid: str) -> bool:
    """Say whether a UID is one, for it becomes a part of a path; strays of zeros are usual."""
    return len(uid) <= 64 and _UID.fullmatch(uid) is not None


def _no_scan(item: Item) -> bool:
    """Say whether the rules would refuse an object by what a search tells of it."""
    modality = answers.text(item, answers.MODALITY)
    frames, *sides = (_number(item, tag) for tag in (answers.FRAMES, answers.ROWS, answers.COLUMNS))
    return (
        modality not in ("", MODALITY)  # a server may pass over what it cannot match
        or answers.text(item, answers.SOP_CLASS).startswith(rules.NO_IMAGE_CLASSES)
        or frames > rules.MOST_FRAMES
        or max(sides) > rules.LARGEST_SIDE
    )


def _number(item: Item, tag: str) -> int:
    text = answers.text(item, tag)
    return int(text) if text.isdigit() else 0

"""Which predictions have no DICOM export yet, and making them.

An export is three objects, ``<scan_id>-<model_id>-sr.dcm``, ``-sc.dcm`` and ``-pdf.dcm``
(``-2-sr.dcm`` for the second object of a scan, and so on). A prediction that lacks one of them is
exported again, so a killed export is completed by the same call.

To a DICOMweb server a scan's three objects go in one request. That it has them is noted among the
exports of the tables, ``-sent-<server>.txt``, so that erasure finds it; killed in between, the
same call sends the same bytes under the same UIDs again.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayError

from bae import storage
from bae.archive.dicom import decode
from bae.archive.sandbox import Decoder
from bae.dicomweb import address
from bae.dicomweb.server import Server
from bae.errors import RunError, ScanError
from bae.evaluation.pages import Row
from bae.pipeline import reread
from bae.pipeline.cluster import resources, session
from bae.report.dicom import document, picture, source, sr
from bae.tables import current, delta, lease
from bae.tables.contract import EXPORTS

REPORT, PICTURE, DOCUMENT = "sr.dcm", "sc.dcm", "pdf.dcm"
_MADE = {
    PICTURE: picture.picture,
    DOCUMENT: document.document,
    REPORT: sr.structured_report,
}

WRITTEN = "written"
NO_DICOM = "source is no DICOM object"
NOT_THERE = "source is gone, replaced or out of reach"
NO_REFERENCE = "source has no valid UIDs to refer to"
REFUSED = "the server does not take it"
"""And why: the code of a Failure Reason (PS3.18 annex I.2), or an HTTP status."""


_Put = Callable[[Row, dict[str, bytes]], str]
"""Brings a scan's objects to where they go; returns ``WRITTEN`` or the reason why not."""


def folder(tables_uri: str) -> str:
    """Return where exports go unless another place is named."""
    return storage.join(storage.normal(tables_uri), EXPORTS)


def name(row: Row, model_id: str, kind: str) -> str:
    """Return the name of one export of a scan."""
    version = "" if row["object_version"] == 1 else f"-{row['object_version']}"
    return f"{row['scan_id']}-{model_id}{version}-{kind}"


def missing(tables_uri: str, archive_uri: str, model_id: str, target: str) -> list[Row]:
    """Return the scans of an archive that a model has scored and that are not exported yet.

    Of ``restricted/scans`` what ``reread`` asks for, each scan's newest object that is still
    there; objects of one zip file next to each other.
    """
    there, kinds = set(), list(_MADE)
    noted = target
    if address.is_one(target):
        noted, kinds = folder(tables_uri), [_sent(target)]
    if storage.exists(noted):
        names = storage.list_objects(noted)["object_uri"].to_pylist()
        there = {uri.rsplit("/", 1)[1] for uri in names}
    with delta.storage_errors("look up what to export"):
        found = delta.ask(
            """
            SELECT scan_id, object_version, object_uri, source_uri, etag, age_years, sex, views,
                   pixel_mm, pixel_column_mm, indexed_at
            FROM scans SEMI JOIN (FROM ages WHERE model_id = $model) AS scored
                USING (scan_id, object_version)
            WHERE starts_with(source_uri, $archive || '/')
            ORDER BY source_uri, object_uri""",
            {"model": model_id, "archive": storage.normal(archive_uri)},
            scans=current.scans(tables_uri),
            ages=delta.dataset(tables_uri, "cohort/ages"),
        )
    return [
        row
        for row in found.to_pylist()
        if not all(name(row, model_id, kind) in there for kind in kinds)
    ]


def _sent(target: str) -> str:
    return f"sent-{address.mark(target)}.txt"


def write(tables_uri: str, model_id: str, target: str, scans: Sequence[Row]) -> Counter[str]:
    """Export some scans; a second time it replaces the same objects by the same bytes.

    Args:
        target: a place, or a DICOMweb server.

    Returns:
        ``WRITTEN`` or the reason why not, to the number of scans.
    """
    told = {table: _rows(tables_uri, table, model_id, scans) for table in _TOLD}
    done: Counter[str] = Counter()
    to_server = address.is_one(target)
    put = _sender(tables_uri, model_id, target) if to_server else partial(_keep, model_id, target)
    sources = defaultdict(list)
    for row in scans:
        sources[row["source_uri"], row["etag"]].append(row)
    with Decoder() as decoder:
        for (source_uri, etag), rows in sources.items():
            wanted = {row["object_uri"]: row for row in rows}
            for object_uri, data in reread.contents(source_uri, etag, wanted, decoder):
                row = wanted.pop(object_uri)
                mine = [told[table][row["scan_id"], row["object_version"]] for table in _TOLD]
                done[_write(row, put, decoder, data, mine)] += 1
            done[NOT_THERE] += len(wanted)
    return +done


_TOLD = ("cohort/ages", "cohort/boxes", "cohort/heatmaps")


def _rows(
    tables_uri: str, table: str, model_id: str, scans: Sequence[Row]
) -> defaultdict[tuple[str, int], list[Row]]:
    """Return a table's rows of some scans, by scan and version."""
    wanted = pc.field("scan_id").isin(pa.array([row["scan_id"] for row in scans], pa.string()))
    wanted &= pc.field("model_id") == model_id
    found = defaultdict(list)
    for row in delta.dataset(tables_uri, table).to_table(filter=wanted).to_pylist():
        found[row["scan_id"], row["object_version"]].append(row)
    return found


def _write(row: Row, put: _Put, decoder: Decoder, data: bytes, told: list[list[Row]]) -> str:
    if not decode.sniff(data):
        return NO_DICOM
    scan = reread.as_indexed(data, row, decoder)
    if scan is None:
        return NOT_THERE
    [age], boxes, heatmaps = told
    # cohort/ knows the month only; a report must not be dated before its scan was there
    age = age | {"predicted_at": max(age["predicted_at"], row["indexed_at"])}
    try:
        shown = source.page(data, scan, age, boxes, heatmaps)
    except ScanError:
        return NO_REFERENCE
    return put(row, {kind: make(shown) for kind, make in _MADE.items()})


def _keep(model_id: str, target: str, row: Row, made: dict[str, bytes]) -> str:
    for kind, data in made.items():
        storage.write_bytes(storage.join(target, name(row, model_id, kind)), data)
    return WRITTEN


def _sender(tables_uri: str, model_id: str, target: str) -> _Put:
    """Return what stores a scan's objects at a server and notes that they are there."""
    server = Server(target)

    def send(row: Row, made: dict[str, bytes]) -> str:
        refused = server.store(list(made.values()))
        if refused:
            return f"{REFUSED} ({', '.join(sorted(set(refused.values())))})"
        note = storage.join(folder(tables_uri), name(row, model_id, _sent(target)))
        storage.write_bytes(note, f"{server.url}\n".encode())
        return WRITTEN

    return send


PIECE = 16
"""Scans per task: about half a minute of work, repeated at most if a worker is killed."""


def run(
    tables_uri: str,
    archive_uri: str,
    model_id: str,
    target: str,
    on_start: Callable[[int], None] = lambda scans: None,
    on_piece: Callable[[int], None] = lambda scans: None,
) -> Counter[str]:
    """Write what is missing; the same call after a fault goes on with the rest.

    Returns:
        ``exports.WRITTEN`` or the reason why not, to the number of scans.

    Raises:
        LockedError: another run holds the tables.
        StorageError: a place or the server is out of reach.
    """
    done: Counter[str] = Counter()
    with lease.hold(tables_uri, "export") as held:
        left = missing(tables_uri, archive_uri, model_id, target)
        pieces = [left[i : i + PIECE] for i in range(0, len(left), PIECE)]
        on_start(len(left))
        for piece in _done(tables_uri, model_id, target, pieces):
            held.check()
            on_piece(piece.total())
            done += piece
    return done


def _done(
    tables_uri: str, model_id: str, target: str, pieces: list[list[Row]]
) -> Iterator[Counter[str]]:
    """Yield what became of each piece in order, as many under way as there are CPUs."""
    if len(pieces) < 2:  # not worth starting Ray for
        yield from (write(tables_uri, model_id, target, piece) for piece in pieces)
        return
    with session.session():
        under_way: deque[ray.ObjectRef] = deque()
        for piece in pieces:
            if len(under_way) == resources.cpus():
                yield _result(under_way.popleft())
            under_way.append(_write_elsewhere.remote(tables_uri, model_id, target, piece))
        while under_way:
            yield _result(under_way.popleft())


def _result(under_way: ray.ObjectRef) -> Counter[str]:
    """Return what became of a piece; a worker's error in one sentence, where Ray has pages."""
    try:
        counts: Counter[str] = ray.get(under_way)
    except RayError as error:
        raise RunError(
            f"{session.root_cause(error)}; the same command goes on with what is left"
        ) from None
    return counts


_write_elsewhere = ray.remote(num_cpus=1, max_retries=2)(write)

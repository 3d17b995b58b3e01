"""Which predictions have no DICOM export yet, and making them.

An export is two objects, ``<scan_id>-<model_id>-sr.dcm`` and ``-sc.dcm`` (``-2-sr.dcm``
for the second object of a scan, and so on). The report is written last: a prediction
without it is exported again, so a killed export is completed by the same call.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import ray

from bae import storage
from bae.archive.dicom import decode
from bae.archive.sandbox import Decoder
from bae.errors import ScanError
from bae.evaluation.pages import Row
from bae.pipeline import reread, resources, session
from bae.report.dicom import picture, source, sr
from bae.tables import current, delta, lease
from bae.tables.contract import EXPORTS

REPORT, PICTURE = "sr.dcm", "sc.dcm"

WRITTEN = "written"
NO_DICOM = "source is no DICOM object"
NOT_THERE = "source is gone, replaced or out of reach"
NO_REFERENCE = "source has no valid UIDs to refer to"


def folder(tables_uri: str) -> str:
    """Return where exports go unless another place is named."""
    return storage.join(storage.normal(tables_uri), EXPORTS)


def name(row: Row, model_id: str, kind: str) -> str:
    """Return the name of one export of a scan."""
    version = "" if row["object_version"] == 1 else f"-{row['object_version']}"
    return f"{row['scan_id']}-{model_id}{version}-{kind}"


def missing(tables_uri: str, archive_uri: str, model_id: str, target: str) -> list[Row]:
    """Return the scans of an archive that a model has scored and that have no report yet.

    Of ``restricted/scans`` what ``reread`` asks for, each scan's newest object that is still
    there; objects of one zip file next to each other.
    """
    there = set()
    if storage.exists(target):
        names = storage.list_objects(target)["object_uri"].to_pylist()
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
    return [row for row in found.to_pylist() if name(row, model_id, REPORT) not in there]


def write(tables_uri: str, model_id: str, target: str, scans: Sequence[Row]) -> Counter[str]:
    """Export some scans; a second time it replaces the same objects by the same bytes.

    Returns:
        ``WRITTEN`` or the reason why not, to the number of scans.
    """
    told = {table: _rows(tables_uri, table, model_id, scans) for table in _TOLD}
    done: Counter[str] = Counter()
    sources = defaultdict(list)
    for row in scans:
        sources[row["source_uri"], row["etag"]].append(row)
    with Decoder() as decoder:
        for (source_uri, etag), rows in sources.items():
            wanted = {row["object_uri"]: row for row in rows}
            for object_uri, data in reread.contents(source_uri, etag, wanted, decoder):
                row = wanted.pop(object_uri)
                mine = [told[table][row["scan_id"], row["object_version"]] for table in _TOLD]
                done[_write(row, model_id, target, decoder, data, mine)] += 1
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


def _write(
    row: Row, model_id: str, target: str, decoder: Decoder, data: bytes, told: list[list[Row]]
) -> str:
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
    for kind, made in ((PICTURE, picture.picture(shown)), (REPORT, sr.structured_report(shown))):
        storage.write_bytes(storage.join(target, name(row, model_id, kind)), made)
    return WRITTEN


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
                yield ray.get(under_way.popleft())
            under_way.append(_write_elsewhere.remote(tables_uri, model_id, target, piece))
        while under_way:
            yield ray.get(under_way.popleft())


_write_elsewhere = ray.remote(num_cpus=1, max_retries=2)(write)

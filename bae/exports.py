"""Which predictions have no DICOM export yet, and making some of them. No Ray here.

An export is two objects, ``<scan_id>-<model_id>-sr.dcm`` and ``-sc.dcm`` (``-2-sr.dcm``
for the second object of a scan, and so on). The report is written last: a prediction
without it is exported again, so a killed export is completed by the same call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bae import dicom, export, export_picture, export_report, reread, storage, tables
from bae.erasure import EXPORTS
from bae.errors import ScanError
from bae.sandbox import Decoder

Row = dict[str, Any]

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

    Args:
        tables_uri: root of the tables.
        archive_uri: the archive; its objects that are gone are left out.
        model_id: the model.
        target: where the exports are.

    Returns:
        Of ``restricted/scans`` what ``reread`` asks for, each scan's newest object; objects of
        one zip file next to each other.
    """
    there = set()
    if storage.exists(target):
        names = storage.list_objects(target)["object_uri"].to_pylist()
        there = {uri.rsplit("/", 1)[1] for uri in names}
    with tables.storage_errors("look up what to export"):
        connection = duckdb.connect()
        for view, table in (("scans", "restricted/scans"), ("ages", "cohort/ages")):
            connection.register(view, tables.dataset(tables_uri, table))
        found = connection.sql(
            """
            SELECT scan_id, object_version, object_uri, source_uri, etag, age_years, sex, views,
                   pixel_mm, pixel_column_mm
            FROM scans SEMI JOIN (FROM ages WHERE model_id = $model) AS scored
                USING (scan_id, object_version)
            WHERE removed_at IS NULL AND starts_with(source_uri, $archive || '/')
            QUALIFY object_version = max(object_version) OVER (PARTITION BY scan_id)
            ORDER BY source_uri, object_uri""",
            params={"model": model_id, "archive": storage.normal(archive_uri)},
        ).to_arrow_table()
        connection.close()
    return [row for row in found.to_pylist() if name(row, model_id, REPORT) not in there]


def write(tables_uri: str, model_id: str, target: str, scans: Sequence[Row]) -> Counter[str]:
    """Export some scans; a second time it replaces the same objects by the same bytes.

    Args:
        tables_uri: root of the tables.
        model_id: the model.
        target: where to write.
        scans: rows of ``missing``.

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
            for object_uri, data in reread.contents(source_uri, etag, wanted):
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
    for row in tables.dataset(tables_uri, table).to_table(filter=wanted).to_pylist():
        found[row["scan_id"], row["object_version"]].append(row)
    return found


def _write(
    row: Row, model_id: str, target: str, decoder: Decoder, data: bytes, told: list[list[Row]]
) -> str:
    if not dicom.sniff(data):
        return NO_DICOM
    scan = reread.as_indexed(data, row, decoder)
    if scan is None:
        return NOT_THERE
    [age], boxes, heatmaps = told
    try:
        shown = export.page(data, scan, age, boxes, heatmaps)
    except ScanError:
        return NO_REFERENCE
    for kind, made in (
        (PICTURE, export_picture.picture(shown)),
        (REPORT, export_report.structured_report(shown)),
    ):
        storage.write_bytes(storage.join(target, name(row, model_id, kind)), made)
    return WRITTEN

"""Chosen scans once more, as they were when they were scored; for pictures and checks."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bae import storage
from bae.archive import objects, privacy
from bae.archive.sandbox import Decoder
from bae.errors import StorageError
from bae.scan import Scan, View
from bae.tables import current

log = logging.getLogger(__name__)


def content(object_uri: str, source_uri: str, etag: str) -> bytes | None:
    """Return the bytes of an object, or of a member of a zip file.

    Args:
        object_uri, source_uri, etag: as in ``restricted/scans``.

    Returns:
        None where it is gone, was replaced since, or cannot be reached.
    """
    return next((data for _, data in contents(source_uri, etag, [object_uri])), None)


def contents(source_uri: str, etag: str, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Read several members of one zip file at once, or one plain object.

    Args:
        source_uri, etag: as in ``restricted/scans``.
        wanted: values of ``object_uri`` there.

    Yields:
        (object_uri, bytes) of those that are there; see ``content``.
    """
    try:
        if storage.list_objects(source_uri)["etag"].to_pylist() != [etag]:
            return
        data = storage.read_bytes(source_uri)
    except StorageError:
        return
    for member, found in objects.members(data):
        object_uri = f"{source_uri}!/{member}" if member else source_uri
        if object_uri in wanted and isinstance(found, bytes):
            yield object_uri, found


def scans(tables_uri: str, scan_ids: Sequence[str]) -> Iterator[tuple[str, Scan]]:
    """Yield scans by their pseudonyms, each without identity, in the order asked for.

    The sandboxed decoder reads them as at first, and what the table says of them counts,
    since labels may have overruled the header. A scan that has left the archive, or was
    replaced, is left out and logged.

    Args:
        tables_uri: root of the tables; needs ``restricted/scans``.
        scan_ids: which scans, of any number; one at a time is in memory.
    """
    rows = _rows(tables_uri, scan_ids)
    with Decoder() as decoder:
        for scan_id in scan_ids:
            scan = _read(rows[scan_id], decoder) if scan_id in rows else None
            if scan is None:
                log.warning("scan %s is not in the archive as it was; left out", scan_id)
                continue
            yield scan_id, scan


def _rows(tables_uri: str, scan_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the current row of each scan that has one."""
    found = current.scans(tables_uri)
    wanted = pc.is_in(found["scan_id"], pa.array(list(scan_ids), pa.string()))
    return {row["scan_id"]: row for row in found.filter(wanted).to_pylist()}


def _read(row: dict[str, Any], decoder: Decoder) -> Scan | None:
    data = content(row["object_uri"], row["source_uri"], row["etag"])
    if data is None:
        return None
    return as_indexed(data, row, decoder)


def as_indexed(data: bytes, row: dict[str, Any], decoder: Decoder) -> Scan | None:
    """Decode an object to the scan that the table describes.

    Args:
        data: what ``content`` returned.
        row: of ``restricted/scans``.
        decoder: a running one.

    Returns:
        The scan with the table's age, sex, view names and pixel size, identity gone; None
        where it decodes to something else now.
    """
    found = [outcome for _, outcome in decoder.scans("", data)]
    scan = found[0] if len(found) == 1 else None
    if not isinstance(scan, Scan) or len(row["views"]) != len(scan.views):
        return None
    named = zip(row["views"], scan.views, strict=True)
    sizes = (row["pixel_mm"], row["pixel_column_mm"])
    return replace(
        privacy.without_identity(scan),
        views=tuple(View(name=name, counts=view.counts) for name, view in named),
        age_years=row["age_years"],
        sex=row["sex"],
        pixel_mm=None if None in sizes else sizes,
    )

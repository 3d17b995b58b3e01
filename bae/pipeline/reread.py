"""Chosen scans once more, as they were when they were scored; for pictures and checks."""

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bae import storage
from bae.archive import privacy
from bae.archive.sandbox import Decoder
from bae.errors import StorageError
from bae.pipeline.rows import as_told
from bae.scan import Scan
from bae.tables import current

log = logging.getLogger(__name__)


def again(row: dict[str, Any], decoder: Decoder) -> Scan | None:
    """Return the scan of a row of ``restricted/scans``.

    None where its object is gone, was replaced since, or cannot be reached.
    """
    for _, data in contents(row["source_uri"], row["etag"], [row["object_uri"]], decoder):
        return as_indexed(data, row, decoder)
    return None


def contents(
    source_uri: str, etag: str, wanted: Collection[str], decoder: Decoder
) -> list[tuple[str, bytes]]:
    """Return (object_uri, bytes) of the wanted members of one zip file, or of one plain object.

    What is gone, was replaced since, or cannot be reached is left out. The sandboxed decoder
    unpacks, as at first.
    """
    try:
        if storage.list_objects(source_uri)["etag"].to_pylist() != [etag]:
            return []
        data = storage.read_bytes(source_uri)
    except StorageError:
        return []
    names = {uri.removeprefix(source_uri).removeprefix("!/"): uri for uri in wanted}
    return [(names[member], found) for member, found in decoder.files(data, names)]


def scans(tables_uri: str, scan_ids: Sequence[str]) -> Iterator[tuple[str, Scan]]:
    """Yield scans by their pseudonyms, each without identity, in the order asked for.

    The sandboxed decoder reads them as at first, and what the table says of them counts,
    since labels may have overruled the header. A scan that has left the archive, or was
    replaced, is left out and logged. One scan at a time is in memory.
    """
    found = current.scans(tables_uri)
    wanted = pc.is_in(found["scan_id"], pa.array(list(scan_ids), pa.string()))
    rows = {row["scan_id"]: row for row in found.filter(wanted).to_pylist()}
    with Decoder() as decoder:
        for scan_id in scan_ids:
            scan = again(rows[scan_id], decoder) if scan_id in rows else None
            if scan is None:
                log.warning("scan %s is not in the archive as it was; left out", scan_id)
                continue
            yield scan_id, scan


def as_indexed(data: bytes, row: dict[str, Any], decoder: Decoder) -> Scan | None:
    """Decode an object to the scan that the table describes.

    Returns:
        The scan with the table's age, sex, view names and pixel size, identity gone; None
        where it decodes to something else now.
    """
    found = [outcome for _, outcome in decoder.scans("", data)]
    scan = found[0] if len(found) == 1 else None
    if not isinstance(scan, Scan) or len(row["views"]) != len(scan.views):
        return None
    return as_told(privacy.without_identity(scan), row)

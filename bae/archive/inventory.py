"""S3 Inventory reports in place of a listing: millions of objects without listing them.

S3 writes the report daily or weekly as ``manifest.json`` beside data files in CSV or
Parquet (Amazon S3 User Guide, "Amazon S3 Inventory"). Keys in CSV are URL-encoded.
"""

import json
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from bae import storage
from bae.errors import StorageError

_NEEDED = ("Bucket", "Key", "Size", "ETag")


def read(manifest_uri: str, archive_uri: str) -> pa.Table:
    """Return the objects of an archive that an inventory lists, as ``storage.list_objects`` would.

    Old versions and delete markers are left out.

    Args:
        manifest_uri: the report's ``manifest.json``.
        archive_uri: keep only objects at or below this place.

    Raises:
        StorageError: no manifest, a format other than CSV and Parquet, columns missing,
            or no object below ``archive_uri``.
    """
    manifest = _manifest(manifest_uri)
    # The files' keys count from the bucket that holds the report.
    bucket = str(manifest["destinationBucket"]).removeprefix("arn:aws:s3:::")
    root = f"s3://{bucket}"
    archive = storage.normal(archive_uri)
    tables = []
    for file in manifest["files"]:
        data = storage.read_bytes(f"{root}/{file['key']}")
        kind = str(manifest["fileFormat"])
        rows = _csv(data, str(manifest["fileSchema"])) if kind == "CSV" else _parquet(data)
        tables.append(_listing(rows, archive))
    found = pa.concat_tables(tables) if tables else storage.LISTING.empty_table()
    if not found.num_rows:
        raise StorageError(f"the inventory lists nothing at {archive}; check the archive's place")
    return found.sort_by("object_uri")


def _manifest(uri: str) -> dict[str, Any]:
    try:
        manifest = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise StorageError("the inventory's manifest.json is not JSON") from error
    missing = [k for k in ("destinationBucket", "fileFormat", "files") if k not in manifest]
    if missing:
        raise StorageError(f"the inventory's manifest lacks {', '.join(missing)}")
    if manifest["fileFormat"] not in ("CSV", "Parquet"):
        raise StorageError(
            f"the inventory is in {manifest['fileFormat']}; configure CSV or Parquet"
        )
    return dict(manifest)


def _csv(data: bytes, columns: str) -> pa.Table:
    names = [name.strip() for name in columns.split(",")]
    options = csv.ReadOptions(column_names=names)
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    source = pa.CompressedInputStream(pa.BufferReader(data), "gzip")
    rows = csv.read_csv(source, read_options=options, convert_options=convert)
    keys = [unquote_plus(key) for key in rows["Key"].to_pylist()] if "Key" in names else []
    return rows.set_column(names.index("Key"), "Key", pa.array(keys)) if keys else rows


def _parquet(data: bytes) -> pa.Table:
    rows = pq.read_table(pa.BufferReader(data))
    # lower case with underscores here: is_latest
    spelled = {name.lower(): name for name in (*_NEEDED, "IsLatest", "IsDeleteMarker")}
    names = [spelled.get(name.replace("_", "").lower(), name) for name in rows.schema.names]
    return rows.rename_columns(names)


def _listing(rows: pa.Table, archive: str) -> pa.Table:
    missing = [name for name in _NEEDED if name not in rows.schema.names]
    if missing:
        raise StorageError(f"the inventory lacks {', '.join(missing)}; add them to its fields")
    keep = pa.array([True] * rows.num_rows)
    for name, wanted in (("IsLatest", "true"), ("IsDeleteMarker", "false")):
        if name in rows.schema.names:
            said = pc.utf8_lower(rows[name].cast(pa.string()))
            keep = pc.and_(keep, pc.equal(said, wanted))
    uris = pc.binary_join_element_wise("s3://", rows["Bucket"], "/", rows["Key"], "")
    uris = pc.replace_substring_regex(uris, r"^(s3://)/([^/]+)//", r"\1\2/")
    below = archive + "/"
    inside = pc.or_(pc.starts_with(uris, below), pc.equal(uris, archive))
    # As a listing does: no hidden names below the archive, no folder markers.
    hidden = pc.match_substring_regex(
        pc.utf8_slice_codeunits(uris, len(archive)), r"/[_.][^/]*(/|$)|/$"
    )
    keep = pc.and_(pc.and_(keep, inside), pc.invert(hidden))
    listing = pa.table(
        {
            "object_uri": uris,
            "etag": pc.utf8_trim(rows["ETag"], '"'),
            "size_bytes": rows["Size"].cast(pa.int64()),
        }
    )
    return listing.filter(keep).cast(storage.LISTING)

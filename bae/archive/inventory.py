"""S3 Inventory reports in place of a listing: millions of objects without listing them.

S3 writes the report daily or weekly as ``manifest.json`` beside data files in CSV or
Parquet (Amazon S3 User Guide, "Amazon S3 Inventory"). Keys in CSV are URL-encoded.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from bae import local, storage
from bae.errors import StorageError

_NEEDED = ("Bucket", "Key", "Size", "ETag")
_VERSIONS = ("IsLatest", "IsDeleteMarker")


def read(manifest_uri: str, archive_uri: str) -> pa.Table:
    """Return the objects of an archive that an inventory lists, as ``storage.list_objects`` would.

    Old versions and delete markers are left out.

    Args:
        manifest_uri: the report's ``manifest.json``.
        archive_uri: keep only objects at or below this place.

    Raises:
        StorageError: no manifest, a format other than CSV and Parquet, columns missing, data that
            are damaged or do not tell old versions from new ones, or no object below
            ``archive_uri``.
    """
    manifest = _manifest(manifest_uri)
    # The files' keys count from the bucket that holds the report.
    bucket = manifest["destinationBucket"].rpartition(":::")[2]
    archive = storage.normal(archive_uri)
    tables = [storage.LISTING.empty_table()]
    for file in manifest["files"]:
        data = _whole(storage.read_bytes(f"s3://{bucket}/{file['key']}"), file)
        if manifest["fileFormat"] == "CSV":
            rows = _csv(data, manifest["fileSchema"])
        else:
            rows = _parquet(data)
        with _damage():
            tables.append(_listing(rows, archive))
    found = pa.concat_tables(tables)
    if not found.num_rows:
        raise StorageError(f"the inventory lists nothing at {archive}; check the archive's place")
    if pc.count_distinct(found["object_uri"]).as_py() != found.num_rows:
        raise StorageError(
            "the inventory lists an object twice, so it has old versions and does not say which "
            f"are: add {' and '.join(_VERSIONS)} to its fields, or list current versions only"
        )
    return found.sort_by("object_uri")


def _manifest(uri: str) -> dict[str, Any]:
    try:
        manifest = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise StorageError("the inventory's manifest.json is not JSON") from error
    if not isinstance(manifest, dict):
        raise StorageError("the inventory's manifest.json is not the manifest of an inventory")
    csv_needs = ("fileSchema",) if manifest.get("fileFormat") == "CSV" else ()
    needed = ("destinationBucket", "fileFormat", "files", *csv_needs)
    missing = [k for k in needed if k not in manifest]
    if missing:
        raise StorageError(f"the inventory's manifest lacks {', '.join(missing)}")
    if manifest["fileFormat"] not in ("CSV", "Parquet"):
        raise StorageError(
            f"the inventory is in {manifest['fileFormat']}; configure CSV or Parquet"
        )
    texts = [manifest[name] for name in needed if name != "files"]
    files = manifest["files"]
    listed = isinstance(files, list) and all(
        isinstance(file, dict) and isinstance(file.get("key"), str) for file in files
    )
    if not listed or not all(isinstance(text, str) for text in texts):
        raise StorageError("the inventory's manifest.json names no data files that can be read")
    return manifest


def _whole(data: bytes, file: dict[str, Any]) -> bytes:
    """Return the bytes of a data file if they are what the manifest says."""
    told = file.get("MD5checksum")
    made = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if file.get("size", len(data)) != len(data) or (told and told != made):
        raise StorageError(
            "a data file of the inventory is not the one that its manifest names; "
            "take a manifest whose report is complete"
        )
    return data


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what Arrow says of damaged data into a sentence; its own may quote a key."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"a data file of the inventory cannot be read ({type(error).__name__}): it is damaged, "
            "encrypted, or not what its manifest says"
        ) from error


def _csv(data: bytes, columns: str) -> pa.Table:
    names = [name.strip() for name in columns.split(",")]
    if not data:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    options = csv.ReadOptions(column_names=names)
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    with _damage():
        text = pa.CompressedInputStream(pa.BufferReader(data), "gzip").read()
        if not text.strip():
            return pa.table({name: pa.array([], pa.string()) for name in names})
        rows = csv.read_csv(pa.BufferReader(text), read_options=options, convert_options=convert)
        if "Key" not in names:
            return rows
        if rows.slice(0, 1).to_pylist() == [{name: name for name in names}]:
            rows = rows.slice(1)  # S3 writes no header; a copy by another tool may have one
        keys = [unquote_plus(key, errors="strict") for key in rows["Key"].to_pylist()]
        return rows.set_column(names.index("Key"), "Key", pa.array(keys, pa.string()))


def _parquet(data: bytes) -> pa.Table:
    # lower case with underscores here: is_latest
    spelled = {name.lower(): name for name in (*_NEEDED, *_VERSIONS)}
    with _damage():
        file = pq.ParquetFile(pa.BufferReader(data))
        there = {
            name: spelled[plain]
            for name in file.schema_arrow.names
            if (plain := name.replace("_", "").lower()) in spelled
        }
        rows = file.read(list(there))  # not the others: some are lists or structs
        return rows.rename_columns([there[name] for name in rows.schema.names])


def _listing(rows: pa.Table, archive: str) -> pa.Table:
    missing = [name for name in _NEEDED if name not in rows.schema.names]
    if missing:
        raise StorageError(f"the inventory lacks {', '.join(missing)}; add them to its fields")
    for name, dropped in (("IsLatest", "false"), ("IsDeleteMarker", "true")):
        if name in rows.schema.names:
            # nothing said, as of a bucket without versions: it is the only one
            said = pc.fill_null(pc.utf8_lower(rows[name].cast(pa.string())), "")
            rows = rows.filter(pc.not_equal(said, dropped))
    uris = pc.binary_join_element_wise("s3://", rows["Bucket"], "/", rows["Key"], "")
    uris = pc.replace_substring_regex(uris, r"^(s3://)/([^/]+)//", r"\1\2/")
    below = archive + "/"
    inside = pc.or_(pc.starts_with(uris, below), pc.equal(uris, archive))
    # As a listing does: no hidden names below the archive, no folder markers.
    hidden = pc.match_substring_regex(
        pc.utf8_slice_codeunits(uris, len(archive)), f"{local.PASSED_OVER}|/$"
    )
    keep = pc.and_(inside, pc.invert(hidden))
    rows, uris = rows.filter(keep), uris.filter(keep)
    etags = pc.utf8_trim(rows["ETag"].cast(pa.string()), '"')
    sizes = rows["Size"].cast(pa.string())
    for column in (etags, sizes):
        if column.null_count or pc.any(pc.equal(column, "")).as_py():
            raise StorageError(
                "the inventory lists an object without size or ETag, as delete markers are; add "
                f"{' and '.join(_VERSIONS)} to its fields, or list current versions only"
            )
    columns = {"object_uri": uris, "etag": etags, "size_bytes": sizes.cast(pa.int64())}
    return pa.table(columns).cast(storage.LISTING)

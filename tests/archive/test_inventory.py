"""S3 Inventory reports in place of a listing."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bae import storage
from bae.archive import inventory
from bae.errors import StorageError
from tests.fakes import s3_server

pytestmark = pytest.mark.s3

KEYS = ("inv/a b+c.dcm", "inv/ü%41.dcm", "inv/sub/1.dcm", "other/2.dcm", "inv/_tables/x", "inv/")


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_an_inventory_gives_what_a_listing_gives(s3: s3_server.Server, kind: str) -> None:
    """Same URIs, etags and sizes, for keys that CSV must escape."""
    for key in KEYS[:-1]:
        storage.write_bytes(f"s3://archive/{key}", key.encode())
    listed = storage.list_objects("s3://archive/inv")
    assert listed.num_rows == 3
    place = _write(kind, f"inv{kind}")
    assert inventory.read(place, "s3://archive/inv/") == listed


def test_old_versions_and_delete_markers_are_left_out(s3: s3_server.Server) -> None:
    """Only what a reader would get today."""
    place = _write("Parquet", "versions", stale=KEYS[0])
    found = inventory.read(place, "s3://archive/inv")["object_uri"].to_pylist()
    assert "s3://archive/inv/a b+c.dcm" not in found and len(found) == 2


def test_an_inventory_that_does_not_fit_is_refused(s3: s3_server.Server) -> None:
    """No manifest, another format, nothing of this archive: one sentence each."""
    storage.write_bytes("s3://tables/bad/manifest.json", b"no json")
    with pytest.raises(StorageError, match="not JSON"):
        inventory.read("s3://tables/bad/manifest.json", "s3://archive/inv")
    orc = {"destinationBucket": "arn:aws:s3:::tables", "fileFormat": "ORC", "files": []}
    storage.write_bytes("s3://tables/bad/manifest.json", json.dumps(orc).encode())
    with pytest.raises(StorageError, match="configure CSV or Parquet"):
        inventory.read("s3://tables/bad/manifest.json", "s3://archive/inv")
    with pytest.raises(StorageError, match="lists nothing at s3://archive/nowhere"):
        inventory.read(_write("Parquet", "fine"), "s3://archive/nowhere")


def _write(kind: str, name: str, stale: str = "") -> str:
    """Write a report as S3 does; return its manifest's place."""
    from hashlib import md5
    from urllib.parse import quote_plus

    rows = [
        {
            "bucket": "archive",
            "key": key,
            "is_latest": key != stale,
            "is_delete_marker": False,
            "size": len(key.encode()),
            "e_tag": md5(key.encode(), usedforsecurity=False).hexdigest(),
        }
        for key in KEYS
    ]
    if kind == "Parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        data = sink.getvalue()
    else:
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        for row in rows:
            escaped = row | {"key": quote_plus(str(row["key"]), safe="/")}
            writer.writerow(
                [str(v).lower() if isinstance(v, bool) else v for v in escaped.values()]
            )
        data = gzip.compress(text.getvalue().encode())
    storage.write_bytes(f"s3://tables/{name}/data/1.{kind}", data)
    manifest = {
        "sourceBucket": "archive",
        "destinationBucket": "arn:aws:s3:::tables",
        "fileFormat": kind,
        "fileSchema": "Bucket, Key, IsLatest, IsDeleteMarker, Size, ETag",
        "files": [{"key": f"{name}/data/1.{kind}", "size": len(data)}],
    }
    storage.write_bytes(f"s3://tables/{name}/manifest.json", json.dumps(manifest).encode())
    return f"s3://tables/{name}/manifest.json"

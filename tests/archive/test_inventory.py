"""S3 Inventory reports in place of a listing."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bae import storage
from bae.archive import inventory
from bae.errors import StorageError
from tests.fakes import s3_server

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


BROKEN = {
    "a list": (b"[]", "not the manifest"),
    "a text": (b'"manifest"', "not the manifest"),
    "cut short": (b'{"files": [', "not JSON"),
    "binary": (bytes(range(256)), "not JSON"),
    "a card": (b'{"model_id": "x", "recipe": {}}', "lacks destinationBucket"),
    "no files": (b'{"destinationBucket":"b","fileFormat":"Parquet","files":{}}', "no data files"),
    "files of numbers": (
        b'{"destinationBucket":"b","fileFormat":"Parquet","files":[7]}',
        "no data files",
    ),
    "a bucket of numbers": (
        b'{"destinationBucket":7,"fileFormat":"Parquet","files":[]}',
        "no data files",
    ),
    "CSV of no columns": (
        b'{"destinationBucket":"b","fileFormat":"CSV","files":[]}',
        "lacks fileSchema",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_manifest_is_a_sentence(tmp_path: Path, kind: str) -> None:
    """Other JSON, a list, a piece, bytes."""
    data, said = BROKEN[kind]
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(StorageError, match=said):
        inventory.read(str(tmp_path / "manifest.json"), "s3://archive/inv")


SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag, EncryptionStatus"
ROW = '"archive","inv/{}.dcm","v","{}","{}","{}","{}","SSE-KMS"\n'
LIVE = ROW.format("a", "true", "false", 5, "e1")


def _csv_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *texts: bytes, schema: str = SCHEMA, **about: str
) -> str:
    """Write a report of CSV files; they are read from this folder as if it were the bucket."""
    files = []
    for number, data in enumerate(texts):
        (folder / str(number)).write_bytes(data)
        files.append({"key": str(number), "size": len(data)} | about)
    manifest = {"destinationBucket": "arn:aws-cn:s3:::bucket", "fileFormat": "CSV"}
    manifest |= {"fileSchema": schema}
    text = json.dumps(manifest | {"files": files})
    (folder / "manifest.json").write_text(text)
    local = storage.read_bytes
    monkeypatch.setattr(
        inventory.storage, "read_bytes", lambda uri: local(uri.replace("s3://bucket", str(folder)))
    )
    return str(folder / "manifest.json")


def test_versions_markers_and_empty_files_give_no_wrong_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delete marker has neither size nor ETag; a file may be empty; a copy may have a header."""
    old = ROW.format("a", "false", "false", 4, "e0")
    marker = ROW.format("b", "true", "true", "", "") + ROW.format("b", "false", "false", 4, "e0")
    header = ",".join(f'"{name.strip()}"' for name in SCHEMA.split(",")) + "\n"
    texts = [LIVE + old + marker, "", header + ROW.format("c", "", "", 6, "e2")]
    packed = [gzip.compress(text.encode()) for text in texts]
    place = _csv_report(tmp_path, monkeypatch, *packed, b"")
    found = inventory.read(place, "s3://archive/inv")
    assert found.to_pylist() == [
        {"object_uri": "s3://archive/inv/a.dcm", "etag": "e1", "size_bytes": 5},
        {"object_uri": "s3://archive/inv/c.dcm", "etag": "e2", "size_bytes": 6},
    ]


DAMAGED = {
    "no gzip": (b"archive,inv/a.dcm", SCHEMA, "cannot be read"),
    "cut short": (gzip.compress(LIVE.encode() * 999)[:-9], SCHEMA, "cannot be read"),
    "fewer columns": (gzip.compress(b'"archive","inv/a.dcm"\n'), SCHEMA, "cannot be read"),
    "a size in words": (gzip.compress(LIVE.replace("5", "x").encode()), SCHEMA, "cannot be read"),
    "a key of no text": (
        gzip.compress(LIVE.replace("inv/a", "inv/%ff").encode()),
        SCHEMA,
        "cannot be read",
    ),
    "no field for markers": (
        gzip.compress(ROW.format("b", "", "", "", "").encode()),
        SCHEMA.replace("IsDeleteMarker", "Other"),
        "without size or ETag",
    ),
    "no field for versions": (
        gzip.compress((LIVE + ROW.format("a", "false", "false", 4, "e0")).encode()),
        SCHEMA.replace("IsLatest", "Other"),
        "lists an object twice",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_data_that_cannot_be_trusted_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Never a traceback, never the object's name."""
    data, schema, said = DAMAGED[kind]
    place = _csv_report(tmp_path, monkeypatch, data, schema=schema)
    with pytest.raises(StorageError, match=said) as caught:
        inventory.read(place, "s3://archive/inv")
    assert ".dcm" not in str(caught.value)


def test_another_file_than_the_manifest_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its size, or by its checksum."""
    place = _csv_report(tmp_path, monkeypatch, gzip.compress(LIVE.encode()), MD5checksum="0" * 32)
    with pytest.raises(StorageError, match="not the one that its manifest names"):
        inventory.read(place, "s3://archive/inv")


def test_parquet_with_other_columns_or_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists and checksums beside what is needed are not read; half a file is a sentence."""
    rows = {
        "bucket": ["archive", "archive"],
        "key": ["inv/a.dcm", "inv/b.dcm"],
        "is_latest": [True, True],
        "is_delete_marker": [False, True],
        "size": [5, None],
        "e_tag": ["e1", None],
        "checksum_algorithm": [["CRC32"], None],
        "object_access_control_list": [b"{}", None],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(rows), sink)
    for data in (sink.getvalue(), sink.getvalue()[:-20], b""):
        monkeypatch.undo()
        place = Path(_csv_report(tmp_path, monkeypatch, data))
        place.write_text(place.read_text().replace('"CSV"', '"Parquet"'))
        if data == sink.getvalue():
            assert inventory.read(str(place), "s3://archive/inv")["etag"].to_pylist() == ["e1"]
            continue
        with pytest.raises(StorageError, match="cannot be read"):
            inventory.read(str(place), "s3://archive/inv")

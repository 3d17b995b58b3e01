"""Places on a local disk: whole objects or none, stable names, clear failures."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bae import storage
from bae.errors import ObjectError, StorageError


def test_one_place_has_one_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, dotted and file:// spellings of a folder are the same place."""
    monkeypatch.chdir(tmp_path)
    spellings = [
        "scans",
        "./scans/",
        "x/../scans",
        f"{tmp_path}//scans",
        f"file://{tmp_path}/scans",
    ]
    assert {storage.normal(text) for text in spellings} == {str(tmp_path / "scans")}
    assert storage.normal("s3://bucket/a/b/") == "s3://bucket/a/b"
    assert storage.normal("s3://bucket/") == "s3://bucket"


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "s3://", "file://host/x"])
def test_a_place_of_another_kind_is_refused(uri: str) -> None:
    """With a StorageError, not a crash."""
    with pytest.raises(StorageError):
        storage.normal(uri)


def test_written_objects_are_listed_sorted_with_size_and_etag(tmp_path: Path) -> None:
    """The etag changes with the content; hidden names are left out."""
    for name in ("b/2.dcm", "a b/ü%41.dcm", "b/1.dcm", "_tables/x", "b/.tmp", ".git/y"):
        storage.write_bytes(f"{tmp_path}/{name}", name.encode())
    found = storage.list_objects(str(tmp_path))
    assert found.schema.equals(storage.LISTING)
    names = [uri.removeprefix(f"{tmp_path}/") for uri in found["object_uri"].to_pylist()]
    assert names == ["a b/ü%41.dcm", "b/1.dcm", "b/2.dcm"]
    assert found["size_bytes"].to_pylist() == [len(name.encode()) for name in names]
    storage.write_bytes(f"{tmp_path}/b/1.dcm", b"other")
    again = storage.list_objects(str(tmp_path))
    changed = [
        a != b for a, b in zip(found["etag"].to_pylist(), again["etag"].to_pylist(), strict=True)
    ]
    assert changed == [False, True, False]


def test_a_single_object_is_a_listing_of_one(tmp_path: Path) -> None:
    """A file may stand where a folder may."""
    storage.write_bytes(f"{tmp_path}/one.dcm", b"1")
    assert storage.list_objects(f"{tmp_path}/one.dcm").num_rows == 1


@settings(deadline=None)  # a busy disk is no error
@given(st.binary(max_size=200))
def test_bytes_come_back_as_written(data: bytes) -> None:
    """Any bytes, also none."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        storage.write_bytes(f"{folder}/x", data)
        assert storage.read_bytes(f"{folder}/x") == data
        assert storage.read_or_none(f"{folder}/x") == data


def test_of_many_creators_exactly_one_wins(tmp_path: Path) -> None:
    """And what it wrote is whole."""
    won: list[int] = []
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait()
        if storage.create(f"{tmp_path}/lease", str(number).encode() * 1000):
            won.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read_bytes(f"{tmp_path}/lease") == str(won[0]).encode() * 1000


def test_a_name_that_is_not_utf8_is_listed_not_dropped(tmp_path: Path) -> None:
    """It shows escaped, and reading it says what is wrong, without the name."""
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.dcm"))).write_bytes(b"1")
    [uri] = storage.list_objects(str(tmp_path))["object_uri"].to_pylist()
    assert uri == f"{tmp_path}/\\xff.dcm"
    with pytest.raises(ObjectError, match="its name is not UTF-8; rename it"):
        storage.read_bytes(uri)


def test_missing_places_are_said_in_a_sentence(tmp_path: Path) -> None:
    """Never a traceback of the operating system, never the object's name."""
    with pytest.raises(StorageError, match="there is no folder"):
        storage.list_objects(f"{tmp_path}/archive")
    with pytest.raises(StorageError, match="does not exist") as caught:
        storage.read_bytes(f"{tmp_path}/DOE^JANE.dcm")
    assert "DOE" not in str(caught.value)
    assert storage.read_or_none(f"{tmp_path}/x") is None


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old object stays, the half new one is gone."""
    storage.write_bytes(f"{tmp_path}/x", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        storage.write_bytes(f"{tmp_path}/x", b"new")
    assert storage.read_bytes(f"{tmp_path}/x") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_deleting_takes_everything_below(tmp_path: Path) -> None:
    """And nothing there is fine."""
    storage.write_bytes(f"{tmp_path}/a/b/c", b"1")
    storage.write_bytes(f"{tmp_path}/ab", b"2")
    storage.delete(f"{tmp_path}/a")
    storage.delete(f"{tmp_path}/a")
    assert [path.name for path in tmp_path.iterdir()] == ["ab"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    """Loops, parents, broken links and second names add nothing; a folder elsewhere counts."""
    archive, elsewhere = tmp_path / "archive", tmp_path / "elsewhere"
    for name in (archive / "z" / "1.dcm", elsewhere / "deep" / "2.dcm", tmp_path / "tables" / "3"):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(b"1")
    for name, target in {
        "a": archive / "z",  # a second name, met before the first
        "b": elsewhere,
        "c": elsewhere / "deep",
        "d": archive,
        "e": tmp_path,
        "f": archive / "f",  # a link to itself
        "g": archive / "gone",
        "z/loop": archive / "z",
    }.items():
        (archive / name).symlink_to(target)
    (elsewhere / "back").symlink_to(archive)
    found = [uri.removeprefix(f"{archive}/") for uri in _names(archive)]
    assert found == ["b/deep/2.dcm", "z/1.dcm"]
    (tmp_path / "link").symlink_to(archive)
    assert len(_names(tmp_path / "link")) == 2


def _names(folder: Path) -> list[str]:
    names: list[str] = storage.list_objects(str(folder))["object_uri"].to_pylist()
    return names


@pytest.mark.parametrize("umask", [0, 0o77])
def test_what_is_restricted_is_for_owner_and_group(tmp_path: Path, umask: int) -> None:
    """Whatever the umask; files elsewhere keep to it, so that colleagues read models."""
    before = os.umask(umask)
    try:
        storage.write_bytes(f"{tmp_path}/t/restricted/samples/a/1", b"1")
        storage.create(f"{tmp_path}/t/restricted/lease/1", b"1")
        storage.write_bytes(f"{tmp_path}/t/model/card.json", b"1")
        (tmp_path / "t/restricted/scans").mkdir()
        (tmp_path / "t/restricted/scans/1.parquet").write_bytes(b"1")
    finally:
        os.umask(before)
    storage.keep_private(f"{tmp_path}/t/restricted")
    top = tmp_path / "t" / "restricted"
    for path in (top, *top.rglob("*")):
        allowed = path.stat().st_mode & 0o777
        wanted = (0o750, 0o770) if path.is_dir() else (0o640,)
        assert allowed in wanted, (path, oct(allowed))
    assert top.stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "t/model/card.json").stat().st_mode & 0o777 == 0o666 & ~umask

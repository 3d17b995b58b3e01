"""One object never ends a run: too large, archived, locked, gone, or no file any more."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bae import storage
from bae.archive import intake
from bae.archive.files import bounds
from bae.errors import ScanError, StorageError
from tests.archive.test_objects import zipped
from tests.fakes import dicoms, fault_proxy


def _refused(uri: str, size: int = 1) -> str:
    """Return the code; the message must not hold the name."""
    found = intake.fetch(uri, size)
    assert isinstance(found, ScanError)
    assert "DOE" not in found.message
    return found.code


def _folder(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _circle(path: Path) -> None:
    path.symlink_to(path)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("become", [_folder, _dangling, _circle, _pipe])
def test_a_file_that_became_something_else_is_refused(
    become: Callable[[Path], None], tmp_path: Path
) -> None:
    """Between listing and reading. A pipe without a writer would be waited for."""
    become(tmp_path / "DOE^JANE.dcm")
    assert _refused(f"{tmp_path}/DOE^JANE.dcm") == "object_unreadable"


def test_a_file_that_has_gone_is_gone(tmp_path: Path) -> None:
    """As before."""
    assert _refused(f"{tmp_path}/DOE^JANE.dcm") == "object_gone"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO])
def test_a_file_that_may_not_be_read_is_refused(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, who may read anything, so the system's answer is played."""
    uri = f"{tmp_path}/DOE^JANE.dcm"
    storage.write_bytes(uri, b"x")

    def refuse(path: str, *_: object) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(storage.os, "open", refuse)
    assert _refused(uri) == "object_unreadable"


def test_the_systems_own_trouble_still_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files is no fault of this one."""

    def refuse(path: str, *_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    monkeypatch.setattr(storage.os, "open", refuse)
    with pytest.raises(StorageError):
        intake.fetch(f"{tmp_path}/a.dcm", 1)


def test_what_is_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    """A terabyte that takes no place on the disk."""
    backup = tmp_path / "DOE^JANE.tar"
    with backup.open("wb") as file:
        file.truncate(1 << 40)
    assert _refused(str(backup), 1 << 40) == "object_too_large"
    backup.unlink()
    assert _refused(str(backup), 1 << 40) == "object_too_large", "not even looked at"


def test_what_has_grown_since_the_listing_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was small when it was listed."""
    monkeypatch.setattr(bounds, "LARGEST_PACKED_BYTES", 1 << 20)
    grown = tmp_path / "DOE^JANE.dcm"
    with grown.open("wb") as file:
        file.truncate(1 << 40)
    assert _refused(str(grown), 1000) == "object_too_large"


def test_only_zip_files_may_be_larger_than_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by the first bytes, which alone are read; a DICOM file may begin like a zip file."""
    monkeypatch.setattr(bounds, "LARGEST_OBJECT_BYTES", 1000)
    monkeypatch.setattr(bounds, "LARGEST_PACKED_BYTES", 5 << 20)
    packed = zipped(("1.dcm", dicoms.scan()))
    storage.write_bytes(f"{tmp_path}/a.zip", packed)
    assert intake.fetch(f"{tmp_path}/a.zip", len(packed)) == packed
    for name, data in {
        "DOE.dcm": dicoms.scan(),
        "DOE.zip.dcm": b"PK\x03\x04".ljust(128, b"\0") + dicoms.scan()[128:],
    }.items():
        storage.write_bytes(f"{tmp_path}/{name}", data)
        assert _refused(f"{tmp_path}/{name}", len(data)) == "object_too_large"


def test_a_part_of_a_file_can_be_read(tmp_path: Path) -> None:
    """Half-open, as slices are; past the end there is nothing."""
    uri = f"{tmp_path}/x"
    storage.write_bytes(uri, b"0123456789")
    for start, stop in ((0, 4), (2, 5), (8, 100), (20, 30), (3, None)):
        assert storage.read_bytes(uri, start, stop) == b"0123456789"[start:stop]


# ---- S3 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ((403, "InvalidObjectState"), "object_archived"),
        ((400, "InvalidRequest"), "object_unreadable"),
        ((403, "AccessDenied"), "object_unreadable"),
        ((400, "KMS.DisabledException"), "object_unreadable"),
        ((404, "NoSuchKey"), "object_gone"),
    ],
)
def test_what_s3_says_of_one_object_is_its_refusal(
    proxy: fault_proxy.Proxy, fault: tuple[int, str], code: str
) -> None:
    """In Glacier, under a customer's key, denied, under a dead KMS key, deleted."""
    uri = "s3://archive/odd-states/DOE^JANE.dcm"
    storage.write_bytes(uri, b"x")
    with proxy.answer(fault):
        assert _refused(uri) == code
    assert intake.fetch(uri, 1) == b"x"


@pytest.mark.parametrize(
    "fault",
    [
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (400, "ExpiredToken"),
        (404, "NoSuchBucket"),
    ],
)
def test_what_s3_says_of_the_storage_ends_the_run(
    proxy: fault_proxy.Proxy, fault: tuple[int, str]
) -> None:
    """Else every object would be refused for good."""
    with proxy.answer(fault), pytest.raises(StorageError):
        intake.fetch("s3://archive/odd-states/x.dcm", 1)


def test_a_part_of_an_object_can_be_read(proxy: fault_proxy.Proxy) -> None:
    """By a ranged request; an empty object has no range."""
    uri = "s3://archive/ranged/x"
    storage.write_bytes(uri, b"0123456789")
    for start, stop in ((0, 4), (2, 5), (8, 100), (20, 30), (3, None)):
        assert storage.read_bytes(uri, start, stop) == b"0123456789"[start:stop]
    storage.write_bytes(uri, b"")
    assert intake.fetch(uri, 0) == b""

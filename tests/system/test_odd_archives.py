"""Whole jobs on archives that hold what nobody meant to put there: each costs one row."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from bae import storage
from bae.archive.files import zips
from bae.tables import delta
from jobs import index
from tests.archive.test_objects import EIGHT, picture, zipped
from tests.fakes import dicoms, fault_proxy, s3_server
from tests.fakes.place import Place

pytestmark = pytest.mark.ray


def _indexed(folder: Path) -> tuple[int, dict[str, str], int]:
    """Index an archive; return the exit code, name to code of what was refused, and scans."""
    tables = str(folder.with_name("tables"))
    done = index.main(["--archive", str(folder), "--tables", tables])
    rejects = delta.read(tables, "restricted/rejects").to_pylist()
    assert not [row for row in rejects if "DOE" in row["message"]]
    codes = {row["object_uri"].removeprefix(f"{folder}/"): row["code"] for row in rejects}
    return done, codes, delta.read(tables, "restricted/scans").num_rows


def test_no_odd_object_ends_a_night(tmp_path: Path, local_ray: None) -> None:
    """A terabyte, a name in no encoding, other formats, a zip file from a Mac and a Windows PC."""
    archive = tmp_path / "archive"
    archive.mkdir()
    dual = b"II*\0".ljust(128, b"\0") + dicoms.scan(SOPInstanceUID="1.2.3")[128:]
    method9 = bytearray(zipped(("DOE 1.dcm", b"x")))
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = method9.index(mark) + place
        method9[start : start + 2] = b"\x09\0"
    files = {
        "1.dcm": dicoms.scan(SOPInstanceUID="1.2.1"),
        "2.dcm": dicoms.scan(SOPInstanceUID="1.2.2"),
        "dual.dcm": dual,
        "DOE.jpg": picture(EIGHT, "JPEG"),
        "mac.zip": zipped(
            ("a/1.dcm", dicoms.scan(SOPInstanceUID="1.2.4")),
            ("__MACOSX/a/._1.dcm", b"x"),
            ("a/2.dcm", dual.replace(b"1.2.3", b"1.2.5")),
        ),
        "windows.zip": bytes(method9),
        "litter.zip": zipped(("Thumbs.db", b"x")),
        # what file managers and systems leave: as in a zip file, no object at all
        **dict.fromkeys(("Thumbs.db", "desktop.ini", ".DS_Store", "a/Icon\r"), b"x"),
        **{f"{name}/3.dcm": b"x" for name in ("$RECYCLE.BIN", "@eaDir", "lost+found", "__MACOSX")},
    }
    for name, data in files.items():
        (archive / name).parent.mkdir(exist_ok=True)
        (archive / name).write_bytes(data)
    with (archive / "backup.tar").open("wb") as sparse:
        sparse.truncate(1 << 40)
    Path(os.fsdecode(os.fsencode(archive) + b"/DOE\xff.dcm")).write_bytes(dicoms.scan())
    done, codes, scans = _indexed(archive)
    assert codes == {
        "DOE.jpg": "format_not_read",
        "windows.zip!/DOE 1.dcm": "zip_method_unsupported",
        "litter.zip": "zip_empty",
        "backup.tar": "object_too_large",
        "DOE\\xff.dcm": "object_unreadable",
    }
    assert (done, scans) == (0, 5)


def test_an_archive_in_which_nothing_may_be_read_fails_the_job(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """One unreadable object is refused; of nothing else it is more than --max-rejected allows."""
    archive = tmp_path / "archive"
    archive.mkdir()
    for number in (b"1", b"2"):
        name = os.fsencode(archive) + b"/" + number + b"\xff.dcm"
        Path(os.fsdecode(name)).write_bytes(dicoms.scan())
    done, codes, scans = _indexed(archive)
    assert (done, set(codes.values()), scans) == (1, {"object_unreadable"}, 0)
    assert "2 of 2 objects were refused (object_unreadable 2)" in capsys.readouterr().err


def test_what_is_read_once_more_is_unpacked_behind_the_fence_too(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the report and the DICOM exports: not in a process that holds credentials."""
    known = {"SeriesInstanceUID": "1.2.3.4"}
    people = [
        (f"{n}.dcm", dicoms.scan(PatientID=f"p{n}", SOPInstanceUID=f"1.2.3.{n}", **known))
        for n in range(3)
    ]
    (place.archive / "all.zip").write_bytes(zipped(*people))
    place.night()

    def unpacked_here(*_: object) -> NoReturn:
        raise AssertionError("unpacked outside the fence")

    monkeypatch.setattr(zips, "members", unpacked_here)
    out = tmp_path / "report.html"
    assert place.job("report", "--tables", place.tables, "--out", str(out))[0] == 0
    assert out.read_text().count("data:image/webp") == 3
    assert "exported   3 scans" in place.night("predict", "--export-dicom")


@pytest.mark.slow
def test_an_object_that_s3_denies_costs_one_row(
    s3: s3_server.Server, proxy: fault_proxy.Proxy
) -> None:
    """A bucket's policy may hold back one object from who may read its neighbours."""
    for number in range(3):
        data = dicoms.scan(PatientID=f"p{number}", SOPInstanceUID=f"1.2.{number}")
        storage.write_bytes(f"s3://archive/denied/{number}.dcm", data)
    command = [sys.executable, "-m", "jobs.index", "--archive", "s3://archive/denied"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with proxy.answer((403, "AccessDenied"), only="denied/1.dcm"):
        done = subprocess.run(
            [*command, "--tables", "s3://tables/denied"],
            env=kept | {"BAE_LOG": "text"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    rejects = delta.read("s3://tables/denied", "restricted/rejects").to_pylist()
    assert [(row["object_uri"], row["code"]) for row in rejects] == [
        ("s3://archive/denied/1.dcm", "object_unreadable")
    ]
    assert delta.read("s3://tables/denied", "restricted/scans").num_rows == 2


def test_a_part_of_zip_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a decode task does it: what waits in memory, of one zip file and of all together."""
    from bae.archive.files import bounds
    from bae.pipeline import parts
    from bae.pipeline.step import Reading

    monkeypatch.setattr(bounds, "LARGEST_DECODED_BYTES", 2 << 20)
    monkeypatch.setattr(bounds, "LARGEST_PART_BYTES", 3 << 20)
    scan = dicoms.scan(dicoms.two_views())  # 1 MiB once decoded
    archive = tmp_path / "archive"
    archive.mkdir()
    for name in ("1.zip", "2.zip"):
        (archive / name).write_bytes(zipped(*((f"{i}.dcm", scan) for i in range(3))))
    (archive / "3.dcm").write_bytes(scan)
    listing = storage.list_objects(str(archive))
    reading = replace(Reading.of(str(tmp_path / "tables")), limit_s=30.5)
    part = parts._decode_part(parts._numbered(0, listing), reading)
    parts._decoder(30.5).close()
    found = {i.object_uri.removeprefix(f"{archive}/"): i.outcome for i in parts._unpacked(part)}
    codes = {name: getattr(outcome, "code", "scan") for name, outcome in found.items()}
    assert codes == {
        "1.zip!/0.dcm": "scan",
        "1.zip!/1.dcm": "scan",
        "1.zip!/2.dcm": "zip_too_large",
        "2.zip!/0.dcm": "scan",
        "2.zip!/1.dcm": "zip_too_large",
        "2.zip!/2.dcm": "zip_too_large",
        "3.dcm": "scan",
    }

"""Filling an archive from a server that is away, says no, lies, or dies in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from bae import storage
from bae.archive.dicom import rules
from bae.dicomweb import address, pull
from bae.dicomweb.server import Server
from bae.errors import RunError, StorageError
from jobs import pull as job
from tests.fakes import dicoms, s3_server
from tests.fakes.dicomweb import CUT, ELSE, HTML, Fake

ROOT = Path(__file__).parents[2]


def _object(number: int) -> bytes:
    """Return something that is a DICOM file by its first bytes, and is quickly made."""
    meta = b"\x02\x00\x03\x00UI" + f"1.2.9.{number}".encode()
    return bytes(128) + b"DICM" + meta + bytes([number]) * 5000


def _fill(fake: Fake, count: int) -> dict[str, bytes]:
    """Put objects of one study each; return what the archive must hold then."""
    for number in range(count):
        fake.add(number, _object(number))
    return {f"1.2.7.{n}/1.2.8.{n}/1.2.9.{n}.dcm": _object(n) for n in range(count)}


def _held(archive: Path) -> dict[str, bytes]:
    """Return all files below an archive, hidden ones too."""
    return {
        str(path.relative_to(archive)): path.read_bytes()
        for path in archive.rglob("*")
        if path.is_file()
    }


def _run(fake: Fake, archive: Path, *flags: str) -> int:
    return job.main(["--dicomweb", fake.place, "--archive", str(archive), *flags])


def test_objects_arrive_as_they_are_and_once(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second call asks for no object; a new one is fetched by the third."""
    wanted = _fill(fake, 9)
    assert _run(fake, tmp_path) == 0
    assert "fetched    9 objects" in capsys.readouterr().out
    assert _held(tmp_path) == wanted
    assert sorted(fake.fetched()) == sorted(fake.objects)
    fake.asked.clear()
    assert _run(fake, tmp_path) == 0
    assert "9 there before" in capsys.readouterr().out
    assert fake.fetched() == []
    new = fake.add(20, _object(20))
    assert _run(fake, tmp_path) == 0
    assert fake.fetched() == [new]


def test_what_is_asked_for(fake: Fake, tmp_path: Path) -> None:
    """NM, from a day on; objects in the encoding they lie in."""
    _fill(fake, 1)
    source = Server(fake.place)
    pull.run(source, str(tmp_path), date(2026, 1, 5))
    searches = [path for _, path in fake.asked if path.startswith("/pacs/rs/studies?")]
    assert all("ModalitiesInStudy=NM" in path for path in searches)
    assert all("StudyDate=20260105-" in path for path in searches)
    accepts = [
        headers["Accept"]
        for (_, path), headers in zip(fake.asked, fake.headers, strict=True)
        if "/instances/" in path
    ]
    assert accepts == ['multipart/related; type="application/dicom"; transfer-syntax=*']
    assert pull.run(source, str(tmp_path / "later"), date(2026, 1, 6)).total() == 0


def test_descriptions_choose_among_what_is_told(fake: Fake, tmp_path: Path) -> None:
    """In any case of letters, by either pattern; a study without one is taken."""
    for number, words in enumerate(["Whole Body BONE scan", "Ganzkörper-Skelett", "Thyroid"]):
        fake.add(number, _object(number), StudyDescription=words)
    fake.add(3, _object(3))
    pull.run(Server(fake.place), str(tmp_path), descriptions=["*bone scan", "ganzk?rper*"])
    assert {Path(name).stem for name in _held(tmp_path)} == {"1.2.9.0", "1.2.9.1", "1.2.9.3"}


@pytest.mark.parametrize(
    "told",
    [
        {"Modality": "SR"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
        {"NumberOfFrames": rules.MOST_FRAMES + 1},
        {"Rows": rules.LARGEST_SIDE + 1, "Columns": 256},
    ],
    ids=str,
)
def test_what_no_rule_would_take_is_left_where_it_is(
    fake: Fake, tmp_path: Path, told: dict[str, object]
) -> None:
    """In a study with a scan; whatever is not told is no reason to leave it."""
    wanted = _fill(fake, 1)
    fake.add(7, _object(7), "1.2.7.0", **told)
    done = pull.run(Server(fake.place), str(tmp_path))
    assert (done[pull.FETCHED], done[pull.LEFT]) == (1, 1)
    assert _held(tmp_path) == wanted


@pytest.mark.parametrize("fault", [503, 429, CUT])
def test_a_server_that_stumbles_is_asked_again(
    fake: Fake, tmp_path: Path, fault: int | str
) -> None:
    """A third of all requests for objects fail once; the archive is whole, and only then there."""
    wanted = _fill(fake, 6)
    left = {"1.2.9.0": 1, "1.2.9.3": 1}

    def stumble(method: str, path: str) -> int | str | None:
        name = path.rpartition("/")[2]
        left[name] = left.get(name, 0) - 1
        return fault if left[name] >= 0 else None

    fake.fault = stumble
    assert _run(fake, tmp_path) == 0
    assert _held(tmp_path) == wanted
    assert len(fake.fetched()) == 8


@pytest.mark.parametrize(
    ("fault", "said"),
    [(404, "the server says 404"), (500, "says 500"), (ELSE, "not the object asked for")],
)
def test_one_object_that_cannot_be_had_costs_itself(
    fake: Fake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: int | str,
    said: str,
) -> None:
    """Exit 1 with the reason and no UID; once mended, the same command fetches only that."""
    wanted = _fill(fake, 4)
    fake.fault = lambda method, path: fault if path.endswith("/1.2.9.2") else None
    assert _run(fake, tmp_path) == 1
    out = capsys.readouterr()
    assert said in out.out and "1 objects could not be had" in out.err
    assert not re.search(r"1\.2\.[789]", out.out + out.err)
    missing = "1.2.7.2/1.2.8.2/1.2.9.2.dcm"
    assert _held(tmp_path) == {k: v for k, v in wanted.items() if k != missing}
    fake.fault = lambda method, path: None
    fake.asked.clear()
    assert _run(fake, tmp_path) == 0
    assert _held(tmp_path) == wanted and fake.fetched() == ["1.2.9.2"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (401, "BAE_DICOMWEB_TOKEN"),
        (403, "may not do this"),
        (404, "no DICOMweb service"),
        (HTML, "not as DICOMweb"),
        (503, "the server says 503"),
    ],
)
def test_a_server_that_gives_nothing_is_wrong_use(
    fake: Fake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: int | str,
    said: str,
) -> None:
    """Exit 2, one sentence, nothing written; what was set for credentials is not told."""
    monkeypatch.setenv(address.TOKEN, "s3cret")
    monkeypatch.setattr("bae.dicomweb.server.PATIENCE_S", 0.5)
    fake.fault = lambda method, path: fault
    assert _run(fake, tmp_path / "archive") == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and "s3cret" not in told
    assert not (tmp_path / "archive").exists()


def test_nobody_there_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is closed, after some patience."""
    monkeypatch.setattr("bae.dicomweb.server.PATIENCE_S", 0.5)
    place = ["--dicomweb", f"http://127.0.0.1:{s3_server.free_port()}/rs"]
    assert job.main([*place, "--archive", str(tmp_path / "archive")]) == 2
    assert "no answer for" in capsys.readouterr().err
    assert not (tmp_path / "archive").exists()


def test_a_server_that_closes_the_door_later_is_a_fault(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """401 from the third object on: exit 1, what is there is whole, the same command goes on."""
    wanted = _fill(fake, 12)
    fake.fault = lambda method, path: 401 if len(fake.fetched()) > 2 else None
    assert _run(fake, tmp_path, "--connections", "1") == 1
    assert "something was written before; run again" in capsys.readouterr().err
    assert _held(tmp_path).items() <= wanted.items() and len(_held(tmp_path)) == 2
    fake.fault = lambda method, path: None
    assert _run(fake, tmp_path) == 0
    assert _held(tmp_path) == wanted


def test_a_full_disk_is_a_fault(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, and all waiting ends with it."""

    def full(uri: str, data: bytes) -> bool:
        raise StorageError("cannot create an object: the disk is full")

    _fill(fake, 12)
    monkeypatch.setattr(storage, "create", full)
    with pytest.raises(RunError, match="the disk is full"):
        pull.run(Server(fake.place), str(tmp_path))
    assert len(fake.fetched()) < 12


@pytest.mark.parametrize("uid", ["../../../x", "..", "1.2/../../x", "1.2.9.\n", "a" * 8, "9" * 65])
def test_a_name_that_is_no_uid_becomes_no_path(fake: Fake, tmp_path: Path, uid: str) -> None:
    """Of a study, of an object: it is counted, and nothing lies outside the archive."""
    archive = tmp_path / "a" / "b" / "archive"
    for wrong in ("study", "object"):
        fake.objects.clear()
        good = fake.add(1, _object(1))
        study, series, data = fake.objects[good]
        fake.objects["bad"] = (uid if wrong == "study" else study, series, data)
        fake.told["bad"] = fake.told[good] | ({"SOPInstanceUID": uid} if wrong == "object" else {})
        done = pull.run(Server(fake.place), str(archive))
        assert done[pull.BAD_UID] == 1, wrong
        assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"1.2.9.1.dcm"}


def test_a_killed_pull_goes_on(fake: Fake, tmp_path: Path) -> None:
    """SIGKILL while objects come slowly: whole objects, and none of them is fetched again."""
    wanted = _fill(fake, 30)

    def slow(method: str, path: str) -> None:
        time.sleep(0.05)

    fake.fault = slow
    archive = tmp_path / "archive"
    command = [sys.executable, "-m", "jobs.pull", "--dicomweb", fake.place]
    process = subprocess.Popen(
        [*command, "--archive", str(archive)],
        cwd=ROOT,
        env=os.environ | {"BAE_LOG": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    give_up = time.monotonic() + 120
    while len(list(archive.rglob("*.dcm"))) < 5 and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0].decode()
    assert not re.search(r"1\.2\.[789]", said)
    before = {k: v for k, v in _held(archive).items() if ".tmp-" not in k}
    assert 5 <= len(before) < 30 and before.items() <= wanted.items()
    fake.fault = lambda method, path: None
    fake.asked.clear()
    assert _run(fake, archive) == 0
    held = {k: v for k, v in _held(archive).items() if ".tmp-" not in k}
    assert held == wanted
    # the fake may note late what the dead process asked last, so each is counted once
    there = {Path(name).stem for name in before}
    assert set(fake.fetched()) == set(fake.objects) - there


def test_an_archive_on_s3_is_filled_alike(fake: Fake, s3: s3_server.Server) -> None:
    """Conditional puts; the second call finds all there."""
    _fill(fake, 3)
    place = "s3://archive/pulled"
    source = Server(fake.place)
    assert pull.run(source, place) == {pull.FETCHED: 3}
    fake.asked.clear()
    assert pull.run(source, place) == {pull.THERE: 3}
    assert fake.fetched() == []
    names = storage.list_objects(place)["object_uri"].to_pylist()
    assert names == [f"{place}/1.2.7.{n}/1.2.8.{n}/1.2.9.{n}.dcm" for n in range(3)]
    assert storage.read_bytes(names[1]) == _object(1)


def test_memory_is_bounded_by_what_is_under_way(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that goes on beyond the limit of any object is dropped."""
    monkeypatch.setattr("bae.archive.files.bounds.LARGEST_OBJECT_BYTES", 4000)
    _fill(fake, 1)
    done = pull.run(Server(fake.place), str(tmp_path))
    assert pull.failures(done) == {"it is larger than objects are read": 1}


def test_scans_that_are_pulled_are_read(fake: Fake, tmp_path: Path) -> None:
    """By the archive's own door, from the place where they were put."""
    from bae.archive.dicom import decode

    fake.add(1, dicoms.scan(SOPInstanceUID="1.2.9.1"))
    pull.run(Server(fake.place), str(tmp_path))
    [path] = tmp_path.rglob("*.dcm")
    assert len(decode.decode(path.read_bytes()).views) == 2

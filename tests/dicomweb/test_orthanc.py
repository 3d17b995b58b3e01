"""The same against a real server: what Orthanc was given by others and by us, and gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from pydicom import uid

from bae import storage
from bae.dicomweb import address, answers, pull
from bae.dicomweb.server import Server
from bae.errors import StorageError
from bae.report.dicom import exports
from jobs import pull as job
from tests.fakes import dicoms, orthanc, rows

MODEL = "one"
SYNTAXES = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
]


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom Orthanc knows."""
    monkeypatch.setenv(address.USER, orthanc.USER)
    monkeypatch.setenv(address.PASSWORD, orthanc.PASSWORD)


def _post(real: orthanc.Server, data: bytes) -> None:
    """Give Orthanc an object past our code and past DICOMweb."""
    requests.post(
        f"http://{real.root.split('/')[0]}/instances",
        data=data,
        auth=(orthanc.USER, orthanc.PASSWORD),
        timeout=30,
    ).raise_for_status()


def _object(number: int, syntax: str = uid.ExplicitVRLittleEndian, **changes: Any) -> bytes:
    where = {
        "SOPInstanceUID": f"1.2.9.{number}",
        "SeriesInstanceUID": f"1.2.8.{number}",
        "StudyInstanceUID": f"1.2.7.{number}",
        "PatientID": f"P-{number}",
        "PatientName": "MÜLLER^ÅSA",
        "SpecificCharacterSet": "ISO_IR 100",
        "StudyDescription": "Ganzkörper-Skelett",
    }
    return dicoms.scan(syntax=syntax, **(where | changes))


@pytest.mark.slow
def test_an_archive_survives_the_way_through_a_pacs(
    real: orthanc.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every encoding, byte for byte, by the job; a CT and a report stay; then --since and more."""
    wanted = {}
    for number, syntax in enumerate(SYNTAXES, 100):
        day = f"2026010{number - 99}"
        data = _object(number, syntax, StudyDate=day)
        wanted[f"1.2.7.{number}/1.2.8.{number}/1.2.9.{number}.dcm"] = data
        _post(real, data)
    _post(real, _object(120, Modality="CT", SOPClassUID=uid.CTImageStorage))
    beside = {"StudyInstanceUID": "1.2.7.100", "Modality": "SR", "StudyDate": "20260101"}
    _post(real, _object(121, SOPClassUID=uid.ComprehensiveSRStorage, **beside))
    place = ["--dicomweb", f"dicomweb+http://{real.root}", "--archive"]
    assert job.main([*place, str(tmp_path / "all")]) == 0
    assert f"fetched    {len(wanted)} objects" in capsys.readouterr().out
    assert _held(tmp_path / "all") == wanted
    assert job.main([*place, str(tmp_path / "all")]) == 0
    said = capsys.readouterr().out
    assert "fetched    0 objects" in said and f"{len(wanted)} there before" in said
    assert job.main([*place, str(tmp_path / "new"), "--since", "2026-01-06"]) == 0
    assert set(_held(tmp_path / "new")) == {
        name for name in wanted if "105" in name or "106" in name
    }
    named = ["--description", "ganzkörper*", "--description", "*bone*"]
    assert job.main([*place, str(tmp_path / "named"), *named]) == 0
    assert set(_held(tmp_path / "named")) == set(wanted)


def _held(archive: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(archive)): path.read_bytes()
        for path in archive.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_exports_are_found_under_their_study(real: orthanc.Server, tmp_path: Path) -> None:
    """Report, picture and document, sent once; byte for byte those that a folder gets."""
    archive, tables = tmp_path / "archive", str(tmp_path / "tables")
    archive.mkdir()
    data = _object(1)
    _post(real, data)
    (archive / "0000001.dcm").write_bytes(data)
    rows.night(tables, storage.list_objects(str(archive)), MODEL, str(archive))
    place = f"dicomweb+http://{real.root}"
    assert exports.run(tables, str(archive), MODEL, place) == {exports.WRITTEN: 1}
    source = Server(place)
    found = {answers.text(item, answers.SOP_CLASS): item for item in source.instances("1.2.7.1")}
    made = {
        exports.REPORT: uid.ComprehensiveSRStorage,
        exports.PICTURE: uid.SecondaryCaptureImageStorage,
        exports.DOCUMENT: uid.EncapsulatedPDFStorage,
    }
    assert found.keys() == {uid.NuclearMedicineImageStorage, *made.values()}
    assert exports.run(tables, str(archive), MODEL, str(tmp_path / "kept")) == {exports.WRITTEN: 1}
    for kind, sop_class in made.items():
        [path] = (tmp_path / "kept").glob(f"*-{kind}")
        item = found[sop_class]
        series, instance = (answers.text(item, tag) for tag in (answers.SERIES, answers.INSTANCE))
        assert source.fetch("1.2.7.1", series, instance) == path.read_bytes()
        ds = pydicom.dcmread(path)
        assert (str(ds.PatientName), ds.PatientID) == ("MÜLLER^ÅSA", "P-1")
    # nothing is left; where the note is lost, the same objects are sent and are there already
    assert exports.missing(tables, str(archive), MODEL, place) == []
    again = [path.read_bytes() for path in (tmp_path / "kept").iterdir()]
    assert source.store(again) == {}
    assert len(list(source.instances("1.2.7.1"))) == 4
    # what was sent is no bone scan to the next pull
    done = pull.run(source, str(tmp_path / "pulled"), descriptions=["*Skelett*"])
    assert f"{tmp_path}/pulled/1.2.7.1/1.2.8.1/1.2.9.1.dcm" in {
        str(path) for path in (tmp_path / "pulled" / "1.2.7.1").rglob("*.dcm")
    }
    assert len(list((tmp_path / "pulled" / "1.2.7.1").rglob("*.dcm"))) == 1
    assert not pull.failures(done)


def test_a_real_refusal_is_told(real: orthanc.Server) -> None:
    """Orthanc says 400 with a Failed SOP Sequence, and takes the other one."""
    broken = _object(50, StudyInstanceUID=None)
    assert Server(f"http://{real.root}").store([broken, _object(51)]) == {"1.2.9.50": "code C000"}
    [item] = Server(f"http://{real.root}").instances("1.2.7.51")
    assert answers.text(item, answers.INSTANCE) == "1.2.9.51"


@pytest.mark.parametrize(
    ("place", "password", "said"),
    [
        ("dicom-web", "wrong", "BAE_DICOMWEB_TOKEN"),
        ("dicom", orthanc.PASSWORD, "no DICOMweb service"),
    ],
)
def test_a_wrong_password_or_path_is_told(
    real: orthanc.Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    password: str,
    said: str,
) -> None:
    """Exit 2 and nothing written."""
    monkeypatch.setenv(address.PASSWORD, password)
    root = real.root.replace("dicom-web", place)
    assert job.main(["--dicomweb", f"http://{root}", "--archive", str(tmp_path / "a")]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and password not in told
    assert not (tmp_path / "a").exists()


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended by its process id; the next request finds nobody, and says so in time."""
    if why := orthanc.missing():
        pytest.skip(why)
    monkeypatch.setattr("bae.dicomweb.server.PATIENCE_S", 0.5)
    own = orthanc.start(tmp_path)
    source = Server(f"http://{own.root}")
    assert list(source.studies()) == []
    own.stop()
    with pytest.raises(StorageError, match="no answer for"):
        list(source.studies())

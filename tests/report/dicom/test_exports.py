"""DICOM made of predictions, read back by readers that did not write it."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import gdcm
import highdicom as hd
import numpy as np
import pyarrow as pa
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from bae import storage
from bae.archive.sandbox import Decoder
from bae.errors import StorageError
from bae.method.regional import places
from bae.report.dicom import document, exports, sr
from bae.report.dicom import picture as dicom_picture
from bae.report.dicom import source as dicom_source
from bae.scan import Scan
from bae.tables import contract, delta, erase, publish, runs
from tests.archive.test_objects import EIGHT, picture, zipped
from tests.fakes import dicoms, planted, rows

MODEL = "one"
PERSON = {
    "PatientName": "MÜLLER^ÅSA",
    "PatientID": "P-77",
    "SpecificCharacterSet": "ISO_IR 100",
    "AccessionNumber": "A1",
    "StudyID": "S1",
    "StudyTime": "1030",
    "SeriesInstanceUID": "1.2.3.4",
}


def _object(number: int, **changes: Any) -> bytes:
    return dicoms.scan(SOPInstanceUID=f"1.2.3.4.{number}", **(PERSON | changes))


def _archive(folder: Path) -> None:
    """Write one object of each kind; names end in seven digits."""
    single = {"SOPClassUID": uid.SecondaryCaptureImageStorage, "SOPInstanceUID": "1.2.3.4.5"}
    content = {
        "0000001.dcm": _object(1),
        "0000002.png": picture(EIGHT),
        "0000003.dcm": zipped(("a/ok.dcm", _object(3)), ("b.txt", b"no scan")),
        "0000004.dcm": _object(4, StudyInstanceUID="none"),
        "0000005.dcm": dicoms.encode(
            dicoms.put(
                dicoms.header([dicoms.detector(0)], **(PERSON | single)), dicoms.two_views()[:1]
            )
        ),
        "0000006.dcm": _object(6),
        "0000007.dcm": _object(7),
    }
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)


def _night(root: str, folder: Path) -> None:
    """Publish made-up predictions for the archive's objects."""
    listing = storage.list_objects(str(folder))
    staged = rows.staged(listing, MODEL).to_pylist()
    for row in staged:
        name = row["object_uri"].rsplit("/", 1)[1]
        if name.startswith("0000003"):
            row["object_uri"] += "!/a/ok.dcm"
        if name.startswith("0000005"):
            for place in ("scan", "age"):
                row[place]["views"] = ["posterior"]
            for place in ("boxes", "heatmaps"):
                row[place] = [r | {"view_index": 0} for r in row[place][1:]]
    run = runs.open_run(root, str(folder), MODEL, listing)
    run.store(0, pa.Table.from_pylist(staged, schema=contract.STAGED))
    publish.finish(run)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An archive and its tables; object 6 was replaced and object 7 deleted since."""
    folder = tmp_path_factory.mktemp("export")
    _archive(folder / "archive")
    _night(str(folder / "tables"), folder / "archive")
    (folder / "archive" / "0000006.dcm").write_bytes(_object(6, PatientID="other"))
    (folder / "archive" / "0000007.dcm").unlink()
    return str(folder / "archive"), str(folder / "tables")


def _run(cohort: tuple[str, str], target: str) -> dict[str, int]:
    archive, root = cohort
    left = exports.missing(root, archive, MODEL, target)
    return dict(exports.write(root, MODEL, target, left))


@pytest.fixture(scope="module")
def done(cohort: tuple[str, str]) -> Path:
    """All that can be exported, where it goes unless another place is named."""
    counts = _run(cohort, exports.folder(cohort[1]))
    assert counts == {
        exports.WRITTEN: 3,
        exports.NO_DICOM: 1,
        exports.NO_REFERENCE: 1,
        exports.NOT_THERE: 2,
    }
    return Path(exports.folder(cohort[1]))


def _of(done: Path, number: int, kind: str) -> Path:
    return done / f"{rows.key('scan', number)}-{MODEL}-{kind}"


# ---- the report, walked by hand -------------------------------------------------------------


def _code(ds: Dataset, keyword: str = "ConceptNameCodeSequence") -> tuple[str, str]:
    [item] = ds[keyword].value
    assert item.CodeMeaning
    return item.CodeValue, item.CodingSchemeDesignator


def _children(ds: Dataset, name: tuple[str, str]) -> list[Dataset]:
    return [item for item in ds.get("ContentSequence", []) if _code_or_none(item) == name]


def _code_or_none(ds: Dataset) -> tuple[str, str] | None:
    return _code(ds) if "ConceptNameCodeSequence" in ds else None


def _value(ds: Dataset) -> tuple[float, tuple[str, str]]:
    [measured] = ds.MeasuredValueSequence
    return float(measured.NumericValue), _code(measured, "MeasurementUnitsCodeSequence")


GROUP, REGION = ("125007", "DCM"), ("111030", "DCM")
YEARS, MM = ("a", "UCUM"), ("mm", "UCUM")


def _groups(ds: Dataset) -> list[Dataset]:
    [measurements] = _children(ds, ("126010", "DCM"))
    return _children(measurements, GROUP)


def test_report_has_the_structure_of_tid_1500(done: Path) -> None:
    """Each row of TID 1500 that is mandatory, with its value type and relationship."""
    ds = pydicom.dcmread(_of(done, 1, exports.REPORT))
    assert ds.SOPClassUID == uid.ComprehensiveSRStorage
    assert ds.Modality == "SR" and ds.ValueType == "CONTAINER"
    assert _code(ds) == ("126000", "DCM")
    [template] = ds.ContentTemplateSequence
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    shape = [(item.RelationshipType, item.ValueType, _code(item)) for item in ds.ContentSequence]
    for row in [
        ("HAS CONCEPT MOD", "CODE", ("121049", "DCM")),  # TID 1204: language
        ("HAS OBS CONTEXT", "CODE", ("121005", "DCM")),  # TID 1002: observer type
        ("HAS OBS CONTEXT", "UIDREF", ("121012", "DCM")),  # TID 1004: device
        ("HAS CONCEPT MOD", "CODE", ("121058", "DCM")),  # procedure reported
        ("CONTAINS", "CONTAINER", ("126010", "DCM")),  # imaging measurements
    ]:
        assert shape.count(row) == 1, row
    for group in _groups(ds):
        assert (group.ValueType, group.RelationshipType) == ("CONTAINER", "CONTAINS")
        [identifier] = _children(group, ("112039", "DCM"))
        [unique] = _children(group, ("112040", "DCM"))
        assert identifier.ValueType == "TEXT" and unique.ValueType == "UIDREF"
        assert identifier.RelationshipType == unique.RelationshipType == "HAS OBS CONTEXT"
        [model] = _children(group, ("111003", "DCM"))  # TID 4019: algorithm version
        assert model.TextValue == MODEL


def test_report_says_what_the_tables_say(done: Path, cohort: tuple[str, str]) -> None:
    """Predicted age and interval of the scan, to a hundredth of a year."""
    [age] = [
        row
        for row in delta.read(cohort[1], "cohort/ages").to_pylist()
        if row["scan_id"] == rows.key("scan", 1)
    ]
    whole, *_ = _groups(pydicom.dcmread(_of(done, 1, exports.REPORT)))
    for name in ("predicted_age", "age_low", "age_high"):
        [number] = _children(whole, (name, "99BAE"))
        value, unit = _value(number)
        key = f"{name}_years"
        assert value == pytest.approx(age[key], abs=0.005) and unit == YEARS


def test_regions_lie_in_their_frames_of_the_source(done: Path) -> None:
    """One closed rectangle per view, the table's box, on the frame that its view came from."""
    source = pydicom.dcmread(io.BytesIO(_object(1)))
    ds = pydicom.dcmread(_of(done, 1, exports.REPORT))
    _, *regions = _groups(ds)
    frames = []
    for group in regions:
        [region] = _children(group, REGION)
        assert (region.ValueType, region.RelationshipType) == ("SCOORD", "CONTAINS")
        assert region.GraphicType == "POLYLINE"
        assert list(region.GraphicData) == [10, 20, 110, 20, 110, 220, 10, 220, 10, 20]
        [image] = region.ContentSequence
        assert (image.ValueType, image.RelationshipType) == ("IMAGE", "SELECTED FROM")
        [reference] = image.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == source.SOPClassUID
        frames.append(reference.ReferencedFrameNumber)
        [width] = _children(group, ("103355008", "SCT"))
        value, unit = _value(width)
        assert value == pytest.approx(100 * 2.3) and unit == MM
    # dicoms.scan has the anterior detector first
    assert frames == [1, 2]
    [study] = ds.CurrentRequestedProcedureEvidenceSequence
    [series] = study.ReferencedSeriesSequence
    [evidence] = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (
        source.StudyInstanceUID,
        source.SeriesInstanceUID,
    )
    assert evidence.ReferencedSOPInstanceUID == source.SOPInstanceUID


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The report of a scan with three regions in each view, and their rows."""
    data = _object(1)
    entry = pa.table(
        {"object_uri": ["/x/0000001.dcm"], "etag": ["e"], "size_bytes": [1]},
        schema=storage.LISTING,
    )
    [row] = rows.staged(entry, rows.REGIONS).to_pylist()
    age = row["age"] | {"object_version": 1, "predicted_at": pydicom.valuerep.DT("20260101120000")}
    with Decoder() as decoder:
        [(_, scan)] = decoder.scans("", data)
    assert isinstance(scan, Scan)
    shown = dicom_source.page(data, scan, age, row["boxes"], row["heatmaps"])
    path = tmp_path_factory.mktemp("several") / "sr.dcm"
    path.write_bytes(sr.structured_report(shown))
    return path, row["boxes"]


def test_each_region_has_a_group_with_its_place_weight_and_years(
    several: tuple[Path, list[dict[str, Any]]],
) -> None:
    """One closed rectangle each, in its frame; SNOMED's site with the side; the table's numbers."""
    path, boxes = several
    _, *groups = _groups(pydicom.dcmread(path))
    assert len(groups) == len(boxes) == 6
    sites = {
        "skull": ("89546000", None),
        "lumbar spine": ("122496007", None),
        "left knee": ("72696002", "7771000"),
    }
    for group, row in zip(groups, boxes, strict=True):
        for name, column, unit in (
            ("region_weight", "weight", ("1", "UCUM")),
            ("added_years", "added_years", YEARS),
        ):
            [number] = _children(group, (name, "99BAE"))
            value, found = _value(number)
            assert value == pytest.approx(row[column], abs=5e-5) and found == unit
        [site] = _children(group, ("363698007", "SCT"))
        assert (site.ValueType, site.RelationshipType) == ("CODE", "HAS CONCEPT MOD")
        code, side = sites[row["region"]]
        assert _code(site, "ConceptCodeSequence") == (code, "SCT")
        told = [_code(item, "ConceptCodeSequence")[0] for item in site.get("ContentSequence", [])]
        assert told == ([side] if side else [])
        [region] = _children(group, REGION)
        assert list(region.GraphicData)[:2] == [row["x0"], row["y0"]]
        [reference] = region.ContentSequence[0].ReferencedSOPSequence
        assert reference.ReferencedFrameNumber == row["view_index"] + 1
        [identifier] = _children(group, ("112039", "DCM"))
        number = row["box_index"] + 1
        assert identifier.TextValue == f"region {number}, {row['region']}, {row['view']} view"
    assert sum(_value(_children(g, ("region_weight", "99BAE"))[0])[0] for g in groups) == (
        pytest.approx(1.0, abs=1e-3)
    )
    unique = [_children(group, ("112040", "DCM"))[0].UID for group in groups]
    assert len(set(unique)) == len(unique)


def test_highdicom_finds_the_regions_of_a_place(several: tuple[Path, list[dict[str, Any]]]) -> None:
    """Its reader takes each group for TID 1410 and its site for the place."""
    report = hd.sr.srread(several[0])
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 6
    knees = [g for g in groups if g.finding_sites[0].value.value == "72696002"]
    assert [g.finding_sites[0].laterality.value for g in knees] == ["7771000"] * 2


def test_every_place_has_a_code_and_only_its_pairs_a_side() -> None:
    """All names that a place can have; another name is no site."""
    for place in places.PLACES:
        assert place.name in sr.SITES, "else say in the notes that it is text only"
        names = {place.name: None}
        if place.pair:
            names = {
                f"left {place.name}": "Left",
                f"right {place.name}": "Right",
                place.pair: "Bilateral",
            }
        for name, side in names.items():
            found = sr._sites(name)
            assert [site.value for site in found] == [*sr.SITES[place.name]]
            for site in found:
                assert (site.laterality and site.laterality.meaning) == side
    assert sr._sites("tail") == sr._sites(None) == []


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="DCMTK is not installed")
def test_dcmtk_reads_a_report_of_several_regions(
    several: tuple[Path, list[dict[str, Any]]],
) -> None:
    """It checks the content tree against the Comprehensive SR's constraints."""
    command = ["dsrdump", "-Er", str(several[0])]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Share of the predicted age from the region" in read.stdout
    assert "E: " not in read.stderr


@pytest.mark.parametrize("kind", [exports.REPORT, exports.PICTURE, exports.DOCUMENT])
def test_all_belong_to_the_same_patient_and_study(done: Path, kind: str) -> None:
    """Name and ID survive the change of character set; UIDs are new and valid."""
    source = pydicom.dcmread(io.BytesIO(_object(1)))
    ds = pydicom.dcmread(_of(done, 1, kind))
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert str(ds.PatientName) == str(source.PatientName) == "MÜLLER^ÅSA"
    for keyword in (
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
    ):
        assert ds[keyword].value == source[keyword].value, keyword
    own = [ds.SOPInstanceUID, ds.SeriesInstanceUID]
    assert all(value.is_valid and value.startswith("2.25.") for value in own)
    assert not set(own) & {source.SOPInstanceUID, source.SeriesInstanceUID}
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID


def test_no_uid_is_used_twice(done: Path) -> None:
    """Reports, pictures, documents, series and tracked regions of all scans."""
    found = []
    for path in sorted(done.iterdir()):
        ds = pydicom.dcmread(path)
        found += [ds.SOPInstanceUID, ds.SeriesInstanceUID]
        if path.name.endswith(exports.REPORT):
            found += [_children(g, ("112040", "DCM"))[0].UID for g in _groups(ds)]
    assert len(found) == len(set(found)) >= 18


def test_highdicom_finds_the_measurements(done: Path) -> None:
    """Its reader takes the report for TID 1500, too."""
    report = hd.sr.srread(_of(done, 1, exports.REPORT))
    groups = report.content.get_planar_roi_measurement_groups()
    assert [g.roi.value.tolist()[2] for g in groups] == [[110.0, 220.0]] * 2
    [whole] = report.content.get_image_measurement_groups()
    assert next(m.name.meaning for m in whole.get_measurements()) == "Predicted skeletal age"


def test_single_frame_classes_are_referred_to_without_frame(done: Path) -> None:
    """PS3.3 table 10-3: a frame number only where the SOP class has several."""
    for kind in (exports.REPORT, exports.PICTURE, exports.DOCUMENT):
        ds = pydicom.dcmread(_of(done, 5, kind))
        assert all(element.keyword != "ReferencedFrameNumber" for element in ds.iterall())
        assert any(
            element.keyword == "ReferencedSOPInstanceUID" and element.value == "1.2.3.4.5"
            for element in ds.iterall()
        )


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="DCMTK is not installed")
def test_dcmtk_reads_the_report(done: Path) -> None:
    """DCMTK checks the content tree against the Comprehensive SR's constraints."""
    for number in (1, 3, 5):
        read = subprocess.run(
            ["dsrdump", "-Er", str(_of(done, number, exports.REPORT))],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Predicted skeletal age" in read.stdout
        assert "E: " not in read.stderr


# ---- the picture ----------------------------------------------------------------------------


def test_gdcm_sees_the_page_that_was_drawn(done: Path, cohort: tuple[str, str]) -> None:
    """Another decoder gives the drawn pixels back, bit for bit."""
    path = _of(done, 1, exports.PICTURE)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    columns, rows_ = image.GetDimension(0), image.GetDimension(1)
    raw = image.GetBuffer().encode("utf-8", "surrogateescape")
    seen = np.frombuffer(raw, np.uint8)
    if image.GetPlanarConfiguration():
        seen = seen.reshape(3, rows_, columns).transpose(1, 2, 0)
    shown = _page(cohort[1], 1)
    assert np.array_equal(seen.reshape(rows_, columns, 3), dicom_picture.drawn(shown))


def _page(root: str, number: int) -> dicom_source.Page:
    scan_id = rows.key("scan", number)
    with Decoder() as decoder:
        [(_, scan)] = decoder.scans("", _object(number))
    assert isinstance(scan, Scan)
    scan = dataclasses.replace(scan, pixel_mm=(2.4, 2.3))  # as the table has it
    told = [
        [row for row in delta.read(root, name).to_pylist() if row["scan_id"] == scan_id]
        for name in ("cohort/ages", "cohort/boxes", "cohort/heatmaps")
    ]
    return dicom_source.page(_object(number), scan, told[0][0], told[1], told[2])


def test_picture_refers_to_its_source_and_says_what_it_is(done: Path) -> None:
    """Derived, of these frames, with a caution; its text names nobody."""
    ds = pydicom.dcmread(_of(done, 1, exports.PICTURE))
    assert ds.SOPClassUID == uid.SecondaryCaptureImageStorage
    assert ds.ImageType[0] == "DERIVED"
    [source] = ds.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "1.2.3.4.1"
    assert list(source.ReferencedFrameNumber) == [1, 2]
    assert "not for the care of a single patient" in ds.ImageComments
    pixels = ds.pixel_array
    assert pixels.shape[2] == 3 and (pixels == 255).mean() > 0.3, "dark on white"


# ---- the document ---------------------------------------------------------------------------


def test_document_has_the_modules_of_an_encapsulated_pdf(done: Path) -> None:
    """PS3.3 table A.45.1-1: each element of type 1 has a value, each of type 2 is there."""
    ds = pydicom.dcmread(_of(done, 1, exports.DOCUMENT))
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1"
    assert ds.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID
    fixed = {
        "Modality": "DOC",
        "ConversionType": "WSD",
        "BurnedInAnnotation": "NO",
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "DocumentTitle": "Predicted skeletal age",
        "VerificationFlag": "UNVERIFIED",
        "InstanceNumber": 1,
    }
    assert {keyword: ds[keyword].value for keyword in fixed} == fixed
    for keyword in ("ContentDate", "ContentTime", "AcquisitionDateTime", "ReferringPhysicianName"):
        assert keyword in ds
    assert _code(ds) == ("126000", "DCM")
    [source] = ds.SourceInstanceSequence
    assert source.ReferencedSOPInstanceUID == "1.2.3.4.1"
    assert source.ReferencedSOPClassUID == uid.NuclearMedicineImageStorage


def test_document_is_the_page_and_names_nobody(done: Path, cohort: tuple[str, str]) -> None:
    """The bytes that are drawn, of even length; its streams hold nothing of the person."""
    ds = pydicom.dcmread(_of(done, 1, exports.DOCUMENT))
    pdf = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    # the page's own date is the month that cohort/ tells, made no earlier than its scan
    again = document.drawn(_page(cohort[1], 1))
    assert re.sub(rb"D:\d+", b"", pdf) == re.sub(rb"D:\d+", b"", again)
    assert len(ds.EncapsulatedDocument) % 2 == 0
    assert pdf.startswith(b"%PDF-1.") and pdf.rstrip().endswith(b"%%EOF")
    streams = [
        zlib.decompress(part) for part in re.findall(rb"stream\r?\n(x.+?)\nendstream", pdf, re.S)
    ]
    assert len(streams) > 3
    for secret in ("MÜLLER", "P-77", "A1^", "1.2.3.4", rows.key("scan", 1), rows.key("patient", 1)):
        assert all(secret.encode() not in part for part in (pdf, *streams)), secret


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler-utils is not installed")
def test_poppler_reads_the_document(done: Path, tmp_path: Path) -> None:
    """One page, dated by its prediction; the age, the model and the caution as text."""
    ds = pydicom.dcmread(_of(done, 1, exports.DOCUMENT))
    path = tmp_path / "page.pdf"
    path.write_bytes(ds.EncapsulatedDocument)

    def told(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    about = told("pdfinfo", "-isodates", str(path))
    assert re.search(r"^Pages: +1$", about, re.M)
    assert re.search(rf"^CreationDate: +{ds.ContentDate[:4]}-{ds.ContentDate[4:6]}", about, re.M)
    text = told("pdftotext", str(path), "-")
    for words in (
        "Predicted skeletal age",
        f"model {MODEL}",
        "not for the care",
        "anterior",
        "crop",
    ):
        assert words in text


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_dciodvfy_has_no_error(done: Path) -> None:
    """Of the standard's own checker, in any of the three."""
    for kind in (exports.REPORT, exports.PICTURE, exports.DOCUMENT):
        command = ["dciodvfy", str(_of(done, 1, kind))]
        read = subprocess.run(command, capture_output=True, text=True, check=False)
        said = read.stdout + read.stderr
        assert "Error" not in said, said


# ---- what is exported when ------------------------------------------------------------------


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_exporting_twice_gives_the_same_bytes_and_then_nothing(
    done: Path, cohort: tuple[str, str], tmp_path: Path
) -> None:
    """Elsewhere: the same files. At the same place: only what cannot be exported is left."""
    _run(cohort, str(tmp_path))
    assert _bytes(tmp_path) == _bytes(done)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    left = exports.missing(cohort[1], cohort[0], MODEL, str(tmp_path))
    assert sorted(row["scan_id"] for row in left) == sorted(
        rows.key("scan", n) for n in (2, 4, 6, 7)
    )
    assert exports.WRITTEN not in _run(cohort, str(tmp_path))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing, where what is drawn does not matter: it takes most of the time."""
    monkeypatch.setattr(dicom_picture, "drawn", lambda shown: np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(document, "drawn", lambda shown: b"%PDF-")


@pytest.mark.parametrize("writes", [1, 5])
def test_broken_export_is_completed_by_the_same_call(
    writes: int,
    quick: None,
    cohort: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many objects were written before it broke."""
    whole, tmp_path = tmp_path / "whole", tmp_path / "broken"
    _run(cohort, str(whole))
    left = iter(range(writes))
    real = storage.write_bytes

    def breaking(place: str, data: bytes) -> None:
        if next(left, None) is None:
            raise StorageError("the disk is full")
        real(place, data)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_bytes", breaking)
        with pytest.raises(StorageError):
            _run(cohort, str(tmp_path))
    assert len(list(tmp_path.iterdir())) == writes
    _run(cohort, str(tmp_path))
    assert _bytes(tmp_path) == _bytes(whole)


def test_newer_object_of_a_scan_gets_its_own_export(quick: None, tmp_path: Path) -> None:
    """Other file, other UIDs; the older one stays as it was."""
    folder, root = tmp_path / "archive", str(tmp_path / "tables")
    folder.mkdir()
    names: list[set[str]] = []
    for patient in ("P-1", "P-2"):
        (folder / "0000001.dcm").write_bytes(_object(1, PatientID=patient))
        rows.night(root, storage.list_objects(str(folder)), MODEL, str(folder))
        _run((str(folder), root), exports.folder(root))
        names.append(set(_bytes(Path(exports.folder(root)))))
    first, both = names
    new = both - first
    assert first < both and {name.rsplit("-", 2)[1] for name in new} == {"2"}
    uids = [pydicom.dcmread(Path(exports.folder(root)) / n).SOPInstanceUID for n in both]
    assert len(set(uids)) == 6


def test_erasure_removes_a_persons_exports_and_no_others(quick: None, tmp_path: Path) -> None:
    """Scans 2 and 3 belong to one made-up person, scan 4 to another."""
    folder, root = tmp_path / "archive", str(tmp_path / "tables")
    folder.mkdir()
    for number in (2, 3, 4):
        (folder / f"000000{number}.dcm").write_bytes(_object(number))
    rows.night(root, storage.list_objects(str(folder)), MODEL, str(folder))
    assert _run((str(folder), root), exports.folder(root)) == {exports.WRITTEN: 3}
    erased = erase.erase(root, rows.key("patient", 1))
    assert erased.exports == 6
    assert {name.split("-")[0] for name in _bytes(Path(exports.folder(root)))} == {
        rows.key("scan", 4)
    }


# ---- odd sources ----------------------------------------------------------------------------

ODD: dict[str, dict[str, Any]] = {
    "no patient": {"PatientName": None, "PatientID": None, "PatientSex": None},
    "a name of no form": {"PatientName": "^^^=x=y=z=^", "ReferringPhysicianName": "A" * 300},
    "no dates": {"StudyDate": None, "StudyTime": None, "PatientBirthDate": None},
    "dates of no form": {"StudyDate": "15.1.2011", "StudyTime": "noon", "PatientBirthDate": "x"},
    "sex of no form": {"PatientSex": "female"},
    "long identifiers": {"PatientID": "9" * 200, "AccessionNumber": "8" * 99, "StudyID": "7" * 99},
    "several values": {"PatientID": ["a", "b"], "StudyDescription": ["c", "d"]},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD.keys())
def test_odd_headers_are_exported_all_the_same(
    changes: dict[str, Any],
    quick: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """All objects can be read; nothing of the header is logged or printed."""
    data = _object(1, **changes)
    caplog.clear()  # of what pydicom said when the object was made
    capfd.readouterr()
    _all(data)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_source_full_of_text_is_exported(capfd: pytest.CaptureFixture[str]) -> None:
    """Every text element filled; private and nested ones do not travel."""
    data, secrets = planted.plant(planted.words())
    for made in _all(data):
        ds = pydicom.dcmread(io.BytesIO(made))
        kept = {str(ds[k].value) for k in ("PatientName", "PatientID", "AccessionNumber")}
        assert kept <= set(secrets)
        planted_here = [secret for secret in secrets if secret.encode() in made]
        assert len(planted_here) < 20, "patient, study, and what is referred to"
    assert capfd.readouterr() == ("", "")


def _all(data: bytes) -> list[bytes]:
    with Decoder() as decoder:
        [(_, scan)] = decoder.scans("", data)
    assert isinstance(scan, Scan)
    entry = pa.table(
        {"object_uri": ["/x/0000001.dcm"], "etag": ["e"], "size_bytes": [1]},
        schema=storage.LISTING,
    )
    [row] = rows.staged(entry, MODEL).to_pylist()
    age = row["age"] | {"object_version": 1, "predicted_at": pydicom.valuerep.DT("20260101120000")}
    shown = dicom_source.page(data, scan, age, row["boxes"], row["heatmaps"])
    made = [make(shown) for make in exports._MADE.values()]
    assert all(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID for data in made)
    return made

"""Labels files and age groups."""

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bae import recipes
from bae.archive import labels, privacy
from bae.errors import LabelsError
from bae.scan import Identity, Scan, View

COUNTS = np.ones((2, 2), np.uint16)
SCAN = Scan(
    views=(View(name="unknown", counts=COUNTS),),
    identity=Identity(patient="HOSPITAL\0P-1", study="1.2.3", instance="9"),
    flags=("pixel_size_missing", "view_unknown"),
)
URI = "s3://bucket/sets/2011/case_0042.png"


KEY = bytes(32)


def _apply(known: labels.Labels, uri: str, scan: Scan) -> Scan:
    """Match a scan as reading does, and apply its label."""
    patient = scan.identity.patient.rpartition("\0")[2]
    person = privacy.person_key(KEY, patient)
    match = known.match(uri, privacy.study_key(KEY, scan.identity.study), person)
    return scan if match is None else labels.apply(known.label(match), scan)


def _load(tmp_path: Path, text: str) -> labels.Labels:
    place = tmp_path / "labels.csv"
    place.write_text(text, encoding="utf-8")
    return labels.load(str(place), KEY)


@pytest.mark.parametrize(
    "key",
    [URI, "sets/2011/case_0042.png", "case_0042.png", "case_0042", "P-1", "1.2.3"],
)
def test_a_key_is_an_object_a_patient_or_a_study(tmp_path: Path, key: str) -> None:
    """Any trailing part of the path, the bare name, Patient ID, Study Instance UID."""
    scan = _apply(_load(tmp_path, f"key,age_years\n{key},63.5\n"), URI, SCAN)
    assert (scan.age_years, scan.age_source) == (63.5, "labels")


@pytest.mark.parametrize("key", ["0042", "case", "042.png", "P-2", "case_0042.dcm"])
def test_other_keys_do_not_match(tmp_path: Path, key: str) -> None:
    """Parts of names are not names."""
    assert _apply(_load(tmp_path, f"key,age_years\n{key},63.5\n"), URI, SCAN) is SCAN


def test_a_member_of_a_zip_file_is_found_by_its_name(tmp_path: Path) -> None:
    """Inside and outside the zip file alike."""
    known = _load(tmp_path, "key,age_years\na/7.png,50\n")
    assert _apply(known, "/archive/set.zip!/a/7.png", SCAN).age_years == 50


def test_the_object_beats_the_patient(tmp_path: Path) -> None:
    """A scan's own label counts more than its patient's."""
    known = _load(tmp_path, "key,age_years\nP-1,40\ncase_0042.png,63\n")
    assert _apply(known, URI, SCAN).age_years == 63


def test_every_column_of_a_labels_file_is_applied(tmp_path: Path) -> None:
    """Age from dates, sex, view, pixel size, patient; solved flags go away."""
    text = (
        "key,birth_date,scan_date,sex,view,pixel_mm,patient\n"
        "case_0042,1950-06-01,20110115,female,anterior,2.4,Q7\n"
    )
    scan = _apply(_load(tmp_path, text), URI, SCAN)
    assert scan.age_years == pytest.approx(22143 / 365.25)
    assert (scan.sex, scan.views[0].name, scan.pixel_mm) == ("F", "anterior", (2.4, 2.4))
    assert scan.identity.patient == "Q7"
    assert scan.flags == ()


def test_labels_override_the_header_and_disagreement_is_flagged(tmp_path: Path) -> None:
    """More than a year apart, or the other sex."""
    known = _load(tmp_path, "key,age_years,sex\nP-1,63.5,M\n")
    near = replace(SCAN, age_years=62.9, age_source="patient_age", sex="M", flags=())
    assert _apply(known, URI, near).flags == ()
    far = replace(near, age_years=61.0, sex="F")
    scan = _apply(known, URI, far)
    assert (scan.age_years, scan.sex) == (63.5, "M")
    assert scan.flags == ("label_age_disagrees", "label_sex_disagrees")


def test_empty_cells_leave_the_header_alone(tmp_path: Path) -> None:
    """NA and nothing are the same."""
    known = _load(tmp_path, "key,age_years,sex,pixel_mm\nP-1,NA,,unknown\n")
    scan = replace(SCAN, age_years=50.0, sex="F", age_source="birth_date")
    assert _apply(known, URI, scan).__dict__ == scan.__dict__


@pytest.mark.parametrize("age", ["-3", "121", "999Y"])
def test_implausible_labels_are_refused_and_the_scan_is_kept(tmp_path: Path, age: str) -> None:
    """The header's age stays."""
    scan = _apply(_load(tmp_path, f"key,age_years\nP-1,{age}\n"), URI, SCAN)
    assert (scan.age_years, scan.age_source) == (None, None)
    assert "age_implausible" in scan.flags


def test_views_that_do_not_fit_are_flagged(tmp_path: Path) -> None:
    """Two names for one view."""
    scan = _apply(_load(tmp_path, "key,view\nP-1,anterior+posterior\n"), URI, SCAN)
    assert scan.views[0].name == "unknown"
    assert "label_views_do_not_fit" in scan.flags


def test_parquet_with_typed_columns_is_read(tmp_path: Path) -> None:
    """Numbers and dates need not be text."""
    import datetime

    table = pa.table(
        {
            "key": ["P-1", "P-2"],
            "birth_date": [datetime.date(1950, 6, 1), None],
            "scan_date": [datetime.date(2011, 1, 15), None],
            "pixel_mm": [2.26, None],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "l.parquet")
    scan = _apply(labels.load(str(tmp_path / "l.parquet"), KEY), URI, SCAN)
    assert scan.age_years == pytest.approx(22143 / 365.25)
    assert scan.pixel_mm == (2.26, 2.26)


def test_semicolons_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    """As European spreadsheets write CSV."""
    known = _load(tmp_path, "\ufeffkey;age_years\nP-1;63.5\n")
    assert _apply(known, URI, SCAN).age_years == 63.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,age_years\nSECRET,50\n", "no column 'key'"),
        ("SECRET,SECRET\n", "no column 'key'"),
        ("key,age\nSECRET,50\n", "age_years"),
        ("key,age_years\nSECRET,SECRET\n", "row 1, column age_years"),
        ("key,age_years\nA,50\nSECRET,5O\n", "row 2, column age_years"),
        ("key,sex\nSECRET,SECRET\n", "row 1, column sex"),
        ("key,view\nSECRET,SECRET\n", "row 1, column view"),
        ("key,pixel_mm\nSECRET,SECRET\n", "row 1, column pixel_mm"),
        ("key,birth_date\nSECRET,19500101\n", "birth_date and scan_date"),
        ("key,birth_date,scan_date\nS,SECRET,20110101\n", "row 1, column birth_date"),
        ("key,age_years\n,50\n", "row 1: the key is empty"),
        ("key,age_years\nSECRET,50\nSECRET,51\n", "row 2"),
        ("key,age_years\nSECRET,50,SECRET\n", "row 1: 3 cells for 2 columns"),
        ("", "neither CSV nor Parquet"),
        ("PAR1SECRET", "neither CSV nor Parquet"),
    ],
)
def test_labels_that_cannot_be_understood_are_named_without_values(
    tmp_path: Path, text: str, expected: str
) -> None:
    """Row and column, never what is in them."""
    with pytest.raises(LabelsError, match=expected) as wrong:
        _load(tmp_path, text)
    assert "SECRET" not in str(wrong.value)


def test_labels_are_small_and_hide_their_keys(tmp_path: Path) -> None:
    """They travel to every worker."""
    rows = "".join(f"patient-{i:06d},{40 + i % 40},F\n" for i in range(3636))
    known = _load(tmp_path, "key,age_years,sex\n" + rows)
    assert len(pickle.dumps(known)) < 300 * 3636
    assert "patient" not in repr(known)


EDGES = (40.0, 50.0, 60.0, 70.0, 80.0)


@pytest.mark.parametrize(
    ("age", "group"),
    [(40, 0), (49.99, 0), (50, 1), (69.9, 2), (70, 3), (80, 3), (39.99, None), (80.01, None)],
)
def test_age_groups_hold_their_lower_edge(age: float, group: int | None) -> None:
    """The last one its upper edge too."""
    assert recipes.age_group(age, EDGES) == group


@given(st.floats(0, 120))
def test_age_groups_are_what_numpy_finds(age: float) -> None:
    """Against digitize."""
    expected = int(np.digitize(age, EDGES)) - 1
    inside = 40 <= age <= 80
    assert recipes.age_group(age, EDGES) == (min(expected, 3) if inside else None)


def test_a_labels_file_is_read_once_as_bytes(tmp_path: Path) -> None:
    """CSV with quotes and commas inside."""
    buffer = io.StringIO('key,age_years\n"DOE, JANE/1.png",50\n')
    known = _load(tmp_path, buffer.getvalue())
    assert _apply(known, "/x/DOE, JANE/1.png", SCAN).age_years == 50

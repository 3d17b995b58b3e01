"""Age, sex and identity from headers, and headers of any content."""

import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from bae.archive import dates
from bae.archive.dicom import decode, header, rules
from bae.errors import ScanError
from tests.fakes import dicoms

BORN = "19500601"


def _age(**changes: Any) -> tuple[float | None, str | None, tuple[str, ...]]:
    scan = decode.decode(dicoms.scan(**changes))
    return scan.age_years, scan.age_source, scan.flags


def test_age_is_exact_from_birth_and_acquisition_date() -> None:
    """22 143 days from 1 June 1950 to 15 January 2011."""
    age, source, flags = _age()
    assert (source, flags) == ("birth_date", ())
    assert age == pytest.approx(22143 / 365.25)


@pytest.mark.parametrize(
    ("changes", "years"),
    [
        ({"AcquisitionDate": "19900601"}, 40.0),
        ({"AcquisitionDate": None, "AcquisitionDateTime": "19900601101500.00+0100"}, 40.0),
        ({"AcquisitionDate": None, "StudyDate": "1990.06.01"}, 40.0),
        ({"AcquisitionDate": "", "SeriesDate": "1990-06-01"}, 40.0),
    ],
)
def test_the_day_of_the_scan_is_found(changes: dict[str, Any], years: float) -> None:
    """Acquisition first; the old dotted form and ISO dates occur."""
    age = _age(PatientAge="040Y", **changes)[0]
    assert age == pytest.approx(years, abs=0.003)


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("042Y", 42.0),
        ("42Y", 42.0),
        ("42", 42.0),
        ("042y", 42.0),
        (" 42 Y", 42.0),
        ("006M", 0.5),
        ("010W", 70 / 365.25),
        ("100D", 100 / 365.25),
    ],
)
def test_patients_age_is_read_in_every_form(text: str, years: float) -> None:
    """PS3.5 AS and the bare number seen in the wild."""
    age, source, _ = _age(PatientBirthDate="", PatientAge=text)
    assert (age, source) == (pytest.approx(years), "patient_age")


@pytest.mark.parametrize("text", ["", "Y", "abc", "-42", "4e1", "042X", "99999Y"])
def test_text_that_is_not_an_age_gives_no_age(text: str) -> None:
    """Nothing is guessed; the scan is still read."""
    assert _age(PatientBirthDate="", PatientAge=text)[:2] == (None, None)


@pytest.mark.parametrize(
    ("changes", "age"),
    [
        ({"PatientBirthDate": "20200101", "PatientAge": ""}, None),
        ({"PatientBirthDate": "18500101", "PatientAge": ""}, None),
        ({"PatientBirthDate": "", "PatientAge": "121Y"}, None),
        ({"PatientBirthDate": "18500101", "PatientAge": "060Y"}, 60.0),
    ],
)
def test_implausible_ages_are_refused_as_labels_only(
    changes: dict[str, Any], age: float | None
) -> None:
    """Negative and over 120 years: flagged, and the scan is still scored."""
    found, _, flags = _age(**changes)
    assert found == age
    assert "age_implausible" in flags


def test_disagreeing_ages_are_flagged() -> None:
    """Birth date says 60, Patient's Age 45."""
    age, source, flags = _age(PatientAge="045Y")
    assert (source, flags) == ("birth_date", ("age_disagrees",))
    assert age == pytest.approx(60.6, abs=0.1)


@pytest.mark.parametrize(
    ("stored", "sex"), [("M", "M"), ("F", "F"), ("f ", "F"), ("O", None), ("", None), ("X", None)]
)
def test_sex_is_male_female_or_unknown(stored: str, sex: str | None) -> None:
    """Other and absent are both unknown."""
    assert decode.decode(dicoms.scan(PatientSex=stored)).sex == sex


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("GE MEDICAL SYSTEMS", "GE"),
        ("SIEMENS NM", "Siemens"),
        ("Philips Medical", "Philips"),
        ("ADAC", "Philips"),
        ("Image Systems", "other"),
        ("Mediso", "Mediso"),
        ("", "unknown"),
    ],
)
def test_manufacturer_is_never_free_text(written: str, name: str) -> None:
    """Vendors are mapped to names of ours."""
    assert decode.decode(dicoms.scan(Manufacturer=written)).manufacturer == name


def test_patients_of_different_issuers_differ() -> None:
    """The same number in two hospitals is two people."""
    one = decode.decode(dicoms.scan(IssuerOfPatientID="A")).identity.patient
    two = decode.decode(dicoms.scan(IssuerOfPatientID="B")).identity.patient
    assert one != two


@pytest.mark.parametrize("placeholder", ["", "0", "ANONYMOUS", "unknown", "N/A"])
def test_placeholder_patient_ids_count_as_unknown(placeholder: str) -> None:
    """Else all anonymised patients would be one."""
    identity = decode.decode(dicoms.scan(PatientID=placeholder)).identity
    assert identity.patient == ""
    assert identity.study == "1.2.826.0.1.3680043.8.498.3"


def test_an_object_without_uid_is_known_by_its_bytes() -> None:
    """Two such objects stay apart."""
    one, two = (dicoms.scan(SOPInstanceUID=None, PatientComments=c) for c in "ab")
    assert decode.decode(one).identity.instance != decode.decode(two).identity.instance


DATES = st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1))


@given(DATES)
def test_every_date_survives_every_spelling(day: datetime.date) -> None:
    """DA, dotted, ISO and DT."""
    for spelling in (f"{day:%Y%m%d}", f"{day:%Y.%m.%d}", f"{day:%Y-%m-%d}", f"{day:%Y%m%d}1200"):
        assert dates.parse_date(spelling) == day


@given(DATES, DATES)
def test_age_grows_by_one_year_per_year_from_birth(
    birth: datetime.date, day: datetime.date
) -> None:
    """Zero at birth, negative before, one year per year."""
    age = dates.between(birth, day)
    assert (age >= 0) == (day >= birth)
    assert abs(age - (day.year - birth.year)) < 1.01


@pytest.mark.slow
@given(st.text(max_size=20))
def test_any_text_is_an_age_a_date_or_nothing(text: str) -> None:
    """Any text is an age, a date or nothing."""
    age, date = dates.parse_age(text), dates.parse_date(text)
    assert age is None or age >= 0
    assert date is None or date.year <= 9999


@given(st.integers(0, 999), st.sampled_from("DWMY"))
def test_every_legal_age_string_is_read(number: int, unit: str) -> None:
    """PS3.5 AS: three digits and a unit."""
    years = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1}[unit]
    assert dates.parse_age(f"{number:03d}{unit}") == pytest.approx(number * years)


ELEMENTS = st.dictionaries(
    st.sampled_from(
        [
            "Modality",
            "ImageType",
            "Rows",
            "Columns",
            "NumberOfFrames",
            "BitsAllocated",
            "BitsStored",
            "HighBit",
            "PixelRepresentation",
            "SamplesPerPixel",
            "PixelSpacing",
            "PhotometricInterpretation",
            "RescaleSlope",
            "EnergyWindowVector",
            "DetectorVector",
            "PatientAge",
            "PatientBirthDate",
            "PatientSex",
            "Manufacturer",
            "StartAngle",
            "FrameIncrementPointer",
        ]
    ),
    st.one_of(
        st.none(),
        st.text(max_size=12),
        st.integers(-(2**40), 2**40),
        st.floats(),
        st.lists(st.one_of(st.integers(-3, 70000), st.text(max_size=4)), max_size=5),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@example({"NumberOfFrames": -(2**63)})
@given(ELEMENTS)
def test_any_header_is_understood_or_refused(changes: dict[str, Any]) -> None:
    """Header, rules and views end in values or a ScanError, whatever elements hold."""
    ds = Dataset()
    ds.Modality, ds.Rows, ds.Columns = "NM", 1024, 256
    with decode.quiet():
        for keyword, value in changes.items():
            try:
                setattr(ds, keyword, value)
            except (ValueError, TypeError, OverflowError, AttributeError):
                continue  # pydicom would not even store it
        try:
            head = header.read(ds, "")
            rules.check(head)
            chosen, _ = rules.choose(head)
        except ScanError:
            return
    assert 1 <= len(chosen) <= 2
    assert head.rows * head.columns <= rules.MOST_PIXELS_PER_FRAME

"""Birth dates that stand for none, and ages that nobody has."""

import pytest

from bae.archive import dates
from bae.archive.dicom import decode
from bae.scan import Scan
from tests.fakes import dicoms

PLACEHOLDERS = [
    "19000101",
    "18000101",
    "19010101",
    "17530101",
    "16010101",
    "11111111",
    "00010101",
    "00000000",
    "99991231",
    "99999999",
    "18581117",
    "18991230",
    "1900-01-01",
    "1900.01.01",
    "18500101",
]


def _scan(born: str, stated: str, **changes: str) -> Scan:
    return decode.decode(dicoms.scan(PatientBirthDate=born, PatientAge=stated, **changes))


@pytest.mark.parametrize("born", PLACEHOLDERS)
def test_a_placeholder_does_not_beat_a_stated_age(born: str) -> None:
    """60 years, whatever the birth date comes to on 15 January 2011."""
    scan = _scan(born, "060Y")
    assert (scan.age_years, scan.age_source) == (60.0, "patient_age")
    assert "birth_date_placeholder" in scan.flags
    known = dates.parse_date(born) is not None
    assert ("age_disagrees" in scan.flags) == known


@pytest.mark.parametrize(
    ("born", "stated"),
    [("19000101", ""), ("19000101", "111Y"), ("19000101", "110Y"), ("18000101", "211Y")],
)
def test_a_placeholder_alone_gives_no_age(born: str, stated: str) -> None:
    """Nor does an age that was reckoned from it."""
    scan = _scan(born, stated)
    assert (scan.age_years, scan.age_source) == (None, None)
    assert {"birth_date_placeholder", "age_implausible"} <= set(scan.flags)


@pytest.mark.parametrize("born", PLACEHOLDERS)
def test_every_placeholder_alone_gives_no_age(born: str) -> None:
    """The scan is read without a label."""
    scan = _scan(born, "")
    assert scan.age_years is None
    assert "birth_date_placeholder" in scan.flags


@pytest.mark.parametrize(
    ("born", "stated", "age", "source"),
    [
        ("19040302", "060Y", 60.0, "patient_age"),  # 106.9
        ("19040302", "106Y", 106.87, "birth_date"),  # both say so
        ("19040302", "", 106.87, "birth_date"),
        ("19070302", "060Y", 103.87, "birth_date"),
        ("19500601", "045Y", 60.62, "birth_date"),
    ],
)
def test_above_105_a_stated_age_wins(born: str, stated: str, age: float, source: str) -> None:
    """The likelier mistake is the birth date's."""
    scan = _scan(born, stated)
    assert scan.age_years == pytest.approx(age, abs=0.01)
    assert scan.age_source == source
    assert ("age_disagrees" in scan.flags) == (stated in ("060Y", "045Y"))
    assert "birth_date_placeholder" not in scan.flags


@pytest.mark.parametrize("born", ["19500101", "19020101", "20000101", "", "unknown"])
def test_new_years_days_of_the_living_are_birth_dates(born: str) -> None:
    """And no date at all is no placeholder."""
    assert not dates.placeholder(born) and not dates.epoch(born)


@pytest.mark.parametrize("born", ["19040101", "19600101", "19691231", "1970-01-01", "19800101"])
def test_day_0_of_a_clock_is_believed_where_the_stated_age_says_the_same(born: str) -> None:
    """On 15 January 2011; where it says otherwise it wins, and alone the day gives no age."""
    age = dates.between(dates.parse_date(born), dates.parse_date("20110115"))
    both, other, alone = _scan(born, f"{int(age):03}Y"), _scan(born, "065Y"), _scan(born, "")
    assert both.age_years == pytest.approx(age) and both.age_source == "birth_date"
    assert "birth_date_placeholder" not in both.flags
    assert (other.age_years, other.age_source) == (65.0, "patient_age")
    assert (alone.age_years, alone.age_source) == (None, None)
    for scan in (other, alone):
        assert "birth_date_placeholder" in scan.flags


def test_a_person_of_89_may_be_born_on_1_january_1901() -> None:
    """In 1990 the stated age says the same; it is taken, for the day is not to be believed."""
    scan = _scan("19010101", "089Y", AcquisitionDate="19900601")
    assert (scan.age_years, scan.age_source) == (89.0, "patient_age")
    assert scan.flags == ("birth_date_placeholder",)

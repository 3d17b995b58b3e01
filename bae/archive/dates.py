"""Ages and dates as headers and label files write them."""

import datetime
import math
import re

OLDEST_YEARS = 120.0
"""Nobody older is known; a larger age is a mistake of the header."""

_DAYS_PER_YEAR = 365.25
_UNIT_YEARS = {"D": 1 / _DAYS_PER_YEAR, "W": 7 / _DAYS_PER_YEAR, "M": 1 / 12, "Y": 1.0, "": 1.0}
_AGE = re.compile(r"\s*(\d{1,4}(?:\.\d+)?)\s*([DWMY]?)\s*", re.IGNORECASE | re.ASCII)
_DATE = re.compile(r"\s*(\d{4})([-./]?)(\d{2})\2(\d{2})(?:[T\s\d:.+-]*)", re.ASCII)


def parse_age(text: str) -> float | None:
    """Read an age, PS3.5 AS (``nnnD``, ``nnnW``, ``nnnM``, ``nnnY``) or a bare number.

    Returns:
        Years, not yet checked for plausibility; None where it is no age.
    """
    match = _AGE.fullmatch(text)
    return float(match[1]) * _UNIT_YEARS[match[2].upper()] if match else None


def parse_date(text: str) -> datetime.date | None:
    """Read a date: PS3.5 DA or DT, the older dotted form, or ISO 8601; None if it is none."""
    match = _DATE.fullmatch(text)
    if not match:
        return None
    try:
        return datetime.date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None


def between(birth: datetime.date, day: datetime.date) -> float:
    """Return the age on a day, years of 365.25 days; negative before birth."""
    return (day - birth).days / _DAYS_PER_YEAR


def plausible(age_years: float) -> bool:
    """Say whether a person can have this age."""
    return math.isfinite(age_years) and 0 <= age_years <= OLDEST_YEARS


def placeholder(text: str) -> bool:
    """Say whether a birth date stands for none: a system's first day, or one digit throughout.

    1 January of 1900 and of all years before, or of 1901; the zeros of spreadsheets (end of
    1899), of VMS (17 November 1858); years from 2100 on; and digits that are no date at all.
    """
    digits = "".join(c for c in text.partition("T")[0] if c.isdigit())[:8]
    day = parse_date(text)
    if day is None:
        return len(digits) == 8 and (len(set(digits)) == 1 or digits[4:] == "0000")
    if len(set(digits)) == 1 or not FIRST_YEAR <= day.year <= LAST_YEAR:
        return True
    return (day.year <= 1901 and (day.month, day.day) == (1, 1)) or (day.isoformat() in _ZEROS)


def epoch(text: str) -> bool:
    """Say whether a birth date is day 0 of a computer's clock, which a lost date turns into.

    People are born on these days, too, so such a date is believed where a stated age says the same.
    Alone it is not: a wrong age of a patient costs more than a missing one, and one patient in
    some thousands has it. Days 0 that are in nobody's bone scan (2000 and 2001) are not among them.
    """
    day = parse_date(text)
    return day is not None and day.isoformat() in _EPOCHS


def stands_for_none(text: str) -> bool:
    """Say whether a birth date is not to be believed where no age is stated beside it."""
    return placeholder(text) or epoch(text)


_EPOCHS = {
    "1904-01-01",  # Mac OS, Excel on it
    "1960-01-01",  # SAS, Stata
    "1969-12-31",  # Unix, seen from the west of Greenwich
    "1970-01-01",  # Unix, Java, databases
    "1980-01-01",  # DOS, zip files
}
FIRST_YEAR, LAST_YEAR = 1800, 2099
"""Nobody who was ever scanned was born before or will be after."""
_ZEROS = {"1858-11-17", "1899-12-30", "1899-12-31", "1911-11-11"}

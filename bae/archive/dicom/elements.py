"""Values of single elements: numbers however they are written, words and codes in normal form.

An optional element that cannot be understood counts as absent, since hospital headers
always have some. What newer objects keep in functional groups is found there.
"""

import math
import re
from functools import cache
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import ConstrainedList
from pydicom.tag import BaseTag, Tag

from bae.scan import ANTERIOR, POSTERIOR, UNKNOWN

_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_PAIR = re.compile(r"([+-]?\d+\.\d+)\s*,\s*([+-]?\d+\.\d+)", re.ASCII)

DEEPEST_MACRO = 3
"""Levels below a functional group in which an element is looked for; PS3.3 C.7.6.16 has two."""


_tag = cache(Tag)
"""Looking a keyword up in the dictionary takes longer than anything else done to an element."""


def values(ds: Dataset, keyword: Any) -> list[Any]:
    """Return all values of an element; none where absent, empty or unreadable."""
    tag = keyword if isinstance(keyword, BaseTag) else _tag(keyword)
    try:
        value = ds[tag].value if tag in ds else None
    except MemoryError:
        raise
    except Exception:  # pydicom lists none for a value that it cannot convert
        return []
    if value is None or (isinstance(value, str | bytes) and not value):
        return []
    return list(value) if isinstance(value, ConstrainedList | list | tuple) else [value]


def text(ds: Dataset, keyword: str) -> str:
    """Return the first value of an element as stripped text, empty where absent."""
    found = values(ds, keyword)
    return str(found[0]).replace("\0", "").strip() if found else ""


def integer(ds: Dataset, keyword: str, default: int) -> int:
    """Return the first value of an element as an integer."""
    found = number(text(ds, keyword))
    return default if found is None else int(found)


def items(ds: Dataset, keyword: Any) -> list[Dataset]:
    """Return the items of a sequence; none where absent or not a sequence."""
    return [item for item in values(ds, keyword) if isinstance(item, Dataset)]


def number(value: object) -> float | None:
    """Return a finite number, None for anything else.

    PS3.5 DS and IS, with padding of any kind and with the decimal comma of some locales.
    """
    written = str(value).replace("\0", " ").strip()
    if not _NUMBER.fullmatch(written):
        return None
    found = float(written.replace(",", "."))
    return found if math.isfinite(found) else None


def numbers(ds: Dataset, keyword: str) -> list[float]:
    """Return all values of an element that are finite numbers."""
    written = values(ds, keyword)
    if len(written) == 1 and (pair := _PAIR.fullmatch(str(written[0]).strip("\0 "))):
        written = list(pair.groups())  # parted by a comma instead of a backslash
    found = [number(value) for value in written]
    return [value for value in found if value is not None]


def integers(ds: Dataset, keyword: str) -> tuple[int, ...]:
    """Return all values of an element that are finite numbers, as integers."""
    return tuple(int(value) for value in numbers(ds, keyword))


def groups(ds: Dataset) -> tuple[list[Dataset], list[Dataset]]:
    """Return the functional groups of an enhanced object, PS3.3 C.7.6.16.

    Returns:
        The shared group (none or one), and those of each frame (none or all).
    """
    shared = items(ds, "SharedFunctionalGroupsSequence")[:1]
    return shared, items(ds, "PerFrameFunctionalGroupsSequence")


def holder(ds: Dataset, keyword: str, depth: int = DEEPEST_MACRO) -> Dataset | None:
    """Return the data set, this one or one nested in it, that has a value for an element."""
    if values(ds, keyword):
        return ds
    if depth:
        for tag in ds.keys():  # noqa: SIM118 -- iterating would convert every element
            if ds.get_item(tag).VR not in ("SQ", "UN", None):  # None: not converted, implicit
                continue
            for item in items(ds, tag):
                if (found := holder(item, keyword, depth - 1)) is not None:
                    return found
    return None


def placed(ds: Dataset, keyword: str) -> Dataset:
    """Return where an element stands: the data set itself, else its shared group, else itself."""
    if keyword not in ds:
        for group in groups(ds)[0]:
            if (found := holder(group, keyword)) is not None:
                return found
    return ds


_VIEW_CODES = {ANTERIOR: "399321004 G-5215", POSTERIOR: "399001007 G-5216"}
"""PS3.16 CID 26 (Nuclear Medicine Projections) in SNOMED CT and in its older form."""

_VIEW_WORDS = {ANTERIOR: "ANT ANTERIOR", POSTERIOR: "POST POSTERIOR"}

_NUCLIDE_CODES = {
    "Tc-99m": "72454006 C-163A8",
    "I-131": "1368003 C-114B1",
    "I-123": "21572004 C-114A4",
    "I-125": "68630002 C-114A6",
    "In-111": "56609000 C-145A4",
    "Ga-67": "2008008 C-131A2",
    "Tl-201": "60057003 C-138A9",
    "F-18": "77004003 C-111A1",
    "Lu-177": "447553000",
    "Sm-153": "419804008",
    "Ra-223": "24853006",
    "Sr-89": "7770004",
    "Xe-133": "80751004",
    "Kr-81m": "81716009",
}
"""PS3.16 CID 18 (Isotopes in Radiopharmaceuticals), the ones a gamma camera meets."""

_NUCLIDE_WORDS = {
    "Tc-99m": "TC99M 99MTC TECHNETIUM",
    "I-131": "I131 131I",
    "I-123": "I123 123I",
    "In-111": "IN111 111IN",
    "Ga-67": "GA67 67GA",
    "Tl-201": "TL201 201TL",
    "Lu-177": "LU177 177LU",
    "F-18": "F18 18F",
    "Xe-133": "XE133 133XE",
}

MANUFACTURERS = {
    "GE": {"GE", "GEMS", "GENERAL", "ELSCINT", "SMV", "SOPHA"},
    "Siemens": {"SIEMENS", "CTI"},
    "Philips": {"PHILIPS", "ADAC", "PICKER", "MARCONI"},
    "Mediso": {"MEDISO"},
    "Canon": {"TOSHIBA", "CANON"},
    "Spectrum Dynamics": {"SPECTRUM"},
}
"""Today's name of the maker to words in Manufacturer, forerunners included."""


def words(text: str) -> list[str]:
    """Return the words of a text, upper case, parted at all that is no letter or digit."""
    return "".join(c if c.isalnum() else " " for c in text.upper()).split()


def _named(table: dict[str, str], word: str) -> str | None:
    """Return the name beside which a table has the word."""
    return next((name for name, known in table.items() if word in known.split()), None)


def view(code: str, meaning: str) -> str:
    """Name a view by its code, else by what the code is said to mean."""
    spoken = " ".join(words(meaning)).removesuffix(" PROJECTION").removesuffix(" VIEW")
    return _named(_VIEW_CODES, code) or _named(_VIEW_WORDS, spoken) or UNKNOWN


def nuclide(code: str, meaning: str) -> str | None:
    """Name a radionuclide by its code, else by what the code is said to mean."""
    if name := _named(_NUCLIDE_CODES, code):
        return name
    spoken = "".join(words(meaning))
    known = _NUCLIDE_WORDS.items()
    return next((name for name, some in known if any(w in spoken for w in some.split())), None)

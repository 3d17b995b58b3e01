"""Codes and words of headers to names of ours, so that no free text travels further."""

from __future__ import annotations

from bae.scan import ANTERIOR, POSTERIOR, UNKNOWN

_VIEW_CODES = {
    "399321004": ANTERIOR, "G-5215": ANTERIOR, "399001007": POSTERIOR, "G-5216": POSTERIOR,
}  # fmt: skip
"""PS3.16 CID 26 (Nuclear Medicine Projections) in SNOMED CT and in its older form."""

_VIEW_WORDS = {"ANT": ANTERIOR, "ANTERIOR": ANTERIOR, "POST": POSTERIOR, "POSTERIOR": POSTERIOR}

_TECHNETIUM = "Tc-99m"
_NUCLIDE_CODES = {
    "72454006": _TECHNETIUM, "C-163A8": _TECHNETIUM,
    "1368003": "I-131", "C-114B1": "I-131", "21572004": "I-123", "C-114A4": "I-123",
    "68630002": "I-125", "C-114A6": "I-125", "56609000": "In-111", "C-145A4": "In-111",
    "2008008": "Ga-67", "C-131A2": "Ga-67", "60057003": "Tl-201", "C-138A9": "Tl-201",
    "77004003": "F-18", "C-111A1": "F-18", "447553000": "Lu-177", "419804008": "Sm-153",
    "24853006": "Ra-223", "7770004": "Sr-89", "80751004": "Xe-133", "81716009": "Kr-81m",
}  # fmt: skip
"""PS3.16 CID 18 (Isotopes in Radiopharmaceuticals), the ones a gamma camera meets."""

_NUCLIDE_WORDS = {
    "TC99M": _TECHNETIUM, "99MTC": _TECHNETIUM, "TECHNETIUM": _TECHNETIUM, "I131": "I-131",
    "131I": "I-131", "I123": "I-123", "123I": "I-123", "IN111": "In-111", "111IN": "In-111",
    "GA67": "Ga-67", "67GA": "Ga-67", "TL201": "Tl-201", "201TL": "Tl-201", "LU177": "Lu-177",
    "177LU": "Lu-177", "F18": "F-18", "18F": "F-18", "XE133": "Xe-133", "133XE": "Xe-133",
}  # fmt: skip

_MANUFACTURERS = {
    "GE": ("GE", "GEMS", "GENERAL", "ELSCINT", "SMV", "SOPHA"),
    "Siemens": ("SIEMENS", "CTI"),
    "Philips": ("PHILIPS", "ADAC", "PICKER", "MARCONI"),
    "Mediso": ("MEDISO",),
    "Canon": ("TOSHIBA", "CANON"),
    "Spectrum Dynamics": ("SPECTRUM",),
}
"""Today's name of the maker to words in Manufacturer, forerunners included."""


def words(text: str) -> list[str]:
    """Return the words of a text, upper case, parted at all that is no letter or digit."""
    return "".join(c if c.isalnum() else " " for c in text.upper()).split()


def view(code: str, meaning: str) -> str:
    """Name a view by its code, else by what the code is said to mean."""
    spoken = " ".join(words(meaning)).removesuffix(" PROJECTION").removesuffix(" VIEW")
    return _VIEW_CODES.get(code) or _VIEW_WORDS.get(spoken, UNKNOWN)


def nuclide(code: str, meaning: str) -> str | None:
    """Name a radionuclide by its code, else by what the code is said to mean."""
    spoken = "".join(words(meaning))
    named = (name for word, name in _NUCLIDE_WORDS.items() if word in spoken)
    return _NUCLIDE_CODES.get(code) or next(named, None)


def manufacturer(text: str) -> str:
    """Return the vendor in normal form: a name of ours, ``other`` or ``unknown``."""
    found = set(words(text))
    if not found:
        return "unknown"
    for name, known in _MANUFACTURERS.items():
        if found & set(known):
            return name
    return "other"

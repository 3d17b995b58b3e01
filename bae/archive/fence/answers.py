"""What the decoding process says, checked like any input: it may be in a stranger's hands.

Each function returns what a message means or raises ValueError. No message is executed, and none
may say what ``bae.archive.objects`` could not have said.
"""

import json
import math
import re
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bae.archive import dates, refusals
from bae.archive.fence import kernel
from bae.errors import ScanError
from bae.scan import ANTERIOR, FEMALE, MALE, POSTERIOR, UNKNOWN, Identity, Scan, View

LONGEST_HEADER = 1 << 20
LARGEST_ANSWER_BYTES = 1 << 28
"""Two views of 4096 x 4096 float32 numbers take half of this."""
_LONGEST_NAME = 1 << 19
"""A zip member's name has 65,535 bytes, each up to four characters long when escaped."""
_LONGEST_TEXT = 4096
_LONGEST_IDENTITY = 1 << 18
_MOST_FLAGS = 64
# as dicom.rules has them; importing it would load pydicom into every worker
MOST_VIEWS, LARGEST_SIDE = 2, 8192
_CODES = {
    code
    for code, reject in refusals.REJECT_CODES.items()
    if reject.stage in (refusals.READ, refusals.DECODE, refusals.SELECT)
}
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VENDOR = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,63}")
_SCAN_FIELDS = {field.name for field in fields(Scan)} - {"views"}
_IDENTITY_FIELDS = {field.name for field in fields(Identity)}


def message(text: bytes) -> dict[str, Any]:
    """Parse a message.

    Raises:
        ValueError: it is no JSON object with a kind that is known.
    """
    try:
        said = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("a message nested too deeply") from None
    _need(isinstance(said, dict) and said.get("kind") in _KEYS, "no message")
    _need(set(said) == _KEYS[said["kind"]], "a message with other parts")
    return dict(said)


_KEYS = {
    "ready": {"kind", "fences"},
    "begin": {"kind", "member"},
    "refused": {"kind", "code", "text"},
    "scan": {"kind", "views", "scan"},
    "file": {"kind", "member"},
    "end": {"kind"},
}


def fences(said: dict[str, Any]) -> tuple[str, ...]:
    """Return the fences that a ready message names.

    Raises:
        ValueError: it is another message, or names one that is none.
    """
    _need(said["kind"] == "ready" and isinstance(said["fences"], list), "not ready")
    _need(all(name in kernel.NAMES for name in said["fences"]), "a fence unknown")
    return tuple(said["fences"])


def member(said: dict[str, Any]) -> str:
    """Return the name of the file that is begun.

    Raises:
        ValueError: it is no name that ``files.zips`` gives.
    """
    return _text(said["member"], _LONGEST_NAME)


def refusal(said: dict[str, Any]) -> ScanError:
    """Return why a file is refused.

    Raises:
        ValueError: the code is none of reading, decoding and selecting, or the text is none.
    """
    code, text = said["code"], _text(said["text"], _LONGEST_TEXT)
    _need(isinstance(code, str) and code in _CODES, "a code unknown")
    _need(text.isprintable(), "a text with control characters")
    return ScanError(code, text)


def scan(said: dict[str, Any], pixels: NDArray[np.uint8]) -> Scan:
    """Return the scan that a message describes.

    Args:
        pixels: (bytes,) of all views one after the other, a copy that the child cannot reach.

    Raises:
        ValueError: a part of it is of a type, a range or a size that no scan has.
    """
    told = said["scan"]
    _need(isinstance(told, dict) and set(told) == _SCAN_FIELDS, "other fields than a scan's")
    who = told["identity"]
    _need(isinstance(who, dict) and set(who) == _IDENTITY_FIELDS, "no identity")
    names = {key: _text(value, _LONGEST_IDENTITY) for key, value in who.items()}
    age, source, mm = told["age_years"], told["age_source"], told["pixel_mm"]
    _need(age is None or (_number(age) and dates.plausible(age)), "an age that nobody has")
    _need(source in (None, "birth_date", "patient_age"), "a source of ages unknown")
    _need((age is None) == (source is None), "an age without its source")
    _need(told["sex"] in (None, FEMALE, MALE), "a sex unknown")
    if mm is not None:
        _need(isinstance(mm, list) and len(mm) == 2, "no pixel size")
        _need(all(_number(value) and value > 0 for value in mm), "no pixel size")
    vendor, flags = told["manufacturer"], told["flags"]
    _need(isinstance(vendor, str) and bool(_VENDOR.fullmatch(vendor)), "no vendor")
    _need(isinstance(flags, list) and len(flags) <= _MOST_FLAGS, "no flags")
    _need(all(isinstance(f, str) and _WORD.fullmatch(f) for f in flags), "no flags")
    return Scan(
        views=_views(said["views"], pixels),
        identity=Identity(**names),
        pixel_mm=None if mm is None else (float(mm[0]), float(mm[1])),
        sex=told["sex"],
        age_years=age,
        age_source=source,
        manufacturer=vendor,
        flags=tuple(flags),
    )


def _views(described: object, pixels: NDArray[np.uint8]) -> tuple[View, ...]:
    _need(isinstance(described, list), "no views")
    assert isinstance(described, list)
    _need(1 <= len(described) <= MOST_VIEWS, "too few or too many views")
    views, place = [], 0
    for each in described:
        _need(isinstance(each, list) and len(each) == 3, "no view")
        name, kind, shape = each
        _need(name in (ANTERIOR, POSTERIOR, UNKNOWN), "a view unknown")
        _need(kind in ("<u2", "<f4"), "a view that is neither uint16 nor float32")
        _need(isinstance(shape, list) and len(shape) == 2, "a view without two sides")
        _need(
            all(type(side) is int and 0 < side <= LARGEST_SIDE for side in shape),
            "a view larger than any",
        )
        count = shape[0] * shape[1]
        counts = np.frombuffer(pixels, kind, count, place).reshape(shape)
        _need(kind == "<u2" or bool(np.isfinite(counts).all()), "counts that are no numbers")
        views.append(View(name=name, counts=counts))
        place += counts.nbytes
    _need(place == len(pixels), "more pixels than the views have")
    return tuple(views)


def _text(value: object, longest: int) -> str:
    _need(isinstance(value, str) and len(value) <= longest, "no text, or too long a one")
    text = str(value)
    text.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return text


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(float(str(value)))


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)

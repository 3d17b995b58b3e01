"""What DICOMweb servers answer: results of searches, and what became of what was stored."""

from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset

Item = Mapping[str, Any]
"""One result of a search, as DICOM JSON (PS3.18 annex F)."""

STUDY, SERIES, INSTANCE, SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
MODALITY, DESCRIPTION = "00080060", "00081030"
FRAMES, ROWS, COLUMNS = "00280008", "00280010", "00280011"


def text(item: Item, tag: str) -> str:
    """Return an element's first value in a search's result, empty if there is none."""
    try:
        return str(item[tag]["Value"][0])
    except (KeyError, IndexError, TypeError):
        return ""


def type_alone(answer: Any, *_: Any, **__: Any) -> Any:
    """Take the character set off a type: dicomweb-client reads no answer that names one."""
    told = answer.headers.get("Content-Type", "")
    if not told.startswith("multipart/"):
        answer.headers["Content-Type"] = told.split(";")[0].strip()
    return answer


def of_refusal(response: Any) -> Dataset:
    """Return what a refusal says of each object; nothing where it is not JSON."""
    try:
        return Dataset.from_json(response.json())
    except Exception:  # an error's page may be anything, and pydicom lists no exceptions
        return Dataset()


def items(told: Dataset, kind: str) -> list[Dataset]:
    """Return what was ``Referenced`` (stored) or ``Failed``."""
    return list(told.get(f"{kind}SOPSequence") or ())

"""An NM object in which every text element, public, private and nested, holds a planted word."""

import itertools
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset, uid
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from tests.fakes import dicoms

TEXT_VRS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
KEPT = {
    "SpecificCharacterSet",
    "Modality",
    "ImageType",
    "PhotometricInterpretation",
    "BurnedInAnnotation",
    "PatientSex",
    "LossyImageCompression",
    "CodeValue",
    "CodeMeaning",
    "CodingSchemeDesignator",
    "Manufacturer",
}
"""Elements that decide whether the object is read at all."""

DAY, BIRTH = "20110115", "19500601"
PATIENT_UID = "1.2.826.0.1.3680043.8.498.777001.{}"


def words() -> Iterator[str]:
    """Yield distinctive words, short enough for every text element."""
    for number in itertools.count():
        yield f"QZXV{number:05d}"


def plant(secret: Iterator[str]) -> tuple[bytes, list[str]]:
    """Return an object that is read and scored, and every word planted in it.

    Args:
        secret: words to plant; each is used once.
    """
    ds = dicoms.put(dicoms.header(), dicoms.two_views())
    planted: list[str] = []

    def word() -> str:
        planted.append(next(secret))
        return planted[-1]

    for tag in sorted(DicomDictionary):
        keyword = DicomDictionary[tag][4]
        group = tag >> 16
        if not keyword or keyword in KEPT or group in (0, 2, 0x28, 0x7FE0) or tag in ds:
            continue
        if dictionary_VR(tag) in TEXT_VRS and "xx" not in f"{tag:08x}":
            setattr(ds, keyword, word())
    for keyword in ("PatientID", "PatientName", "Manufacturer"):
        setattr(ds, keyword, word())
    uids = _uids(ds)
    _dates(ds)
    _private(ds, word)
    _nested(ds, word)
    ds.file_meta.SourceApplicationEntityTitle = word()
    ds.preamble = word().encode().ljust(128, b"\0")
    return dicoms.encode(ds), [*planted, *uids, DAY, BIRTH, "2011-01-15", "1950-06-01"]


def _uids(ds: FileDataset) -> list[str]:
    found = []
    for number, keyword in enumerate(
        ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    ):
        value = uid.UID(PATIENT_UID.format(number))
        setattr(ds, keyword, value)
        found.append(str(value))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return found


def _dates(ds: Dataset) -> None:
    ds.PatientBirthDate, ds.PatientAge = BIRTH, "060Y"
    for keyword in ("AcquisitionDate", "StudyDate", "SeriesDate", "ContentDate"):
        setattr(ds, keyword, DAY)


def _private(ds: Dataset, word: Any) -> None:
    block = ds.private_block(0x0009, "GEMS_GENIE_1", create=True)
    block.add_new(0x40, "LO", word())
    block.add_new(0x41, "UN", word().encode())
    other = ds.private_block(0x0033, word(), create=True)
    other.add_new(0x10, "UT", word())


def _nested(ds: Dataset, word: Any) -> None:
    item, inner = Dataset(), Dataset()
    inner.PatientComments, inner.PatientName = word(), word()
    inner.add_new(Tag(0x0009, 0x0010), "LO", word())
    item.ReferencedPatientSequence = [inner]
    item.StudyDescription = word()
    ds.RequestAttributesSequence = [item]
    ds.DetectorInformationSequence[0].CollimatorGridName = word()
    drug = Dataset()
    drug.Radiopharmaceutical = word()
    ds.RadiopharmaceuticalInformationSequence = [drug]

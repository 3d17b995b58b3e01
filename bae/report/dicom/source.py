"""What the DICOM objects made of one scan share: its source, its answer, UIDs, the file.

They belong to the patient and study of the scan they are made from and refer to it by
UID, so they are as personal as the archive itself. UIDs and dates come from the tables'
rows, so exporting a prediction twice gives the same bytes.
"""

import io
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    NuclearMedicineImageStorage,
)

from bae.archive import dates
from bae.archive.dicom import decode, header
from bae.errors import ScanError
from bae.evaluation.pages import Row
from bae.evaluation.panels import RegionPanel, region_panels
from bae.scan import Scan

MULTI_FRAME = frozenset(
    (
        NuclearMedicineImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    )
)
"""SOP classes whose images are referred to by frame (PS3.3 table 10-3)."""

NAMES = ("PatientName", "ReferringPhysicianName")

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "bae.skeletal-age")
_TIME = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """What both objects show.

    Attributes:
        source: the elements of the source object that are carried over or referred to.
        names: keyword to name of the people in it; apart, since highdicom checks their form
            and quotes those it doubts in a warning.
        frames: number (from 1) of each panel's frame in the source object; None where its
            SOP class has one frame only and must not be referred to by frame.
    """

    source: Dataset
    names: dict[str, str]
    frames: list[int | None]
    age: Row
    panels: list[RegionPanel]


def page(data: bytes, scan: Scan, age: Row, boxes: Sequence[Row], heatmaps: Sequence[Row]) -> Page:
    """Put together what both objects show.

    Args:
        scan: the same, decoded, as indexed.
        boxes, heatmaps: its rows of the other tables.

    Raises:
        ScanError: the source has no UIDs to refer to.
    """
    ds, frames = decode.references(data)
    with decode.quiet():  # pydicom converts elements only now, and would quote odd ones
        source = _source(ds)
        names = {keyword: header.text(ds, keyword) for keyword in NAMES}
    panels = region_panels(scan, heatmaps, boxes)
    frame_of = {id(v.counts): frame + 1 for v, frame in zip(scan.views, frames, strict=True)}
    return Page(
        source=source,
        names=names,
        frames=[
            frame_of[id(panel.counts)] if source.SOPClassUID in MULTI_FRAME else None
            for panel in panels
        ],
        age=age,
        panels=panels,
    )


def model_uid(model_id: str) -> str:
    """Return the UID of a model, as an observer."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, model_id).int}"


def uid(age: Row, what: str) -> str:
    """Return a UID under 2.25 (PS3.5 B.2) that belongs to a scan, its version and a model."""
    name = f"{what}\0{age['scan_id']}\0{age['object_version']}\0{age['model_id']}"
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def numbers(frames: Sequence[int | None]) -> list[int] | None:
    """Return the frame numbers to refer to, None where there are none."""
    return [frame for frame in frames if frame is not None] or None


def equipment(model_id: str) -> dict[str, str]:
    """Return what highdicom asks for: the model that made an object, and UTF-8."""
    return {
        "manufacturer": "bae",
        "manufacturer_model_name": "bae",
        "device_serial_number": model_id,
        "software_versions": model_id,
        "specific_character_set": "ISO_IR 192",
    }


def _source(ds: Dataset) -> Dataset:
    """Return what both objects take over of the source: its patient, study and UIDs.

    Raises:
        ScanError: UIDs are missing or malformed, so there is nothing to refer to.
    """
    kept = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = UID(header.text(ds, keyword))
        if not value.is_valid:
            raise ScanError("header_incomplete", f"no valid {keyword} to refer to")
        setattr(kept, keyword, value)
    for keyword in ("PatientID", "StudyID", "AccessionNumber"):
        setattr(kept, keyword, header.text(ds, keyword))
    for keyword in NAMES:
        setattr(kept, keyword, None)
    for keyword in ("PatientBirthDate", "StudyDate"):
        day = dates.parse_date(header.text(ds, keyword))
        setattr(kept, keyword, f"{day:%Y%m%d}" if day else None)
    time, sex = header.text(ds, "StudyTime"), header.text(ds, "PatientSex").upper()
    kept.StudyTime = time if _TIME.fullmatch(time) else None
    kept.PatientSex = sex if sex in ("F", "M", "O") else ""
    kept.Modality = header.text(ds, "Modality")
    kept.NumberOfFrames = header.integer(ds, "NumberOfFrames", 1)
    kept.Rows, kept.Columns = (header.integer(ds, word, 0) for word in ("Rows", "Columns"))
    return kept


def moment(age: Row) -> tuple[str, str]:
    """Return date and time of the prediction, so that a second export says the same."""
    return f"{age['predicted_at']:%Y%m%d}", f"{age['predicted_at']:%H%M%S}"


def file(made: Dataset, shown: Page) -> bytes:
    """Return a finished object as a DICOM file, dated by its prediction."""
    # highdicom notes who contributed and when, but of our source it knows only the clock
    made.pop("ContributingEquipmentSequence", None)
    for keyword, name in shown.names.items():
        setattr(made, keyword, name)
    day, time = moment(shown.age)
    for what in ("InstanceCreation", "Content"):
        setattr(made, f"{what}Date", day)
        setattr(made, f"{what}Time", time)
    sink = io.BytesIO()
    made.save_as(sink, enforce_file_format=True)
    return sink.getvalue()

"""A prediction's page as an Encapsulated PDF, for those who file documents and not pictures."""

import io

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID as IMPLEMENTATION
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from bae.archive.dicom import decode
from bae.report.dicom import picture, source
from bae.report.dicom.source import Page

SERIES = 9903
TITLE = "Predicted skeletal age"
DOTS_PER_INCH = 200
"""Of the pictures in it, which are drawn anew from the counts; text and lines have none."""


def document(shown: Page) -> bytes:
    """Return the picture's page as a document in a DICOM file (PS3.3 A.45.1)."""
    age = shown.age
    content = drawn(shown)
    with decode.quiet():
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.ImplementationClassUID = IMPLEMENTATION
        made.SpecificCharacterSet = "ISO_IR 192"
        made.SOPClassUID = EncapsulatedPDFStorage
        made.SOPInstanceUID = source.uid(age, "document")
        for keyword in _CARRIED:
            setattr(made, keyword, shown.source.get(keyword))
        made.Modality = "DOC"
        made.SeriesInstanceUID = source.uid(age, "document series")
        made.SeriesNumber = SERIES
        made.SeriesDescription = TITLE
        made.Manufacturer = made.ManufacturerModelName = "bae"
        made.DeviceSerialNumber = made.SoftwareVersions = age["model_id"]
        made.ConversionType = "WSD"
        made.InstanceNumber = 1
        made.AcquisitionDateTime = None  # the source's own; its reader finds it there
        made.BurnedInAnnotation = "NO"  # nothing in it says who or when (PS3.3 C.24.2)
        made.SourceInstanceSequence = [_source(shown)]
        made.DocumentTitle = TITLE
        made.ConceptNameCodeSequence = [_title()]
        made.VerificationFlag = "UNVERIFIED"
        made.MIMETypeOfEncapsulatedDocument = "application/pdf"
        made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
        made.EncapsulatedDocumentLength = len(content)
        return source.file(made, shown)


_CARRIED = (
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
)
"""Which patient and study it belongs to; ``source.file`` adds the names."""


def _source(shown: Page) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = shown.source.SOPClassUID
    item.ReferencedSOPInstanceUID = shown.source.SOPInstanceUID
    return item


def _title() -> Dataset:
    """Return the same title as the report's."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "126000", "DCM"
    item.CodeMeaning = "Imaging Measurement Report"
    return item


def drawn(shown: Page) -> bytes:
    """Draw the page as a PDF, dated by its prediction: the same bytes every time."""
    sink = io.BytesIO()
    about = {"Title": TITLE, "Creator": "bae", "CreationDate": shown.age["predicted_at"]}
    picture.page(shown).savefig(sink, format="pdf", dpi=DOTS_PER_INCH, metadata=about)
    return sink.getvalue()

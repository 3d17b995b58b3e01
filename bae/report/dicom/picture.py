"""A prediction as one page to look at: the paper's Figure 3 as a DICOM Secondary Capture."""

import highdicom as hd
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from bae.archive.dicom import decode
from bae.evaluation import figure3
from bae.report.dicom import source
from bae.report.dicom.source import Page

SERIES = 9902
DOTS_PER_INCH = 110
CAUTION = "For research on groups; not for the care of a single patient."


def picture(shown: Page) -> bytes:
    """Return the scan's Figure 3 with the answer above it as a DICOM file (PS3.3 A.8.1)."""
    age = shown.age
    pixels = drawn(shown)
    with decode.quiet():
        made = hd.sc.SCImage.from_ref_dataset(
            shown.source,
            pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            series_instance_uid=source.uid(age, "picture series"),
            series_number=SERIES,
            sop_instance_uid=source.uid(age, "picture"),
            instance_number=1,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_description="Region of the predicted skeletal age",
            **source.equipment(age["model_id"]),
        )
        made.PatientOrientation = None  # several views side by side: it has none
        made.BodyPartExamined = "WHOLEBODY"
        made.BurnedInAnnotation = "NO"  # none that identifies (PS3.3 C.7.6.1.1)
        made.DerivationDescription = "Heat map and region of a neural network over the counts"
        made.ImageComments = CAUTION
        image = Dataset()
        image.ReferencedSOPClassUID = shown.source.SOPClassUID
        image.ReferencedSOPInstanceUID = shown.source.SOPInstanceUID
        if numbers := source.numbers(shown.frames):
            image.ReferencedFrameNumber = numbers
        made.SourceImageSequence = [image]
        made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = source.moment(age)
        made.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        return source.file(made, shown)


def drawn(shown: Page) -> NDArray[np.uint8]:
    """Draw the page for a screen; (rows, columns, 3) uint8."""
    figure = page(shown)
    figure.set_dpi(DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def page(shown: Page) -> Figure:
    """Lay the page out: the answer, then each view. Nothing on it says who it is."""
    age = shown.age
    figure = figure3.regions(shown.panels)
    interval = (
        ""
        if age["age_low_years"] is None
        else f" (90 % interval {age['age_low_years']:.0f} to {age['age_high_years']:.0f})"
    )
    figure.suptitle(
        f"Predicted skeletal age {age['predicted_age_years']:.0f} years{interval}\n"
        f"bae, model {age['model_id']}. {CAUTION}",
        fontsize=9,
    )
    return figure

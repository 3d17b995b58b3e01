"""A prediction as a DICOM Structured Report: TID 1500, Measurement Report (PS3.16).

A Comprehensive SR (PS3.3 A.35.3) with a measurement group for the scan (predicted age and
interval, TID 1501) and one for each view's region (TID 1410), which refers to the frame.
"""

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes

from bae.archive.dicom import decode
from bae.evaluation.pages import Row
from bae.report.dicom import source
from bae.report.dicom.source import Page

SCHEME = "99BAE"
"""Designator of our own codes: private ones begin with 99 (PS3.16 section 8)."""
PREDICTED_AGE = sr.CodedConcept("predicted_age", SCHEME, "Predicted skeletal age")
AGE_LOW = sr.CodedConcept("age_low", SCHEME, "Lower end of the 90 % prediction interval")
AGE_HIGH = sr.CodedConcept("age_high", SCHEME, "Upper end of the 90 % prediction interval")
HEAT_SHARE = sr.CodedConcept("heat_share", SCHEME, "Share of the view's heat inside the region")
YEARS, RATIO = sr.CodedConcept("a", "UCUM", "year"), sr.CodedConcept("1", "UCUM", "no units")
MILLIMETRES = sr.CodedConcept("mm", "UCUM", "millimeter")

SERIES = 9901


def structured_report(shown: Page) -> bytes:
    """Return the measurement report as a DICOM file."""
    age, model = shown.age, shown.age["model_id"]
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=source.model_uid(model),
        name="bae",
        manufacturer_name="bae",
        model_name="bae",
        serial_number=model,
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, observer)
        ),
        procedure_reported=codes.LN.RadionuclideScanOfWholeBody,
        imaging_measurements=[_age_group(shown), *_region_groups(shown)],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            sr.CodedConcept("en", "RFC5646", "English")
        ),
    )
    with decode.quiet():
        made = sr.ComprehensiveSR(
            evidence=[shown.source],
            content=content[0],
            series_instance_uid=source.uid(age, "report series"),
            series_number=SERIES,
            sop_instance_uid=source.uid(age, "report"),
            instance_number=1,
            is_complete=True,
            series_description="Predicted skeletal age",
            coding_schemes=[
                CodingSchemeIdentificationItem(
                    designator=SCHEME, name="bae: skeletal age from bone scans"
                )
            ],
            **source.equipment(model),
        )
        return source.file(made, shown)


def _age_group(shown: Page) -> sr.MeasurementsAndQualitativeEvaluations:
    """Return predicted age and interval of the whole scan, TID 1501."""
    age = shown.age
    values = [
        (PREDICTED_AGE, age["predicted_age_years"]),
        (AGE_LOW, age["age_low_years"]),
        (AGE_HIGH, age["age_high_years"]),
    ]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(source.uid(age, "age"), "skeletal age"),
        algorithm_id=_algorithm(age),
        source_images=[
            sr.SourceImageForMeasurementGroup(
                shown.source.SOPClassUID, shown.source.SOPInstanceUID, source.numbers(shown.frames)
            )
        ],
        measurements=[
            sr.Measurement(name, round(float(value), 2), YEARS)
            for name, value in values
            if value is not None
        ],
    )


def _region_groups(shown: Page) -> list[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Return the cropped region of each view, TID 1410.

    A rectangle's corners are those of its pixels: 0\\0 is the upper left corner of the
    upper left pixel (PS3.3 C.18.6.1.1), as half-open boxes have it.
    """
    groups = []
    for index, (panel, frame) in enumerate(zip(shown.panels, shown.frames, strict=True)):
        box = panel.box
        row_mm, column_mm = panel.pixel_mm or (None, None)
        corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)]
        values = [
            (codes.SCT.Width, column_mm and (box.x1 - box.x0) * column_mm, MILLIMETRES),
            (codes.DCM.Height, row_mm and (box.y1 - box.y0) * row_mm, MILLIMETRES),
            (HEAT_SHARE, box.heat_share, RATIO),
        ]
        image = sr.SourceImageForRegion(
            shown.source.SOPClassUID, shown.source.SOPInstanceUID, source.numbers([frame])
        )
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(
                    source.uid(shown.age, f"region {index}"), f"region, {panel.view} view"
                ),
                referenced_region=sr.ImageRegion(
                    sr.GraphicTypeValues.POLYLINE, np.array([*corners, corners[0]], float), image
                ),
                finding_type=codes.NCIt.ImagingRegionOfInterest,
                algorithm_id=_algorithm(shown.age),
                measurements=[
                    sr.Measurement(name, round(float(value), 4), unit)
                    for name, value, unit in values
                    if value is not None
                ],
            )
        )
    return groups


def _algorithm(age: Row) -> sr.AlgorithmIdentification:
    """Name the model, TID 4019."""
    return sr.AlgorithmIdentification(name="bae", version=age["model_id"], manufacturer="bae")

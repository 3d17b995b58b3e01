"""A prediction as a DICOM Structured Report: TID 1500, Measurement Report (PS3.16).

A Comprehensive SR (PS3.3 A.35.3) with a measurement group for the scan (predicted age and
interval, TID 1501) and one for each region of each view (TID 1410), which refers to the
frame and, of several regions, says where on the body it lies and what it contributes.
"""

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes

from bae.archive.dicom import decode
from bae.evaluation.pages import Row
from bae.method.regional.places import PLACES
from bae.report.dicom import source
from bae.report.dicom.source import Page
from bae.scan import Box

SCHEME = "99BAE"
"""Designator of our own codes: private ones begin with 99 (PS3.16 section 8)."""
PREDICTED_AGE = sr.CodedConcept("predicted_age", SCHEME, "Predicted skeletal age")
AGE_LOW = sr.CodedConcept("age_low", SCHEME, "Lower end of the 90 % prediction interval")
AGE_HIGH = sr.CodedConcept("age_high", SCHEME, "Upper end of the 90 % prediction interval")
HEAT_SHARE = sr.CodedConcept("heat_share", SCHEME, "Share of the view's heat inside the region")
WEIGHT = sr.CodedConcept("region_weight", SCHEME, "Share of the predicted age from the region")
ADDED_YEARS = sr.CodedConcept("added_years", SCHEME, "What the region adds to the mean age")
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
    """Return a group for each region of each view, TID 1410.

    A rectangle's corners are those of its pixels: 0\\0 is the upper left corner of the
    upper left pixel (PS3.3 C.18.6.1.1), as half-open boxes have it.
    """
    groups = []
    for index, (panel, frame) in enumerate(zip(shown.panels, shown.frames, strict=True)):
        image = sr.SourceImageForRegion(
            shown.source.SOPClassUID, shown.source.SOPInstanceUID, source.numbers([frame])
        )
        for number, box in enumerate(panel.boxes, 1):
            corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)]
            one = len(panel.boxes) == 1
            words = [f"region {number}", box.name] if not one else ["region", box.name]
            groups.append(
                sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=sr.TrackingIdentifier(
                        source.uid(shown.age, f"region {index}" + ("" if one else f" {number}")),
                        ", ".join([*filter(None, words), f"{panel.view} view"]),
                    ),
                    referenced_region=sr.ImageRegion(
                        sr.GraphicTypeValues.POLYLINE,
                        np.array([*corners, corners[0]], float),
                        image,
                    ),
                    finding_type=codes.NCIt.ImagingRegionOfInterest,
                    finding_sites=_sites(box.name) or None,
                    algorithm_id=_algorithm(shown.age),
                    measurements=_measurements(box, panel.pixel_mm),
                )
            )
    return groups


def _measurements(box: Box, pixel_mm: tuple[float, float] | None) -> list[sr.Measurement]:
    """Return what is known of a region as numbers."""
    row_mm, column_mm = pixel_mm or (None, None)
    values = [
        (codes.SCT.Width, column_mm and (box.x1 - box.x0) * column_mm, MILLIMETRES),
        (codes.DCM.Height, row_mm and (box.y1 - box.y0) * row_mm, MILLIMETRES),
        (HEAT_SHARE, box.heat_share, RATIO),
        (WEIGHT, box.weight, RATIO),
        (ADDED_YEARS, box.years, YEARS),
    ]
    return [
        sr.Measurement(name, round(float(value), 4), unit)
        for name, value, unit in values
        if value is not None
    ]


SITES = {
    "skull": [codes.SCT.Skull],
    "neck": [codes.SCT.Neck],
    "shoulder": [codes.SCT.Shoulder],
    # both lie there in a planar picture
    "sternum and thoracic spine": [codes.SCT.Sternum, codes.SCT.ThoracicSpine],
    "ribs": [codes.SCT.Rib],
    "lumbar spine": [codes.SCT.LumbarSpine],
    "upper arm": [codes.SCT.UpperArm],
    "elbow": [codes.SCT.ElbowJoint],
    "forearm": [codes.SCT.Forearm],
    "hand": [codes.SCT.Hand],
    "pelvis": [codes.SCT.Pelvis],
    "hip": [codes.SCT.Hip],
    "thigh": [codes.SCT.Thigh],
    "knee": [codes.SCT.Knee],
    "lower leg": [codes.SCT.LowerLeg],
    "foot": [codes.SCT.Foot],
}
"""SNOMED CT's code of each place; a place without one is named in the tracking identifier alone."""


def _sites(name: str | None) -> list[sr.FindingSite]:
    """Return the finding sites of a place, with the side of a pair; none for an unknown name."""
    for place in PLACES:
        sides = {f"left {place.name}": codes.SCT.Left, f"right {place.name}": codes.SCT.Right}
        if place.pair:
            sides[place.pair] = codes.SCT.Bilateral
        if name == place.name or name in sides:
            side = sides.get(name) if place.pair else None
            return [sr.FindingSite(code, side) for code in SITES.get(place.name, [])]
    return []


def _algorithm(age: Row) -> sr.AlgorithmIdentification:
    """Name the model, TID 4019."""
    return sr.AlgorithmIdentification(name="bae", version=age["model_id"], manufacturer="bae")

"""DICOM objects as hospitals store them, from a simulated scan.

Two vendors' layouts of two-frame NM objects (PS3.3 C.8.4): one says by Start
Angle which frame is anterior and keeps frames in detector order, the other by
View Code Sequence and stores the posterior frame first; a few have a second
energy window. Old scans are two single-frame Secondary Capture objects. Nothing
in a header is drawn from the latent age, and nobody of these names was scanned.
"""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from pydicom import DataElement, config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import NuclearMedicineImageStorage, SecondaryCaptureImageStorage, generate_uid
from scipy import ndimage

from bae.phantom import syntaxes
from bae.phantom.people import generator
from bae.phantom.scan import PhantomScan
from bae.scan import ANTERIOR, FEMALE

GE, SIEMENS = "ge", "siemens"
BOTH, BIRTH_DATE, AGE, BARE_AGE = "both", "birth date", "age", "bare age"

_FAMILY = (
    "Abbott Barlow Castell Dorsey Ekström Faber Garnier Hollis Ivers Jansen Keller Lindqvist "
    "Moreau Novak Okada Petrov Quist Rowan Sorel Tamura Ulrich Vargas Winkler Zeller"
)
FAMILY = _FAMILY.split()
WOMEN = ("Ada", "Berit", "Clara", "Dana", "Elsa", "Frieda", "Greta", "Hana")
MEN = ("Anton", "Bruno", "Carl", "Dario", "Emil", "Felix", "Georg", "Henri")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one scan is stored.

    Attributes:
        vendor: ``ge`` or ``siemens``.
        capture: as single-frame Secondary Captures.
        syntax: Transfer Syntax UID.
        ages: which elements tell the age.
        windows: energy windows, 1 or 2.
        other_order: frames stand in the order that the vendor does not use by itself.
    """

    vendor: str
    capture: bool
    syntax: str
    ages: str
    windows: int
    other_order: bool = False


def layout(scan: PhantomScan, seed: int) -> Layout:
    """Draw how a scan is stored."""
    rng, usual = generator(seed, 4, scan.index), scan.world
    shares, elements = np.array(usual.syntax_shares), np.array(usual.age_elements)
    syntax = syntaxes.SYNTAXES[int(rng.choice(len(shares), p=shares / shares.sum()))]
    capture = bool(rng.random() < usual.captures)
    windows = 2 if rng.random() < usual.two_windows and not capture else 1
    return Layout(
        vendor=GE if capture or rng.random() < usual.ge_share else SIEMENS,
        capture=capture,
        syntax=syntax,
        ages=str(rng.choice([BOTH, BIRTH_DATE, AGE, BARE_AGE], p=elements / elements.sum())),
        windows=windows,
        other_order=bool(rng.random() < usual.other_order),
    )


def uid(seed: int, *what: object) -> str:
    """Return the same UID for the same words."""
    return str(generate_uid(entropy_srcs=["bae phantom", str(seed), *map(str, what)]))


def person_name(scan: PhantomScan, seed: int) -> tuple[str, str]:
    """Return the family and given name of a person who does not exist."""
    rng = generator(seed, 5, scan.patient)
    given = WOMEN if scan.sex == FEMALE else MEN
    return str(rng.choice(FAMILY)), str(rng.choice(given))


def key(scan: PhantomScan, seed: int, how: Layout, part: str = "") -> str:
    """Return an object's name in the archive, nested as hospitals' exports are."""
    digest = hashlib.sha256(f"{seed}/{scan.index}".encode()).hexdigest()[:12]
    day = scan.day
    family, given = person_name(scan, seed)
    if how.capture:
        return f"legacy/{day:%Y%m}/{digest}{part}"
    if how.vendor == GE:
        return f"xeleris/{day:%Y/%m/%d}/{scan.patient:07d}/WB_BONE_{digest}{part}.dcm"
    return f"pacs/{family.upper()}_{given.upper()}_{scan.patient:07d}/NM/{digest}{part}.dcm"


def build(scan: PhantomScan, seed: int, how: Layout) -> list[tuple[str, FileDataset]]:
    """Return the objects of a scan with their names in the archive."""
    if how.capture:
        return [
            (key(scan, seed, how, f"_{i}"), _capture(scan, seed, how, i))
            for i in range(len(scan.views))
        ]
    return [(key(scan, seed, how), _whole_body(scan, seed, how))]


def encode(ds: FileDataset) -> bytes:
    """Return the object as a Part 10 file."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _common(scan: PhantomScan, seed: int, how: Layout, part: int) -> FileDataset:
    meta = FileMetaDataset()
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = SecondaryCaptureImageStorage if how.capture else NuclearMedicineImageStorage
    ds.SOPInstanceUID = uid(seed, "instance", scan.index, part)
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.ImplementationClassUID = uid(0, "implementation")
    rng = generator(seed, 6, scan.index)
    day, family_given = f"{scan.day:%Y%m%d}", person_name(scan, seed)
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = f"{rng.integers(7, 17):02d}{rng.integers(60):02d}00"
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = ds.StudyTime
    ds.AccessionNumber = f"A{seed:03d}{scan.index:08d}"
    ds.Modality = "NM"
    ds.Manufacturer = "GE MEDICAL SYSTEMS" if how.vendor == GE else "SIEMENS NM"
    ds.ManufacturerModelName = "INFINIA" if how.vendor == GE else "Symbia T"
    ds.InstitutionName = "Phantom General Hospital"
    ds.StudyDescription = str(rng.choice(["Whole Body Bone", "NM Bone Scan WB", "SKELETT GK"]))
    ds.SeriesDescription = str(rng.choice(["WB BONE", "WholeBody", "GK 3h p.i."]))
    ds.PatientName = "^".join(family_given)
    ds.PatientID = f"PH{seed}-{scan.patient:07d}"
    ds.IssuerOfPatientID = "PHANTOM"
    ds.PatientSex = scan.sex
    if how.ages in (BOTH, BIRTH_DATE):
        ds.PatientBirthDate = f"{scan.born:%Y%m%d}"
    if how.ages != BIRTH_DATE:
        years = int(scan.age_years)  # Patient's Age truncates, PS3.5 6.2
        written = f"{years:02d}" if how.ages == BARE_AGE else f"{years:03d}Y"
        # a bare number is not what PS3.5 allows, but it occurs
        ds["PatientAge"] = DataElement("PatientAge", "AS", written, validation_mode=config.IGNORE)
    height_m = scan.build.height_mm / 1000.0
    ds.PatientSize, ds.PatientWeight = f"{height_m:.2f}", f"{scan.mass_index * height_m**2:.1f}"
    ds.BodyPartExamined = "CHEST" if rng.random() < 0.05 else "WHOLE BODY"
    ds.ProtocolName = "Whole Body Bone"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = uid(seed, "study", scan.index)
    ds.SeriesInstanceUID = uid(seed, "series", scan.index)
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = str(scan.index % 100000), 1, part + 1
    ds.PixelSpacing = [f"{scan.pixel_mm:.6g}"] * 2
    # vendors differ; the counts never need the sign
    ds.PixelRepresentation = int(how.vendor == GE and how.syntax not in syntaxes.LOSSY)
    if how.vendor == GE:
        block = ds.private_block(0x0009, "GEMS_GENIE_1", create=True)
        block.add_new(0x01, "LO", "WB BONE")
        block.add_new(0x40, "LO", ",".join(family_given).upper())
    return ds


def _whole_body(scan: PhantomScan, seed: int, how: Layout) -> FileDataset:
    ds = _common(scan, seed, how, 0)
    ds.WholeBodyTechnique, ds.ScanLength = "1PS", 1900
    ds.ActualFrameDuration = 1_200_000
    anterior_first = (how.vendor == GE) != how.other_order
    views = list(scan.views) if anterior_first else list(scan.views)[::-1]
    frames: list[syntaxes.Counts] = [view.counts.astype(np.uint16) for view in views]
    if how.windows == 2:
        rng = generator(seed, 7, scan.index)
        frames += [_scatter(frame, rng) for frame in frames]
    pixels = np.stack(frames)
    ds.CountsAccumulated = int(pixels.sum())
    ds.FrameIncrementPointer = [0x00540010, 0x00540020]
    ds.EnergyWindowVector = [1, 1] if how.windows == 1 else [1, 1, 2, 2]
    ds.DetectorVector = [1, 2] * how.windows
    ds.NumberOfEnergyWindows, ds.NumberOfDetectors = how.windows, 2
    ds.EnergyWindowInformationSequence = Sequence(
        [_window(126.45, 154.55, "Tc99m")]
        + ([_window(108.6, 126.4, "Scatter")] if how.windows == 2 else [])
    )
    ds.RadiopharmaceuticalInformationSequence = Sequence([_tracer(how)])
    ds.DetectorInformationSequence = Sequence([_detector(v.name, how.vendor) for v in views])
    syntaxes.put_pixels(ds, pixels, how.syntax)
    return ds


def _capture(scan: PhantomScan, seed: int, how: Layout, part: int) -> FileDataset:
    ds = _common(scan, seed, how, part)
    view = scan.views[part]
    ds.ImageType = ["DERIVED", "PRIMARY", "WHOLE BODY", "EMISSION"]
    ds.ConversionType = "WSD"
    ds.SeriesDescription = "WB ANT" if view.name == ANTERIOR else "WB POST"
    ds.ImageID = "WHOLE BODY_E"
    ds.FrameIncrementPointer = [0x00540010, 0x00540020]
    # one value each: read back as a number, not as a list
    ds.EnergyWindowVector, ds.NumberOfEnergyWindows = 1, 1
    ds.DetectorVector, ds.NumberOfDetectors = 1, 1
    ds.DetectorInformationSequence = Sequence([_detector(view.name, how.vendor)])
    ds.CountsAccumulated = int(view.counts.sum())
    syntaxes.put_pixels(ds, view.counts[None].astype(np.uint16), how.syntax)
    return ds


def _scatter(frame: syntaxes.Counts, rng: np.random.Generator) -> syntaxes.Counts:
    """Return what a window below the photopeak counts: fewer photons, far off course."""
    broad = ndimage.gaussian_filter(frame.astype(np.float32), 9.0) * 0.4
    return rng.poisson(broad).astype(np.uint16)


def _code(value: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return Sequence([item])


def _window(low: float, high: float, name: str) -> Dataset:
    limits, item = Dataset(), Dataset()
    limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = f"{low}", f"{high}"
    item.EnergyWindowName = name
    item.EnergyWindowRangeSequence = Sequence([limits])
    return item


def _tracer(how: Layout) -> Dataset:
    item = Dataset()
    item.Radiopharmaceutical = "Tc-99m MDP" if how.vendor == GE else "Tc99m DPD"
    item.RadionuclideTotalDose = "700"
    item.RadionuclideCodeSequence = _code("72454006", "^99m^Technetium")
    return item


def _detector(view: str, vendor: str) -> Dataset:
    item = Dataset()
    item.CollimatorGridName, item.CollimatorType = "LEHR", "PARA"
    item.FieldOfViewShape = "RECTANGLE"
    item.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]  # the same on both, so of no use
    if vendor == GE:
        # 0 is the patient's back, PS3.3 C.8.4.11
        item.StartAngle = "180" if view == ANTERIOR else "0"
    elif view == ANTERIOR:
        item.ViewCodeSequence = _code("399321004", "Anterior projection")
    else:
        item.ViewCodeSequence = _code("399001007", "Posterior projection")
    return item

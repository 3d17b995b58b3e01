"""The mistakes that a real archive has, put on purpose into a share of the scans."""

from collections.abc import Callable

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from bae.phantom import syntaxes
from bae.phantom.people import generator

Files = list[tuple[str, bytes]]


def draw(k: int, seed: int, share: float) -> str:
    """Return which mistake scan k has, empty for none."""
    rng = generator(seed, 8, k)
    wrong = rng.random() < share
    kind = str(rng.choice(MISTAKES))
    return kind if wrong else ""


def spoil_files(kind: str, files: Files, seed: int, k: int) -> Files:
    """Return the files with a mistake of ``FILE_MISTAKES``."""
    name, data = files[0]
    rest = files[1:]
    if kind == "object empty":
        return [(name, b""), *rest]
    if kind == "object cut off":
        return [(name, data[: int(len(data) * 0.6)]), *rest]
    if kind == "not a picture":
        return [(name, b"The scan was moved to tape.\n"), *rest]
    if kind == "stored twice":
        return [(name, data), (f"copy/{name}", data), *rest]
    rng = generator(seed, 9, k)
    spoilt = np.frombuffer(data, dtype=np.uint8).copy()
    where = rng.integers(int(len(data) * 0.55), len(data), size=400)
    spoilt[where] = rng.integers(0, 256, size=400)
    return [(name, spoilt.tobytes()), *rest]


def _pixels(ds: FileDataset, change: Callable[[syntaxes.Counts], syntaxes.Counts]) -> None:
    frames = np.frombuffer(ds.PixelData, dtype="<u2")
    frames = frames.reshape(int(ds.NumberOfFrames), ds.Rows, ds.Columns)
    syntaxes.put_pixels(ds, np.ascontiguousarray(change(frames)), str(ExplicitVRLittleEndian))


def _no_age(ds: FileDataset) -> None:
    ds.PatientBirthDate = ""
    ds.PatientAge = ""


def _impossible_age(ds: FileDataset) -> None:
    ds.PatientBirthDate = f"{int(ds.AcquisitionDate[:4]) + 3}0101"
    ds.PatientAge = ""


def _disagreeing_ages(ds: FileDataset) -> None:
    year = int(ds.AcquisitionDate[:4])
    born = str(ds.get("PatientBirthDate") or f"{year - int(str(ds.PatientAge).rstrip('Y'))}0101")
    ds.PatientBirthDate = born
    ds.PatientAge = f"{abs(year - int(born[:4]) - 20):03d}Y"


def _no_sex(ds: FileDataset) -> None:
    ds.PatientSex = ""


def _no_spacing(ds: FileDataset) -> None:
    del ds.PixelSpacing


def _wrong_modality(ds: FileDataset) -> None:
    ds.Modality = "CT"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage


def _static(ds: FileDataset) -> None:
    """Keep a square of the pelvis alone."""
    side = int(ds.Columns)
    top = int(ds.Rows) // 2 - side // 2
    _pixels(ds, lambda frames: frames[:, top : top + side])
    ds.ImageType = ["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"]


def _stopped(ds: FileDataset) -> None:
    """Leave nothing below the pelvis: the scan was broken off."""

    def cut(frames: syntaxes.Counts) -> syntaxes.Counts:
        frames = frames.copy()
        frames[:, int(frames.shape[1] * 0.45) :] = 0
        return frames

    _pixels(ds, cut)


def _unnamed(ds: FileDataset) -> None:
    for item in ds.get("DetectorInformationSequence", []):
        for keyword in ("StartAngle", "ViewCodeSequence"):
            if keyword in item:
                delattr(item, keyword)


HEADER_MISTAKES: dict[str, Callable[[FileDataset], None]] = {
    "age missing": _no_age,
    "age impossible": _impossible_age,
    "ages disagree": _disagreeing_ages,
    "sex missing": _no_sex,
    "pixel size missing": _no_spacing,
    "wrong modality": _wrong_modality,
    "static view": _static,
    "picture empty": lambda ds: _pixels(ds, np.zeros_like),
    "scan stopped": _stopped,
    "feet first": lambda ds: _pixels(ds, lambda frames: frames[:, ::-1]),
    "views unnamed": _unnamed,
}
"""Name, as in ``truth.parquet`` -> what puts it into an object, in place."""

FILE_MISTAKES = (
    "object empty",
    "object cut off",
    "not a picture",
    "pixels damaged",
    "stored twice",
)
MISTAKES = (*HEADER_MISTAKES, *FILE_MISTAKES)

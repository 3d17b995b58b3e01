"""DICOM objects built for tests: every transfer syntax, every vendor's layout, every mistake."""

import datetime
import functools
import io
import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openjpeg.utils
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.pixels import get_encoder

Counts = NDArray[np.integer[Any]]

REAL = "JPEG-LL.dcm"
"""A real whole-body scan, anterior, 256 x 1024, shipped with pydicom-data."""

HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"


def real_bytes(name: str = REAL) -> bytes:
    """Return a shipped file's bytes."""
    path = get_testdata_file(name)
    assert path, f"{name} is part of pydicom and pydicom-data"
    return Path(path).read_bytes()


@functools.cache
def real_counts() -> NDArray[np.uint16]:
    """Return the real scan's counts, as pydicom and GDCM decode them."""
    ds = pydicom.dcmread(io.BytesIO(real_bytes()))
    ds.pixel_array_options(decoding_plugin="gdcm")
    return ds.pixel_array.astype(np.uint16)


@functools.cache
def two_views() -> NDArray[np.uint16]:
    """Return two different pictures of the real scan, standing in for anterior and posterior."""
    front = real_counts()
    return np.stack([front, np.ascontiguousarray((front // 2 + 1)[:, ::-1])])


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def detector(angle: float | None = None, view: tuple[str, str, str] | None = None) -> Dataset:
    """Return a Detector Information item with a start angle, a view code, both or neither."""
    item = Dataset()
    item.CollimatorType = "PARA"
    if angle is not None:
        item.StartAngle = str(angle)
    if view:
        item.ViewCodeSequence = [code(*view)]
    return item


def window(*ranges: tuple[float, float]) -> Dataset:
    """Return an Energy Window Information item."""
    item = Dataset()
    item.EnergyWindowRangeSequence = []
    for low, high in ranges:
        limits = Dataset()
        limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = str(low), str(high)
        item.EnergyWindowRangeSequence.append(limits)
    return item


ANTERIOR_CODE = ("399321004", "SCT", "Anterior projection")
POSTERIOR_CODE = ("399001007", "SCT", "Posterior projection")


def header(
    detectors: Sequence[Dataset] | None = None,
    windows: Sequence[Dataset] | None = None,
    **changes: Any,
) -> FileDataset:
    """Return an NM whole-body object without pixels.

    Args:
        detectors: items; anterior (180) then posterior (0) by default.
        windows: items; one of 126-154 keV by default.
        changes: keyword to value; None deletes the element.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.NuclearMedicineImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    meta.ImplementationClassUID = "1.2.826.0.1.3680043.8.498.2"
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    ds.Modality = "NM"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "WHOLE BODY", "EMISSION"]
    ds.Manufacturer = "GE MEDICAL SYSTEMS"
    ds.PatientID, ds.PatientName = "P-0001", "DOE^JANE"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19500601", "F", "060Y"
    ds.AcquisitionDate = ds.StudyDate = "20110115"
    ds.BodyPartExamined = "CHEST"
    ds.PixelSpacing = ["2.26", "2.26"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.EnergyWindowInformationSequence = [window((126, 154))] if windows is None else windows
    ds.DetectorInformationSequence = (
        [detector(180), detector(0)] if detectors is None else list(detectors)
    )
    ds.NumberOfDetectors = len(ds.DetectorInformationSequence)
    ds.NumberOfEnergyWindows = len(ds.EnergyWindowInformationSequence)
    change(ds, **changes)
    return ds


def change(ds: Dataset, **changes: Any) -> None:
    """Set elements by keyword; None deletes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wrong values are what tests are for
        for keyword, value in changes.items():
            if value is None:
                if keyword in ds:
                    delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)


def put(ds: FileDataset, frames: Counts, syntax: str = uid.ExplicitVRLittleEndian) -> FileDataset:
    """Put pixels into an object in a transfer syntax; frames are anterior, posterior, ..."""
    frames = np.atleast_3d(frames) if frames.ndim == 3 else frames[None]
    bits = frames.dtype.itemsize * 8
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(frames.dtype.kind == "i")
    ds.FrameIncrementPointer = [0x00540010, 0x00540020]
    if "EnergyWindowVector" not in ds:
        ds.EnergyWindowVector = [1] * len(frames)
    if "DetectorVector" not in ds:
        ds.DetectorVector = list(range(1, len(frames) + 1))
    ds.file_meta.TransferSyntaxUID = uid.UID(syntax)
    if syntax in ENCODERS:
        encoded = [ENCODERS[syntax](np.ascontiguousarray(frame), ds) for frame in frames]
        ds.PixelData = encapsulate(encoded)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    else:
        order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
        ds.PixelData = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
        ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    return ds


def _jpeg(frame: Counts, **options: Any) -> bytes:
    # JPEG knows no sign: the bits are what travels
    return bytes(imagecodecs.jpeg8_encode(frame.view(f"u{frame.dtype.itemsize}"), **options))


def _extended(frame: Counts, ds: Dataset) -> bytes:
    ds.BitsStored, ds.HighBit = 12, 11
    return _jpeg(np.minimum(frame, 4095), bitspersample=12, level=95)


def _rle(frame: Counts, ds: Dataset) -> bytes:
    return bytes(
        get_encoder(uid.RLELossless).encode(
            frame.view(f"u{frame.dtype.itemsize}"),
            encoding_plugin="pydicom",
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=1,
            number_of_frames=1,
            bits_allocated=frame.dtype.itemsize * 8,
            bits_stored=frame.dtype.itemsize * 8,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
    )


def _openjpeg(frame: Counts, ds: Dataset) -> bytes:
    return bytes(openjpeg.utils.encode_array(frame, photometric_interpretation=2, codec_format=0))


def _jpegls(frame: Counts, **options: Any) -> bytes:
    return bytes(imagecodecs.jpegls_encode(frame.view(f"u{frame.dtype.itemsize}"), **options))


LOSSLESS_JPEG = {
    str(uid.JPEGLossless): lambda frame, ds: _jpeg(
        frame, lossless=True, bitspersample=frame.dtype.itemsize * 8, predictor=4
    ),
    str(uid.JPEGLosslessSV1): lambda frame, ds: _jpeg(
        frame, lossless=True, bitspersample=frame.dtype.itemsize * 8, predictor=1
    ),
}

ENCODERS: dict[str, Callable[[Counts, Dataset], bytes]] = {
    str(uid.RLELossless): _rle,
    str(uid.JPEGBaseline8Bit): lambda frame, ds: _jpeg(frame, level=95),
    str(uid.JPEGExtended12Bit): _extended,
    **LOSSLESS_JPEG,
    str(uid.JPEGLSLossless): lambda frame, ds: _jpegls(frame),
    str(uid.JPEGLSNearLossless): lambda frame, ds: _jpegls(frame, level=2),
    str(uid.JPEG2000Lossless): _openjpeg,
    str(uid.JPEG2000): lambda frame, ds: bytes(
        imagecodecs.jpeg2k_encode(frame, codecformat="j2k", reversible=False, level=100)
    ),
    str(uid.HTJ2KLossless): lambda frame, ds: bytes(
        imagecodecs.htj2k_encode(frame, reversible=True)
    ),
    str(uid.HTJ2KLosslessRPCL): lambda frame, ds: bytes(
        imagecodecs.htj2k_encode(frame, reversible=True)
    ),
    str(uid.HTJ2K): lambda frame, ds: bytes(
        imagecodecs.htj2k_encode(frame, reversible=False, level=0.0001)
    ),
}

LOSSLESS = [
    str(syntax)
    for syntax in (
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEG2000Lossless,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
    )
]
LOSSY = [
    str(syntax)
    for syntax in (
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLSNearLossless,
        uid.JPEG2000,
        uid.HTJ2K,
    )
]


def encode(ds: FileDataset) -> bytes:
    """Return a Part 10 file."""
    buffer = io.BytesIO()
    syntax = ds.file_meta.TransferSyntaxUID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if syntax == uid.ExplicitVRBigEndian:
            buffer.write(ds.preamble + b"DICM")
            write_file_meta_info(buffer, ds.file_meta)
            buffer.write(bare(ds, implicit=False, little=False))
        else:
            ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bare(ds: FileDataset, *, implicit: bool, little: bool = True) -> bytes:
    """Return the data set alone: no preamble, no meta header."""
    writer = pydicom.filebase.DicomBytesIO()
    writer.is_implicit_VR, writer.is_little_endian = implicit, little
    write_dataset(writer, Dataset(dict(ds.items())))
    return bytes(writer.getvalue())


def scan(
    frames: Counts | None = None,
    syntax: str = uid.ExplicitVRLittleEndian,
    **changes: Any,
) -> bytes:
    """Return a sound two-view object as a file; keywords change its header."""
    return encode(put(header(**changes), two_views() if frames is None else frames, syntax))


def claiming(data: bytes, keyword: str, value: int) -> bytes:
    """Return the file with one 16-bit element of an explicit little endian header overwritten."""
    tag = pydicom.tag.Tag(keyword)
    needle = struct.pack("<HH2sH", tag.group, tag.element, b"US", 2)
    place = data.index(needle) + len(needle)
    return data[:place] + struct.pack("<H", value) + data[place + 2 :]


def years_before(day: str, years: int) -> str:
    """Return the DICOM date that many years earlier."""
    date = datetime.datetime.strptime(day, "%Y%m%d").date()
    return f"{date.replace(year=date.year - years):%Y%m%d}"

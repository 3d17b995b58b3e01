"""Pixel data in the transfer syntaxes that nuclear-medicine archives hold (PS3.5 section 8)."""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

Counts = NDArray[np.uint16]

SYNTAXES = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(JPEGLosslessSV1),
    str(RLELossless),
    str(JPEGLSLossless),
    str(JPEG2000Lossless),
    str(JPEG2000),
    str(JPEGLSNearLossless),
    str(JPEGExtended12Bit),
)
"""Transfer syntax UIDs, in the order of a world's ``syntax_shares``."""

LOSSY = {
    str(JPEG2000): "ISO_15444_1",
    str(JPEGLSNearLossless): "ISO_14495_1",
    str(JPEGExtended12Bit): "ISO_10918_1",
}
"""Lossy syntaxes and their Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1)."""

_ENCODERS: dict[str, Callable[[Counts], Any]] = {
    str(JPEGLosslessSV1): lambda frame: imagecodecs.jpeg_encode(
        frame, bitspersample=16, lossless=True, predictor=1
    ),
    str(JPEGLSLossless): imagecodecs.jpegls_encode,
    str(JPEGLSNearLossless): lambda frame: imagecodecs.jpegls_encode(frame, level=1),
    str(JPEG2000Lossless): lambda frame: imagecodecs.jpeg2k_encode(
        frame, codecformat="j2k", reversible=True, level=0
    ),
    str(JPEG2000): lambda frame: imagecodecs.jpeg2k_encode(
        frame, codecformat="j2k", reversible=False, level=100
    ),
    str(JPEGExtended12Bit): lambda frame: imagecodecs.jpeg_encode(
        np.minimum(frame, 4095), bitspersample=12, level=97
    ),
}


def put_pixels(ds: FileDataset, frames: Counts, syntax: str) -> None:
    """Set pixel data, its description and the transfer syntax.

    Args:
        ds: an object whose header is otherwise complete.
        frames: (frames, rows, columns).
        syntax: Transfer Syntax UID, one of ``SYNTAXES``.
    """
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.file_meta.TransferSyntaxUID = syntax
    raw = frames.astype("<u2").tobytes()
    if syntax not in _ENCODERS:
        ds.PixelData = raw
        ds["PixelData"].VR = "OW"
        if syntax == RLELossless:
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        return
    if syntax == JPEGExtended12Bit:
        ds.BitsStored, ds.HighBit = 12, 11
    coded = [bytes(_ENCODERS[syntax](frame)) for frame in frames]
    ds.PixelData = encapsulate(coded)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    if syntax in LOSSY:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionMethod = LOSSY[syntax]
        ds.LossyImageCompressionRatio = f"{len(raw) / sum(map(len, coded)):.1f}"

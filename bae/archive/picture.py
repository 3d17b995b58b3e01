"""PNG and TIFF archives: grey pictures whose labels come from a labels file."""

import hashlib
import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bae.archive import body
from bae.archive.dicom import rules
from bae.archive.dicom.rules import MOST_VIEWS
from bae.errors import ScanError
from bae.scan import UNKNOWN, Identity, Scan, View

_FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
}


def sniff(data: bytes) -> bool:
    """Say whether bytes start like a PNG, TIFF or BigTIFF file."""
    return _format(data) is not None


def decode(data: bytes) -> Scan:
    """Decode an 8- or 16-bit grey picture; each page of a TIFF file is a view.

    Views are unnamed and the pixel size is unknown: resolution in such files describes
    a screen or a printer. Colour is refused unless all channels are equal.

    Raises:
        ScanError: damaged, coloured, too large, or not shaped like a standing body.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[_format(data) or ""]) as image:
                pages = _pages(image)
    except ScanError:
        raise
    except Image.DecompressionBombError:  # before the size rule could look at it
        raise ScanError("size_refused", "more pixels claimed than any picture has") from None
    except MemoryError:
        raise ScanError("decoder_memory", "not enough memory for this picture") from None
    except Exception as error:  # Pillow lists no exceptions; this object ends here
        raise ScanError(
            "picture_broken", f"the picture cannot be decoded ({type(error).__name__})"
        ) from None
    views = [View(name=UNKNOWN, counts=page) for page in pages]
    sound, flags = body.examine(views, None)
    identity = Identity(patient="", study="", instance=hashlib.sha256(data).hexdigest())
    flags |= {"view_unknown", "pixel_size_missing"}
    return Scan(views=tuple(sound), identity=identity, flags=tuple(sorted(flags)))


def _format(data: bytes) -> str | None:
    return next((name for start, name in _FORMATS.items() if data.startswith(start)), None)


def _pages(image: Image.Image) -> list[NDArray[np.uint16]]:
    count = getattr(image, "n_frames", 1)
    if count > MOST_VIEWS:
        raise ScanError("too_many_views", f"{count} pages, at most {MOST_VIEWS} fit")
    pages = []
    for page in range(count):
        if count > 1:
            image.seek(page)
        rules.check_shape(image.height, image.width)
        pages.append(_grey(image))
    if len({page.shape for page in pages}) > 1:
        raise ScanError("header_conflict", "pages of different sizes")
    return pages


def _grey(image: Image.Image) -> NDArray[np.uint16]:
    """Return one page as counts."""
    if image.mode == "1" or image.mode.startswith(("F", "CMYK", "YCbCr", "LAB", "HSV")):
        raise ScanError("screen_capture", f"a picture of mode {image.mode}, expected grey")
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if values.ndim == 3:
        grey = values[..., :1] if image.mode == "LA" else values[..., :3]
        if (grey != grey[..., :1]).any():
            raise ScanError("screen_capture", "a coloured picture, expected grey")
        values = grey[..., 0]
    if values.dtype.kind not in "ui" or values.min() < 0 or values.max() > 65535:
        raise ScanError("codec_unsupported", "a picture that is neither 8- nor 16-bit grey")
    return np.ascontiguousarray(values.astype(np.uint16))

"""Bytes of any object to its scans: DICOM, PNG, TIFF, and zip files of them."""

from collections.abc import Iterator

from bae.archive import picture
from bae.archive.dicom import decode as dicom_decode
from bae.archive.files import bounds, kinds, zips
from bae.archive.files.bounds import Budget
from bae.errors import ScanError
from bae.scan import Scan


def scans(name: str, data: bytes) -> Iterator[tuple[str, Scan | ScanError]]:
    """Read every scan of one object.

    Args:
        name: of the object; only its content decides how it is read.
        data: all its bytes.

    Yields:
        (member, scan or refusal): member is empty for a plain object and the member's
        name for each file inside a zip file. A bad member does not hide its neighbours.

    >>> from bae import phantom
    >>> name, data = phantom.objects(0)[0]  # a simulated scan, as a DICOM file
    >>> [(member, scan)] = scans(name, data)
    >>> [view.name for view in scan.views]
    ['posterior', 'anterior']
    >>> [(_, refusal)] = scans("letter.txt", b"no picture")
    >>> refusal.code
    'format_unknown'
    """
    budget = Budget(bounds.LARGEST_DECODED_BYTES)
    for member, unpack in entries(data, 0, budget):
        content = unpack()
        outcome = content if isinstance(content, ScanError) else decode(content)
        budget.spend(outcome)
        yield member, outcome


def decode(data: bytes) -> Scan | ScanError:
    """Read one file that is no zip file, or say why not."""
    try:
        if not data:
            raise ScanError("object_empty", "0 bytes")
        if len(data) > bounds.LARGEST_OBJECT_BYTES:
            raise bounds.too_large(len(data))
        if kinds.is_dicom_file(data):  # first: its preamble may look like any other format
            return dicom_decode.decode(data)
        if picture.sniff(data):
            return picture.decode(data)
        if dicom_decode.sniff(data):
            return dicom_decode.decode(data)
        if name := kinds.known(data):
            raise ScanError("format_not_read", f"a file of format {name}, which is not read")
        raise ScanError("format_unknown", "the first bytes are of no known format")
    except ScanError as error:
        return error


def entries(data: bytes, start: int, budget: Budget) -> Iterator[tuple[str, zips.Unpack]]:
    """Take an object apart: itself, or the files of a zip file one after the other.

    Args:
        data: bytes of the object.
        start: how many files to skip; used to go on behind one that crashed its decoder.
        budget: of decoded bytes; behind the file that spends it, files of a zip are refused.

    Yields:
        (name, how to get its bytes), the name empty for a plain object.
    """
    if kinds.is_zip(data):
        yield from zips.members(data, start, budget)
    elif start == 0:
        yield "", lambda: data


def members(data: bytes, start: int = 0) -> Iterator[tuple[str, bytes | ScanError]]:
    """Yield (name, bytes or refusal) of what an object holds; see ``entries``."""
    for name, unpack in entries(data, start, Budget(bounds.LARGEST_DECODED_BYTES)):
        yield name, unpack()

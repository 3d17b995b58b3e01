"""Bytes of any object to its scans: DICOM, PNG, TIFF, and zip files of them."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator

from bae.archive import picture
from bae.archive.dicom import decode as dicom_decode
from bae.errors import ScanError
from bae.scan import Scan

LARGEST_OBJECT_BYTES = 1 << 29
"""512 MiB: a scan has about 1 MiB, the largest SPECT objects some hundred."""
LARGEST_ZIP_BYTES = 1 << 32
"""4 GiB unpacked in all, one member at a time; nothing is written to disk."""
MOST_MEMBERS = 20_000


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
    for member, content in members(data):
        yield member, content if isinstance(content, ScanError) else decode(content)


def decode(data: bytes) -> Scan | ScanError:
    """Read one file that is no zip file, or say why not."""
    try:
        if not data:
            raise ScanError("object_empty", "0 bytes")
        if len(data) > LARGEST_OBJECT_BYTES:
            raise ScanError("object_too_large", f"{len(data)} bytes, at most 512 MiB are read")
        if picture.sniff(data):
            return picture.decode(data)
        if dicom_decode.sniff(data):
            return dicom_decode.decode(data)
        raise ScanError("format_unknown", "the first bytes are of no format that is read")
    except ScanError as error:
        return error


def members(data: bytes, start: int = 0) -> Iterator[tuple[str, bytes | ScanError]]:
    """Take an object apart: itself, or the files of a zip file one after the other.

    Args:
        data: bytes of the object.
        start: how many files to skip; used to go on behind one that crashed its decoder.

    Yields:
        (name, bytes or refusal), the name empty for a plain object.
    """
    if not is_zip(data):
        if start == 0:
            yield "", data
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # zipfile lists no exceptions; this object ends here
        if start == 0:
            yield "", ScanError("zip_broken", f"no directory found ({type(error).__name__})")
        return
    with archive:
        yield from _zip_members(archive, start)


def is_zip(data: bytes) -> bool:
    """Say whether bytes start like a zip file (also an empty one)."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def _zip_members(archive: zipfile.ZipFile, start: int) -> Iterator[tuple[str, bytes | ScanError]]:
    # not info.is_dir(): it fails on an empty name, as fuzzing found
    files = [info for info in archive.infolist() if not info.filename.endswith("/")]
    if not files and start == 0:
        yield "", ScanError("zip_broken", "a zip file without any file in it")
    seen: Counter[str] = Counter()
    unpacked = 0
    for index, info in enumerate(files[:MOST_MEMBERS]):
        # a name that any table can hold
        name = info.filename.encode("utf-8", "backslashreplace").decode() or "unnamed"
        seen[name] += 1
        member = f"{name}#{seen[name]}" if seen[name] > 1 else name
        if index < start:
            unpacked += min(info.file_size, LARGEST_OBJECT_BYTES)
            continue
        if unpacked > LARGEST_ZIP_BYTES:
            too_large = "the files before it unpacked to more than 4 GiB"
            yield member, ScanError("zip_too_large", too_large)
            continue
        content = _read(archive, info)
        unpacked += len(content) if isinstance(content, bytes) else LARGEST_OBJECT_BYTES
        yield member, content
    if len(files) > MOST_MEMBERS and start <= MOST_MEMBERS:
        yield "", ScanError("zip_too_large", f"{len(files)} files, at most {MOST_MEMBERS} are read")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | ScanError:
    """Unpack one member within bounds."""
    if info.flag_bits & 1:
        return ScanError("zip_encrypted", "the member is encrypted")
    if info.file_size > LARGEST_OBJECT_BYTES:
        return ScanError("object_too_large", "the member claims more than 512 MiB")
    try:
        with archive.open(info) as file:
            # never more than claimed: a member that lies is cut there and fails its checksum
            content = file.read(info.file_size + 1)
    except MemoryError:
        return ScanError("decoder_memory", "not enough memory to unpack the member")
    except Exception as error:
        return ScanError("zip_broken", f"the member cannot be unpacked ({type(error).__name__})")
    if is_zip(content):
        return ScanError("zip_nested", "the member is a zip file itself")
    return content

"""The members of a zip file, each unpacked only when asked for.

Zip files come from everywhere: a Mac adds folders of its own, Windows packs by methods of its own
and puts backslashes in names, and some names are in no encoding at all. A name is only ever text
in a table: nothing is written to disk, so ``..`` and absolute paths lead nowhere.
"""

import io
import re
import stat
import zipfile
from collections.abc import Callable, Iterator

from bae import local
from bae.archive.files import bounds, kinds
from bae.archive.files.bounds import Budget
from bae.errors import ScanError

Unpack = Callable[[], bytes | ScanError]
"""Returns a file's bytes, or why there are none; takes as long as it takes."""

_METHODS = {
    1: "Shrink",
    6: "Implode",
    9: "Deflate64",
    14: "LZMA",
    93: "Zstandard",
    95: "XZ",
    96: "JPEG",
    98: "PPMd",
}
_UTF8 = 0x800
"""Flag of a member whose name says to be UTF-8 (APPNOTE.TXT, 4.4.4, bit 11)."""
_PATCH = 0x20
"""Flag of a member that only says how another file differs (bit 5)."""
_SEPARATOR = re.compile(r"[/\\]")
# control characters, and those that reorder the text round them
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_MOST = "at most {} MiB of decoded pixels are taken from one zip file, {} MiB from all of a part"


def members(data: bytes, start: int, budget: Budget) -> Iterator[tuple[str, Unpack]]:
    """Take a zip file apart; folders, hidden names and litter of file managers are left out.

    Args:
        data: bytes of the zip file.
        start: how many members to skip without unpacking them.
        budget: what the caller takes decoded pixels off; once it is spent, nothing is unpacked.

    Yields:
        (name, how to unpack it), a name that any table can hold; empty for the zip file itself.
    """
    try:
        archive = _opened(data)
    except ScanError as refusal:
        if start == 0:
            yield "", _refused(refusal)
        return
    with archive:
        files = [info for info in archive.infolist() if not _is_litter(info)]
        if not files and start == 0:
            yield "", _refused(ScanError("zip_empty", "no file in it, or only hidden ones"))
        names, unpacked = _Names(), _Unpacked()
        for index, info in enumerate(files[: bounds.MOST_MEMBERS]):
            name = names.add(info.filename)
            if index < start:
                unpacked.bytes += min(info.file_size, bounds.LARGEST_OBJECT_BYTES)
            else:
                yield name, _later(info, data, unpacked, budget)
        if len(files) > bounds.MOST_MEMBERS and start <= bounds.MOST_MEMBERS:
            many = f"{len(files)} files, at most {bounds.MOST_MEMBERS} are read"
            yield "", _refused(ScanError("zip_too_large", many))


class _Names:
    """Names of members as text that is safe in a table, each different from all before it."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def add(self, name: str) -> str:
        text = name.encode("utf-8", "backslashreplace").decode() or "unnamed"
        text = _UNSAFE.sub(lambda bad: bad[0].encode("unicode_escape").decode(), text)
        found = text
        while found in self.seen:
            self.seen[text] += 1
            found = f"{text}#{self.seen[text]}"
        self.seen[found] = 1
        return found


class _Unpacked:
    """How much was unpacked so far."""

    bytes = 0


def _refused(refusal: ScanError) -> Unpack:
    return lambda: refusal


def _later(
    info: zipfile.ZipInfo,
    data: bytes,
    unpacked: _Unpacked,
    budget: Budget,
) -> Unpack:
    """Return how to unpack one member within all bounds."""

    def unpack() -> bytes | ScanError:
        if budget.left <= 0:
            most = bounds.LARGEST_DECODED_BYTES >> 20, bounds.LARGEST_PART_BYTES >> 20
            return ScanError("zip_too_large", _MOST.format(*most))
        if unpacked.bytes > bounds.LARGEST_ZIP_BYTES:
            most_gib = bounds.LARGEST_ZIP_BYTES / 2**30
            return ScanError(
                "zip_too_large", f"the files before it unpacked to more than {most_gib:g} GiB"
            )
        content = _read(info, data)
        unpacked.bytes += (
            len(content) if isinstance(content, bytes) else bounds.LARGEST_OBJECT_BYTES
        )
        return content

    return unpack


def _is_litter(info: zipfile.ZipInfo) -> bool:
    """Say whether a member is a folder, hidden as in a listing, or left by a file manager."""
    name, attributes = info.filename, info.external_attr
    # not info.is_dir(): it fails on an empty name, as fuzzing found
    if name.endswith("/") or (
        info.file_size == 0
        and (name.endswith("\\") or attributes & 0x10 or stat.S_ISDIR(attributes >> 16))
    ):
        return True
    return any(map(local.passed_over, _SEPARATOR.split(name)))


def _opened(data: bytes) -> zipfile.ZipFile:
    """Read the directory of a zip file.

    Raises:
        ScanError: there is none, or it is of a kind that is not read.
    """
    try:
        try:
            return zipfile.ZipFile(io.BytesIO(data))
        except UnicodeDecodeError:
            return _of_odd_names(data)
        except zipfile.BadZipFile:
            # zipfile looks for the directory's end in the last 64 KiB only
            end = data.rfind(b"PK\x05\x06") + 22
            if end < 22:
                raise
            end += int.from_bytes(data[end - 2 : end], "little")
            return zipfile.ZipFile(io.BytesIO(data[:end]))
    except NotImplementedError:
        later = "the zip file asks for a later version of the format"
        raise ScanError("zip_method_unsupported", later) from None
    except MemoryError:
        raise ScanError("decoder_memory", "not enough memory for the zip file") from None
    except Exception as error:  # zipfile lists no exceptions; this object ends here
        reason = f"no directory found ({type(error).__name__})"
        raise ScanError("zip_broken", reason) from None


def _of_odd_names(data: bytes) -> zipfile.ZipFile:
    """Open a zip file some of whose names say to be UTF-8 and are not: take that word back."""
    told = bytearray(data)
    end = data.rfind(b"PK\x05\x06")
    place = end - int.from_bytes(data[end + 12 : end + 16], "little")
    while data[place : place + 4] == b"PK\x01\x02":
        told[place + 9] &= ~(_UTF8 >> 8) & 0xFF
        lengths = (data[i : i + 2] for i in range(place + 28, place + 34, 2))
        place += 46 + sum(int.from_bytes(each, "little") for each in lengths)
    archive = zipfile.ZipFile(io.BytesIO(told))
    for info in archive.infolist():
        info.filename = info.filename.encode("cp437").decode("utf-8", "backslashreplace")
    return archive


def _read(info: zipfile.ZipInfo, data: bytes) -> bytes | ScanError:
    """Unpack one member within its own bounds."""
    if info.flag_bits & 1:
        return ScanError("zip_encrypted", "the member is encrypted")
    if info.file_size > bounds.LARGEST_OBJECT_BYTES:
        most = bounds.LARGEST_OBJECT_BYTES >> 20
        return ScanError("object_too_large", f"the member claims more than {most} MiB")
    method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
    unsupported = ScanError("zip_method_unsupported", f"the member is packed by {method}")
    if info.flag_bits & _PATCH:
        return unsupported
    # not archive.open(): it compares the member's name with the one before its bytes, which some
    # programs spell in another way, and names never matter
    place = info.header_offset
    if place < 0 or data[place : place + 4] != b"PK\x03\x04":
        return ScanError("zip_broken", "the member is not where the directory says")
    lengths = data[place + 26 : place + 28], data[place + 28 : place + 30]
    packed = io.BytesIO(data)
    packed.seek(place + 30 + sum(int.from_bytes(each, "little") for each in lengths))
    try:
        with zipfile.ZipExtFile(packed, "r", info) as file:
            # never more than claimed: a member that lies is cut there and fails its checksum
            content = file.read(info.file_size + 1)
    except NotImplementedError:
        return unsupported
    except MemoryError:
        return ScanError("decoder_memory", "not enough memory to unpack the member")
    except Exception as error:  # zipfile lists no exceptions; this member ends here
        return ScanError("zip_broken", f"the member cannot be unpacked ({type(error).__name__})")
    if kinds.is_zip(content):
        return ScanError("zip_nested", "the member is a zip file itself")
    return content

"""Places named by URI: a local folder or S3. Bytes in, bytes out, listings as tables.

``/path`` and ``file:///path`` are local, ``s3://bucket/prefix`` is any S3 server;
endpoint, region and credentials come from the usual ``AWS_*`` environment. Local
writes go to a temporary name first and are renamed, S3 puts are atomic by
themselves: a reader sees a whole object or none. Every failure is a
``StorageError`` with one sentence that names the place asked for, never an object
inside an archive, since object names may hold a person's name.
"""

import errno
import itertools
import os
import re
import shutil
import stat
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from bae import local, s3
from bae.errors import ObjectError, StorageError

LISTING = pa.schema(
    [
        pa.field("object_uri", pa.string(), False),
        pa.field("etag", pa.string(), False),
        pa.field("size_bytes", pa.int64(), False),
    ]
)
"""What a listing looks like, sorted by ``object_uri``."""

_CHUNK = 65536
_READ = "read an object"
_OF_ONE_FILE = {
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EIO,
}
"""What the system says of one file; its neighbours may be sound."""


def is_s3(uri: str) -> bool:
    """Say whether a URI lies on S3."""
    return uri.startswith("s3://")


def normal(uri: str) -> str:
    """Return the one spelling of a place: an absolute path, or ``s3://bucket/key``.

    Tables remember objects by this spelling, so that a run started from another
    folder still finds what is done.

    Raises:
        StorageError: a scheme other than local and S3, or an S3 URI without bucket.
    """
    if is_s3(uri):
        bucket, key = s3.split(uri)
        return f"s3://{bucket}/{key.rstrip('/')}" if key.strip("/") else f"s3://{bucket}"
    scheme, separator, _ = ("", "", "") if uri.startswith("/") else uri.partition("://")
    if separator and scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise StorageError("a file:// URI needs three slashes: file:///folder")
        return str(Path(unquote(parts.path)).absolute())
    if separator:
        raise StorageError(f"cannot read {scheme}:// places; use a local path or s3://")
    if not uri:
        raise StorageError("a place is empty; give a local path or s3://bucket/prefix")
    _require_utf8(uri)
    return os.path.normpath(Path(uri).expanduser().absolute())


def _require_utf8(path: str) -> None:
    """Refuse a path that this process does not read as all other programs here do.

    Raises:
        StorageError: the locale has another encoding, and the path letters beyond ASCII.
    """
    try:
        if os.fsencode(path) == path.encode():
            return
    except UnicodeEncodeError:
        pass
    raise StorageError("a path here is not read as UTF-8; set LANG=C.UTF-8 or PYTHONUTF8=1")


def join(uri: str, *parts: str) -> str:
    """Return the place below ``uri``; parts are names, never absolute."""
    return "/".join([uri.rstrip("/") or "", *(part.strip("/") for part in parts)])


def pyarrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the pyarrow filesystem of a place, and the place's path in it (no scheme)."""
    place = normal(uri)
    if is_s3(place):
        return s3.pyarrow_filesystem(), place.removeprefix("s3://")
    return pyarrow.fs.LocalFileSystem(), place


def read_bytes(uri: str, start: int = 0, stop: int | None = None) -> bytes:
    """Return an object's bytes, or only those from ``start`` on and before ``stop``.

    Raises:
        ObjectError: this one object may not or cannot be read.
        StorageError: it is missing, or the place cannot be reached.
    """
    place = normal(uri)
    if is_s3(place):
        return s3.read(uri, start, stop)
    try:
        return _read_local(place, start, stop)
    except OSError as error:
        if error.errno in _OF_ONE_FILE:
            raise ObjectError(
                "object_unreadable", str(local.storage_error(_READ, error))
            ) from error
        if isinstance(error, FileNotFoundError) and (why := _not_gone(place)):
            raise ObjectError("object_unreadable", f"cannot {_READ}: {why}") from None
        raise local.storage_error(_READ, error) from error


def read_or_none(uri: str) -> bytes | None:
    """Return an object's bytes, None if there is no such object (in one request)."""
    try:
        return read_bytes(uri)
    except StorageError as error:
        if is_absent(error):
            return None
        raise


def is_absent(error: StorageError) -> bool:
    """Say whether the error means that there is no such object."""
    return isinstance(error.__cause__, FileNotFoundError) or s3.is_absent(error)


def write_bytes(uri: str, data: bytes) -> None:
    """Write an object whole, replacing what was there.

    Raises:
        StorageError: the place cannot be reached, may not be written, or is full.
    """
    place = normal(uri)
    if is_s3(place):
        s3.write(place, data)
        return
    try:
        temporary = local.temporary(Path(place), data)
        try:
            temporary.replace(place)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise local.storage_error("write an object", error) from error


def create(uri: str, data: bytes) -> bool:
    """Write an object only if there is none of that name; say whether this call did.

    Of two callers at once exactly one gets True (a hard link locally,
    ``If-None-Match: *`` on S3).

    Raises:
        StorageError: as ``write_bytes``.
    """
    place = normal(uri)
    if is_s3(place):
        return s3.create(place, data)
    try:
        temporary = local.temporary(Path(place), data)
        try:
            os.link(temporary, place)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise local.storage_error("create an object", error) from error
    return True


def check_writable(uri: str) -> None:
    """See that a local place can be written, without writing; S3 shows it by writing only.

    Raises:
        StorageError: it cannot.
    """
    place = normal(uri)
    if is_s3(place):
        return
    local.check_writable(place, uri)


def exists(uri: str) -> bool:
    """Say whether there is an object, or a folder with something in it."""
    place = normal(uri)
    return s3.exists(place) if is_s3(place) else Path(place).exists()


def delete(uri: str) -> None:
    """Delete an object, or everything below a prefix; nothing there is fine."""
    place = normal(uri)
    if is_s3(place):
        s3.delete(place)
        return
    try:
        path = Path(place)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise local.storage_error("delete an object", error) from error


def list_objects(uri: str, *, hidden: bool = False) -> pa.Table:
    """List all objects at or below a place, sorted by URI.

    Names with a part that is passed over (see ``bae.local``) are skipped below the place, unless
    ``hidden``. The local ``etag`` is made of modification time (ns) and size.

    Returns:
        A table of ``LISTING``.

    Raises:
        StorageError: the place is missing, cannot be reached or may not be listed.
    """
    place = normal(uri)
    rows = s3.list_keys(place, hidden) if is_s3(place) else local.listed(Path(place), hidden)
    batches = []
    while some := list(itertools.islice(rows, _CHUNK)):
        columns = [pa.array(column) for column in zip(*some, strict=True)]
        batches.append(pa.record_batch(columns, schema=LISTING))
    return pa.Table.from_batches(batches, LISTING).sort_by("object_uri")


def some(uri: str, count: int) -> list[str]:
    """Return the URIs of a few objects at or below a place, without listing all of it.

    Raises:
        StorageError: as ``list_objects``.
    """
    place = normal(uri)
    rows = s3.list_keys(place) if is_s3(place) else local.listed(Path(place), False)
    return [name for name, _, _ in itertools.islice(rows, count)]


def written_at(uri: str) -> datetime:
    """Return when an object was written, by the storage's own clock."""
    filesystem, path = pyarrow_filesystem(uri)
    [info] = filesystem.get_file_info([path])
    when: datetime = info.mtime
    return when


def keep_private(uri: str) -> None:
    """Take a local folder's files and folders from all but owner and group; S3 has its policies."""
    if not is_s3(uri):
        local.keep_private(normal(uri))


def last_written(uri: str) -> dict[str, datetime]:
    """Return when each folder directly below a place last got an object, by the folder's name.

    The storage's own clock; empty where there is no such place.
    """
    filesystem, path = pyarrow_filesystem(uri)
    selector = pyarrow.fs.FileSelector(path, allow_not_found=True, recursive=True)
    written: dict[str, datetime] = {}
    for info in filesystem.get_file_info(selector):
        folder, _, below = info.path[len(path) + 1 :].partition("/")
        if info.is_file and below:
            written[folder] = max(written.get(folder, info.mtime), info.mtime)
    return written


def table_options(uri: str) -> dict[str, str] | None:
    """Return deltalake's storage options for a place, None where local."""
    return s3.delta_options() if is_s3(uri) else None


def _read_local(place: str, start: int, stop: int | None) -> bytes:
    """Read a part of a file, never more than it has now: room is made for what is asked."""
    # a pipe put where the file was would let a plain open wait for ever
    fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, "no file")
        file.seek(start)
        return file.read(max(0, min(about.st_size, stop or about.st_size) - start))


def _not_gone(place: str) -> str | None:
    """Say why a file that is not found is there all the same, None if it is gone."""
    if os.path.islink(place):  # noqa: PTH114 - a path of the listing, maybe no valid Path
        return "it is a link that leads nowhere"
    escaped = re.search(r"\\x[89a-f][0-9a-f]", place)
    return "its name is not UTF-8; rename it" if escaped else None

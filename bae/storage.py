"""Places named by URI: a local folder or S3. Bytes in, bytes out, listings as tables.

``/path`` and ``file:///path`` are local, ``s3://bucket/prefix`` is any S3 server;
endpoint, region and credentials come from the usual ``AWS_*`` environment. Local
writes go to a temporary name first and are renamed, S3 puts are atomic by
themselves: a reader sees a whole object or none. Every failure is a
``StorageError`` with one sentence that names the place asked for, never an object
inside an archive, since object names may hold a person's name.
"""

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from bae import s3
from bae.errors import StorageError

LISTING = pa.schema(
    [
        pa.field("object_uri", pa.string(), False),
        pa.field("etag", pa.string(), False),
        pa.field("size_bytes", pa.int64(), False),
    ]
)
"""What a listing looks like, sorted by ``object_uri``."""

PRIVATE = "restricted"
"""Folders of this name, and all below, are for their owner and group only on local disk."""

_CHUNK = 65536


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
    return os.path.normpath(Path(uri).expanduser().absolute())


def join(uri: str, *parts: str) -> str:
    """Return the place below ``uri``; parts are names, never absolute."""
    return "/".join([uri.rstrip("/") or "", *(part.strip("/") for part in parts)])


def pyarrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the pyarrow filesystem of a place, and the place's path in it (no scheme)."""
    place = normal(uri)
    if is_s3(place):
        return s3.pyarrow_filesystem(), place.removeprefix("s3://")
    return pyarrow.fs.LocalFileSystem(), place


def read_bytes(uri: str) -> bytes:
    """Return an object's bytes.

    Raises:
        StorageError: it is missing, or the place cannot be reached or may not be read.
    """
    place = normal(uri)
    if is_s3(place):
        return s3.read(uri)
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise _storage_error("read an object", error) from error


def read_or_none(uri: str) -> bytes | None:
    """Return an object's bytes, None if there is no such object (in one request)."""
    try:
        return read_bytes(uri)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError) or s3.is_absent(error):
            return None
        raise


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
        temporary = _temporary(Path(place), data)
        try:
            temporary.replace(place)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _storage_error("write an object", error) from error


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
        temporary = _temporary(Path(place), data)
        try:
            os.link(temporary, place)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _storage_error("create an object", error) from error
    return True


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
        raise _storage_error("delete an object", error) from error


def list_objects(uri: str, *, hidden: bool = False) -> pa.Table:
    """List all objects at or below a place, sorted by URI.

    Names with a part that starts with ``_`` or ``.`` are skipped below the place
    (tables, logs, half-written files live there), unless ``hidden``. The local
    ``etag`` is made of modification time (ns) and size.

    Returns:
        A table of ``LISTING``.

    Raises:
        StorageError: the place is missing, cannot be reached or may not be listed.
    """
    place = normal(uri)
    rows = s3.list_keys(place, hidden) if is_s3(place) else _list_local(Path(place), hidden)
    batches = []
    while some := list(itertools.islice(rows, _CHUNK)):
        columns = [pa.array(column) for column in zip(*some, strict=True)]
        batches.append(pa.record_batch(columns, schema=LISTING))
    return pa.Table.from_batches(batches, LISTING).sort_by("object_uri")


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


def _temporary(target: Path, data: bytes) -> Path:
    """Write bytes beside a target, under a name that listings skip."""
    private = PRIVATE in target.parts[:-1]
    _make_folder(target.parent)
    name = target.parent / f".tmp-{secrets.token_hex(8)}"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            if private:
                os.fchmod(handle, 0o640)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        name.unlink(missing_ok=True)
        raise
    return name


def _make_folder(path: Path) -> None:
    """Make a folder and those above it; at and below ``PRIVATE`` for owner and group only."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    if PRIVATE in path.parts:
        path.chmod(path.stat().st_mode & stat.S_ISGID | 0o750)  # whatever the umask


def keep_private(uri: str) -> None:
    """Take a local folder's files and folders from all but owner and group; S3 has its policies.

    Other libraries write by the process's umask: files become 0640, folders at least 0750. The
    folder itself stays as it is, since somebody may have given it on purpose to more or fewer.
    """
    place = normal(uri)
    if is_s3(place):
        return
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder, name)
            # gone since, or another member's, who has done the same
            with contextlib.suppress(FileNotFoundError, PermissionError):
                found = path.lstat().st_mode
                if stat.S_ISLNK(found):
                    continue
                wanted = found & 0o7770 | 0o750 if stat.S_ISDIR(found) else 0o640
                if stat.S_IMODE(found) != wanted & 0o7777:
                    path.chmod(wanted & 0o7777)


def _list_local(root: Path, hidden: bool) -> Iterator[tuple[str, str, int]]:
    """Yield (path, etag, size) of every file below a folder, or of the file itself.

    Each real folder is listed once, under its own name where it has one below the root: links
    come after everything else. A link to a folder that holds the root leads nowhere new.
    """
    try:
        if root.is_file():
            yield _entry(str(root), root.stat())
            return
        if not root.is_dir():
            raise StorageError(f"there is no folder {root}; check the path")
        folders, links, seen = [str(root)], list[str](), _above(root)
        while folders or links:
            if not folders:
                links.sort(reverse=True)
                folders = [links.pop()]
            folder = folders.pop()
            found = os.stat(folder)
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not hidden and entry.name.startswith(("_", ".")):
                        continue
                    if entry.is_symlink() and not os.path.exists(entry.path):
                        continue  # broken, or a link that ends at itself
                    if entry.is_dir():
                        (links if entry.is_symlink() else folders).append(entry.path)
                    elif entry.is_file():
                        yield _entry(entry.path, entry.stat())
    except OSError as error:
        raise _storage_error("list the folder", error) from error


def _above(root: Path) -> set[tuple[int, int]]:
    """Return device and inode of every folder that holds this one."""
    found = [parent.stat() for parent in root.resolve().parents]
    return {(one.st_dev, one.st_ino) for one in found}


def _entry(path: str, found: os.stat_result) -> tuple[str, str, int]:
    # A file name that is not UTF-8 cannot stand in a table; escaped it is listed and then
    # refused as unreadable, which is better than being dropped in silence.
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return name, f"{found.st_mtime_ns:x}-{found.st_size:x}", found.st_size


def _storage_error(doing: str, error: OSError) -> StorageError:
    """Turn an OSError into a sentence without the path, which may name a person."""
    words: dict[int | None, str] = {
        errno.ENOENT: "it does not exist",
        errno.ENOTDIR: "a part of the path is not a folder",
        errno.EISDIR: "it is a folder",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.ENOSPC: "the disk is full; free some space and run again",
        errno.EDQUOT: "the disk quota is used up; free some space and run again",
        errno.EROFS: "the file system is read-only",
    }
    return StorageError(f"cannot {doing}: {words.get(error.errno, os.strerror(error.errno or 0))}")

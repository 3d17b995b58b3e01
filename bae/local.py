"""What ``storage`` does on a local disk: whole files, private folders, listings, failures.

Which names are passed over is said here for all: folders, S3, inventories and zip files.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from bae.errors import StorageError

PRIVATE = "restricted"
"""Folders of this name, and all below, are for their owner and group only on local disk."""

LITTER = (
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "@eadir",
)
"""What file managers, systems and network disks leave in folders, in small letters."""

PASSED_OVER = r"(?i)/([_.][^/]*|{})(/|$)".format(
    "|".join(re.sub(r"([.$+])", r"\\\1", name) for name in LITTER)
)
"""``passed_over`` as a regular expression of Arrow's, for paths that begin with a slash."""


def passed_over(name: str) -> bool:
    """Say whether one part of a path hides what is there.

    Names that start with ``_`` or ``.`` do (tables, logs and half-written files lie there, and
    ``__MACOSX`` and ``.DS_Store``), and litter does. A dot or two alone name a folder.
    """
    return (name.startswith(("_", ".")) and name not in (".", "..")) or name.lower() in LITTER


def temporary(target: Path, data: bytes) -> Path:
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


def keep_private(place: str) -> None:
    """Take a folder's files and folders from all but owner and group.

    Other libraries write by the process's umask: files become 0640, folders at least 0750. The
    folder itself stays as it is, since somebody may have given it on purpose to more or fewer.
    """
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


def listed(root: Path, hidden: bool) -> Iterator[tuple[str, str, int]]:
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
            try:
                found = Path(folder).stat()
                entries = os.scandir(folder)
            except FileNotFoundError:
                if folder == str(root):
                    raise
                continue  # deleted since its parent was read
            with entries:
                if (found.st_dev, found.st_ino) in seen:
                    continue
                seen.add((found.st_dev, found.st_ino))
                for entry in entries:
                    if not hidden and passed_over(entry.name):
                        continue
                    if entry.is_symlink() and not Path(entry.path).exists():
                        continue  # broken, or a link that ends at itself
                    with contextlib.suppress(FileNotFoundError):  # deleted just now
                        if entry.is_dir():
                            (links if entry.is_symlink() else folders).append(entry.path)
                        elif entry.is_file():
                            yield _entry(entry.path, entry.stat())
    except OSError as error:
        raise storage_error("list the folder", error) from error


def _above(root: Path) -> set[tuple[int, int]]:
    """Return device and inode of every folder that holds this one."""
    found = [parent.stat() for parent in root.resolve().parents]
    return {(one.st_dev, one.st_ino) for one in found}


def _entry(path: str, found: os.stat_result) -> tuple[str, str, int]:
    # A file name that is not UTF-8 cannot stand in a table; escaped it is listed and then
    # refused as unreadable, which is better than being dropped in silence.
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return name, f"{found.st_mtime_ns:x}-{found.st_size:x}", found.st_size


def storage_error(doing: str, error: OSError) -> StorageError:
    """Turn an OSError into a sentence without the path, which may name a person."""
    words: dict[int | None, str] = {
        errno.ENOENT: "it does not exist",
        errno.ENOTDIR: "a part of the path is not a folder",
        errno.EISDIR: "it is a folder, or no file at all",
        errno.ELOOP: "it is a link that leads in circles",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.ENOSPC: "the disk is full; free some space and run again",
        errno.EDQUOT: "the disk quota is used up; free some space and run again",
        errno.EROFS: "the file system is read-only",
    }
    return StorageError(f"cannot {doing}: {words.get(error.errno, os.strerror(error.errno or 0))}")


def check_writable(place: str, uri: str) -> None:
    """See that a place can be written, without writing.

    Args:
        uri: the place as it was asked for, for the message.

    Raises:
        StorageError: it cannot.
    """
    path = Path(place)
    try:
        while not path.exists():
            path = path.parent
        if path != Path(place) and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise storage_error(f"write at {uri}", error) from error

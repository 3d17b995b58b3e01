"""One scan's object again, as it was when it was scored; for pictures and references."""

from __future__ import annotations

from bae import archive, storage
from bae.errors import ScanError, StorageError


def content(object_uri: str, source_uri: str, etag: str) -> bytes | None:
    """Return the bytes of an object, or of a member of a zip file.

    Args:
        object_uri, source_uri, etag: as in ``restricted/scans``.

    Returns:
        None where it is gone, was replaced since, or cannot be reached.
    """
    try:
        listed = storage.list_objects(source_uri)
        if listed["etag"].to_pylist() != [etag]:
            return None
        data = storage.read_bytes(source_uri)
    except StorageError:
        return None
    wanted = object_uri.removeprefix(source_uri).removeprefix("!/")
    for member, found in archive.members(data):
        if member == wanted:
            return None if isinstance(found, ScanError) else found
    return None

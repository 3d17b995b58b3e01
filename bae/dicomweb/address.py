"""Where a DICOMweb server is and who asks it: from an address and from the environment."""

import hashlib
import os
import re
from typing import Any
from urllib.parse import urlsplit

from bae.errors import StorageError, UseError

_SCHEMES = {"dicomweb": "https", "dicomweb+http": "http", "https": "https", "http": "http"}
TOKEN, USER, PASSWORD = ("BAE_DICOMWEB_TOKEN", "BAE_DICOMWEB_USER", "BAE_DICOMWEB_PASSWORD")
VARIABLES = f"{TOKEN}, or {USER} and {PASSWORD}"
CONNECTIONS = 4
"""Studies fetched at a time, unless another number is asked for."""


def is_one(place: str) -> bool:
    """Say whether a place is a DICOMweb server, ``dicomweb://...`` or ``dicomweb+http://...``."""
    return place.startswith(("dicomweb://", "dicomweb+http://"))


def url(place: str) -> str:
    """Return the root that requests go to.

    ``dicomweb://host/path`` is ``https://host/path``; without encryption it must be said:
    ``dicomweb+http://host/path``. Both of the web's own schemes are taken as well.

    Raises:
        StorageError: it is no such address, or holds what does not belong there. It is not
            quoted, for then it may hold a password.
    """
    parts = urlsplit(place)
    if parts.username or parts.password or "@" in parts.netloc:
        raise StorageError(f"credentials do not belong in an address; set {VARIABLES}")
    sound = re.fullmatch(r"[\w.-]+(:\d{1,5})?", parts.netloc) and not parts.query
    if parts.scheme not in _SCHEMES or not sound or parts.fragment:
        raise StorageError(
            "a DICOMweb server is named dicomweb://host/path (https) or dicomweb+http://host/path"
        )
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}"


def mark(place: str) -> str:
    """Return eight hex digits that stand for a server in names of objects."""
    return hashlib.sha256(url(place).encode()).hexdigest()[:8]


def credentials() -> Any:
    """Return who asks, for requests; None leaves it to ``~/.netrc``.

    Raises:
        UseError: half of a pair, or two ways at once.
    """
    token, user, password = (os.environ.get(name, "") for name in (TOKEN, USER, PASSWORD))
    if bool(user) != bool(password):
        raise UseError(f"{USER} and {PASSWORD} belong together; one of them is not set")
    if token and user:
        raise UseError(f"set {TOKEN} or {USER}, not both")
    if token:
        return _Bearer(token)
    # bytes: requests would take them for Latin-1
    return (user.encode(), password.encode()) if user else None


class _Bearer:
    """A token in the header that proxies and servers look for it in (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token.strip()

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

"""What this machine must give before Ray starts here: checked first, before anything is written."""

import os
import re
import secrets
import tempfile
from pathlib import Path

from bae.errors import UseError

ADDRESS = "RAY_ADDRESS"
_SOCKET_BYTES = 107
"""Most bytes of a socket's path (``man 7 unix``)."""
_BELOW = "/ray/session_2026-11-24_20-38-59_123456_4194304/sockets/plasma_store"
"""The longest socket that Ray puts below its folder."""
_FORM = re.compile(r"local|auto|(ray://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):\d+")


def address() -> str | None:
    """Return the cluster that ``RAY_ADDRESS`` names; None without it, or where it is empty.

    Raises:
        UseError: it is no address.
    """
    told = os.environ.get(ADDRESS, "").strip()
    if told and not _FORM.fullmatch(told):
        raise UseError(f"{ADDRESS} is {told!r}; expected host:port, ray://host:port, auto or local")
    return told or None


def check() -> None:
    """See that Ray can be had: a cluster's address, or folders for one on this machine.

    Raises:
        UseError: it cannot; one sentence says what to set.
    """
    if address() is None:
        folder()


def folder() -> str | None:
    """Return where a Ray on this machine keeps its sockets and logs; None: where it likes.

    A ``TMPDIR`` that is too long for sockets, or not ASCII, is not used; a ``RAY_TMPDIR`` is what
    somebody wanted, so it is refused.

    Raises:
        UseError: no folder will do.
    """
    asked = os.environ.get("RAY_TMPDIR")
    most = _SOCKET_BYTES - len(_BELOW)
    if asked:
        if len(os.fsencode(asked)) > most:
            raise UseError(
                f"RAY_TMPDIR is too long for the sockets that Ray puts there: "
                f"{len(os.fsencode(asked))} bytes, at most {most}; use a shorter one such as /tmp"
            )
        if not asked.isascii():
            raise UseError("RAY_TMPDIR has letters beyond ASCII; use another folder such as /tmp")
        if not _writable(Path(asked)):
            raise UseError("RAY_TMPDIR cannot be written; use another folder such as /tmp")
        return None
    usual = os.environ.get("TMPDIR", "/tmp")
    if len(usual) <= most and usual.isascii() and _writable(Path(usual)):
        return None
    for other in ("/tmp", "/var/tmp", "/dev/shm"):
        if _writable(Path(other)):
            return f"{other}/ray"
    raise UseError(
        f"Ray needs a folder for its sockets that can be written and has at most {most} bytes in "
        f"its name; TMPDIR and /tmp will not do: set RAY_TMPDIR"
    )


def shared_memory() -> bool:
    """Say whether ``/dev/shm`` can be written; a Ray on this machine takes a disk where not."""
    return _writable(Path("/dev/shm"))


def place() -> Path:
    """Return the folder below which a Ray on this machine keeps sockets, logs and spilled scans."""
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(folder() or usual)


def token() -> str | None:
    """Return a token for a Ray of our own, where Ray could not keep its own in the home folder."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return None
    kept = Path(os.environ.get("HOME") or "/") / ".ray" / "auth_token"
    if kept.is_file() and os.access(kept, os.R_OK):
        return None
    return None if _writable(kept.parent) else secrets.token_hex(32)


def _writable(path: Path) -> bool:
    """Say whether a folder can be written, or be made and then written."""
    try:
        while not path.exists() and path != path.parent:
            path = path.parent
        if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
            return False
        # the only sure way: /proc, for one, says yes and means no
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False

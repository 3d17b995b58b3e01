"""Pseudonyms, and what may leave the restricted area.

Scan and patient become HMAC-SHA-256 (RFC 2104) of their identifiers under a secret
key: stable between runs, not reversible without the key, and not linkable between two
sites with different keys. The key comes from ``BAE_PSEUDONYM_KEY`` (hex, or text of
16 bytes and more) or a file named by ``BAE_PSEUDONYM_KEY_FILE``. With neither, a demo
key is made once and kept with the tables, readable by its owner only; whoever holds that
folder can test guesses, so real data wants its own.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from dataclasses import replace
from pathlib import Path

from bae import storage
from bae.errors import UseError
from bae.scan import Identity, Scan

log = logging.getLogger(__name__)

KEY_VARIABLE, KEY_FILE_VARIABLE = "BAE_PSEUDONYM_KEY", "BAE_PSEUDONYM_KEY_FILE"
_HEX_DIGITS = 32
_SHORTEST_KEY = 16


def load_key(demo_key_uri: str) -> bytes:
    """Return the key of all pseudonyms.

    Args:
        demo_key_uri: where the demo key is kept, or made, where no other is given.

    Raises:
        UseError: the key given is too short, or its file cannot be read.
        StorageError: the demo key can neither be read nor written.
    """
    if given := os.environ.get(KEY_VARIABLE):
        return _checked(given.strip().encode(), KEY_VARIABLE)
    if file := os.environ.get(KEY_FILE_VARIABLE):
        try:
            return _checked(Path(file).read_bytes().strip(), KEY_FILE_VARIABLE)
        except OSError as error:
            raise UseError(f"{KEY_FILE_VARIABLE}: the key file cannot be read") from error
    return _demo_key(storage.normal(demo_key_uri))


def scan_id(key: bytes, identity: Identity) -> str:
    """Return the pseudonym of a scan, 32 hex digits, from its SOP Instance UID or digest."""
    return _pseudonym(key, "scan", identity.instance)


def patient_key(key: bytes, identity: Identity) -> str:
    """Return the pseudonym of a patient, 32 hex digits.

    Without a patient identifier all scans of one study are taken to be one patient;
    without a study the scan stands alone.
    """
    if identity.patient:
        return _pseudonym(key, "patient", identity.patient)
    if identity.study:
        return _pseudonym(key, "patient of study", identity.study)
    return _pseudonym(key, "patient of scan", identity.instance)


def without_identity(scan: Scan) -> Scan:
    """Return the scan with nothing left in it that leads back to a person."""
    return replace(scan, identity=Identity(patient="", study="", instance=""))


def _pseudonym(key: bytes, domain: str, identifier: str) -> str:
    # the domain keeps a patient id from hashing like a study UID of the same text
    message = f"bae {domain}\0{identifier}".encode("utf-8", "backslashreplace")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:_HEX_DIGITS]


def _checked(text: bytes, source: str) -> bytes:
    """Return key bytes from hex or plain text."""
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = text
    if len(key) < _SHORTEST_KEY:
        raise UseError(
            f"{source}: a key of {len(key)} bytes is too short; give at least {_SHORTEST_KEY} "
            "bytes, for example 64 hex digits"
        )
    return key


def _demo_key(uri: str) -> bytes:
    """Read the demo key of these tables, or make it; of two makers the first wins."""
    if not storage.exists(uri):
        made = storage.create(uri, secrets.token_hex(32).encode())
        if made:
            log.warning(
                "made a demo key for pseudonyms in the tables' restricted folder; "
                "set %s for real data",
                KEY_VARIABLE,
            )
    if not storage.is_s3(uri):
        Path(uri).chmod(0o600)
    return _checked(storage.read_bytes(uri), "the tables' demo key")

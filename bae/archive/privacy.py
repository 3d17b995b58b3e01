"""Pseudonyms, and what may leave the restricted area.

Scan and patient become HMAC-SHA-256 (RFC 2104) of their identifiers under a secret
key: stable between runs, not reversible without the key, and not linkable between two
sites with different keys. The key comes from ``BAE_PSEUDONYM_KEY`` (hex, or text of
16 bytes and more) or a file named by ``BAE_PSEUDONYM_KEY_FILE``, on every machine that decodes.
Set to ``demo`` it asks for a key that everybody knows, which is right for simulated people only.
"""

import hashlib
import hmac
import logging
import os
import socket
from dataclasses import replace
from pathlib import Path

from bae.errors import UseError
from bae.scan import Identity, Scan

log = logging.getLogger(__name__)

KEY_VARIABLE, KEY_FILE_VARIABLE = "BAE_PSEUDONYM_KEY", "BAE_PSEUDONYM_KEY_FILE"
DEMO = "demo"
_DEMO_KEY = b"every demo has the same people"
_HEX_DIGITS = 32
_SHORTEST_KEY = 16


def load_key() -> bytes:
    """Return the key of all pseudonyms that this machine was given.

    Raises:
        UseError: there is none, it is too short, or its file cannot be read.
    """
    if given := os.environ.get(KEY_VARIABLE):
        if given == DEMO:
            log.warning("pseudonyms are made with the demo key, which everybody knows")
            return _DEMO_KEY
        return checked(given.strip().encode(), KEY_VARIABLE)
    if file := os.environ.get(KEY_FILE_VARIABLE):
        try:
            return checked(Path(file).read_bytes().strip(), KEY_FILE_VARIABLE)
        except OSError as error:
            raise UseError(f"{KEY_FILE_VARIABLE}: the key file cannot be read") from error
    raise UseError(
        f"no pseudonym key on {socket.gethostname()}: set {KEY_VARIABLE} (64 hex digits) or "
        f"{KEY_FILE_VARIABLE} there; {KEY_VARIABLE}={DEMO} for simulated people"
    )


def is_demo(key: bytes) -> bool:
    """Say whether it is the key that everybody knows."""
    return key == _DEMO_KEY


def fingerprint(key: bytes) -> str:
    """Return what tells keys apart and gives none away, 32 hex digits."""
    return _pseudonym(key, "fingerprint", "")


def scan_id(key: bytes, identity: Identity) -> str:
    """Return the pseudonym of a scan, 32 hex digits, from its SOP Instance UID or digest."""
    return _pseudonym(key, "scan", identity.instance)


def patient_key(key: bytes, identity: Identity, *, issuers: bool = False) -> str:
    """Return the pseudonym of a patient, 32 hex digits.

    Without a patient identifier all scans of one study are taken to be one patient;
    without a study the scan stands alone. Many archives name the issuer of a Patient ID on some
    objects only, so it tells nobody apart: sites whose IDs may collide need tables of their own.

    Args:
        issuers: whether the issuer counts all the same, see ``tables.settings``.
    """
    if identity.patient:
        told = identity.patient if issuers else bare_id(identity)  # empty where only an issuer is
        return _pseudonym(key, "patient", told)
    if identity.study:
        return _pseudonym(key, "patient of study", identity.study)
    return _pseudonym(key, "patient of scan", identity.instance)


def bare_id(identity: Identity) -> str:
    """Return the Patient ID without its issuer; empty where it is not known."""
    return identity.patient.rpartition("\0")[2]


def person_key(key: bytes, patient_id: str) -> str:
    """Return what a labels file knows a patient by, 32 hex digits; empty where there is no ID."""
    return _pseudonym(key, "patient", patient_id) if patient_id else ""


def study_key(key: bytes, study_uid: str) -> str:
    """Return the pseudonym of a study, 32 hex digits; empty where it is not known."""
    return _pseudonym(key, "study", study_uid) if study_uid else ""


def without_identity(scan: Scan) -> Scan:
    """Return the scan with nothing left in it that leads back to a person."""
    return replace(scan, identity=Identity(patient="", study="", instance=""))


def _pseudonym(key: bytes, domain: str, identifier: str) -> str:
    # the domain keeps a patient id from hashing like a study UID of the same text
    message = f"bae {domain}\0{identifier}".encode("utf-8", "backslashreplace")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:_HEX_DIGITS]


def checked(text: bytes, source: str) -> bytes:
    """Return key bytes from hex or plain text.

    Args:
        source: where the text comes from, for the message.

    Raises:
        UseError: it is too short.
    """
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

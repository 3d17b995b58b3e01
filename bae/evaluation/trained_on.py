"""Which patients a model was trained on, without their keys, and whether a test meets them.

::

    <model>/localizer_patients.parquet    split, digest; which weights and whose keys, as metadata
    <model>/regressor_patients.parquet

Two networks of one model may come from different tables, so each has its own. A patient is eight
bytes of a hash of the pseudonym: who has the tables finds the patients that both have, nobody
else anyone. Tables under another key have other pseudonyms and cannot be compared.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from bae import storage
from bae.errors import UseError
from bae.method import model
from bae.tables.settings import Settings

SCHEMA = pa.schema([pa.field("split", pa.string(), False), pa.field("digest", pa.binary(8), False)])
_DIGEST_BYTES = 8
_KEYS, _WEIGHTS = b"bae.keys", b"bae.weights_sha256"


def digests(patient_keys: Sequence[str]) -> set[bytes]:
    """Return one digest for each patient."""
    return {
        hashlib.sha256(f"bae trained on {key}".encode()).digest()[:_DIGEST_BYTES]
        for key in patient_keys
    }


def save(
    model_uri: str, name: str, card: model.Card, scans: Mapping[str, pa.Table], settings: Settings
) -> None:
    """Write down whom a network was trained and validated on, sorted so that order tells nothing.

    Args:
        name: ``localizer`` or ``regressor``; the card has its weights.
        scans: split to rows of the scans table.
        settings: of the tables: whose keys the pseudonyms are made with.
    """
    rows = [
        {"split": split, "digest": digest}
        for split, table in sorted(scans.items())
        for digest in sorted(digests(table["patient_key"].to_pylist()))
    ]
    about = {_KEYS: _keys(settings), _WEIGHTS: card.parts[name].sha256.encode()}
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(about))
    pq.write_table(table, sink, compression="zstd")
    storage.write_bytes(_uri(model_uri, name), sink.getvalue())


def copy(source_uri: str, target_uri: str, name: str) -> None:
    """Copy a network's record to the model folder that its weights are copied to."""
    storage.write_bytes(_uri(target_uri, name), storage.read_bytes(_uri(source_uri, name)))


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Why it cannot be said whom a network was trained on."""

    model_id: str
    name: str
    why: str

    def text(self) -> str:
        """Return it as a sentence for people."""
        return (
            f"whether test patients were among those that the {self.name} of model {self.model_id} "
            f"was trained on cannot be checked: {self.why}"
        )


def check(
    model_uris: Sequence[str], cards: Sequence[model.Card], test: pa.Table, settings: Settings
) -> list[Unknown]:
    """Refuse test scans of patients whom a model was trained or validated on.

    Returns:
        The networks of which it cannot be said.

    Raises:
        UseError: there are such scans; it says how many.
    """
    unknown: list[Unknown] = []
    by_digest: dict[str, bytes] = {
        key: next(iter(digests([key]))) for key in set(test["patient_key"].to_pylist())
    }
    met: list[str] = []
    for uri, card in zip(model_uris, cards, strict=True):
        seen: set[bytes] = set()
        for name in card.parts:
            found = _read(uri, name, card, settings)
            if isinstance(found, str):
                unknown.append(Unknown(model_id=card.model_id, name=name, why=found))
            else:
                seen |= found
        patients = {key for key, digest in by_digest.items() if digest in seen}
        if patients:
            scans = sum(key in patients for key in test["patient_key"].to_pylist())
            met.append(
                f"{scans} scans of {len(patients)} test patients are of patients that model "
                f"{uri} was trained on"
            )
    if met:
        raise UseError(
            f"{'; '.join(met)}: its errors there would flatter it; evaluate on the tables that it "
            "was trained from, or train it anew on these"
        )
    return unknown


def _read(uri: str, name: str, card: model.Card, settings: Settings) -> set[bytes] | str:
    """Return the digests of one network, or why there are none to compare."""
    data = storage.read_or_none(_uri(uri, name))
    if data is None:
        return "it is of a version of bae that kept no record"
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError):
        return "its record cannot be read"
    about = table.schema.metadata or {}
    if table.schema.names != SCHEMA.names or _KEYS not in about:
        return "its record cannot be read"
    if about.get(_WEIGHTS) != card.parts[name].sha256.encode():
        return "its record is of other weights"
    if about[_KEYS] != _keys(settings):
        return "it was trained under another pseudonym key, so nobody knows who is who"
    return set(table["digest"].to_pylist())


def _keys(settings: Settings) -> bytes:
    """Name the way pseudonyms are made, so that equal names mean equal keys for one patient."""
    text = f"bae trained under {settings.key_fingerprint} {settings.issuers}"
    return hashlib.sha256(text.encode()).hexdigest()[:16].encode()


def _uri(model_uri: str, name: str) -> str:
    return storage.join(model_uri, f"{name}_patients.parquet")

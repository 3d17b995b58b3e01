"""Remove a patient from all tables and all files, old versions included, and prove it.

No key, and no condition that contains one, is written into a table's log. Models trained
on the patient's scans are not touched: their weights hold no key, and what they learnt
of one patient cannot be taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from bae import storage
from bae.errors import RunError, UseError
from bae.tables import contract, delta, runs
from bae.tables.maintain import committed, merged, no_check, vacuum


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What an erasure came to.

    Attributes:
        rows: table to rows removed.
        exports: DICOM objects removed below ``contract.EXPORTS``.
        files_searched: Parquet files and log files searched afterwards for the keys.
        still_in_archive: the patient's objects that the archive still holds; the next
            run would read them again.
    """

    rows: dict[str, int]
    exports: int
    files_searched: int
    still_in_archive: int


def erase(tables_uri: str, patient_key: str, check: Callable[[], None] = no_check) -> Erased:
    """Remove a patient, known by the key in ``cohort/ages``; versions from before cannot be read.

    Raises:
        UseError: no such patient, or a run is unfinished, whose staged rows may hold one.
        RunError: the keys were still found in some file afterwards.
    """
    if runs.unfinished(tables_uri):
        raise UseError("a run is unfinished; finish it first, its staged rows may hold the patient")
    scans = delta.dataset(tables_uri, "restricted/scans").to_table(
        columns=["scan_id", "object_uri", "source_uri"],
        filter=pc.field("patient_key") == patient_key,
    )
    ages = delta.dataset(tables_uri, "cohort/ages").to_table(
        columns=["scan_id"], filter=pc.field("patient_key") == patient_key
    )
    scan_ids = pc.unique(pa.chunked_array(scans["scan_id"].chunks + ages["scan_id"].chunks))
    if not len(scan_ids):
        raise UseError("no table has this patient key; keys are 32 hex digits, see cohort/ages")
    gone = {
        "patient_key": pa.array([patient_key]),
        "scan_id": scan_ids,
        "object_uri": pc.unique(scans["object_uri"]),
    }
    rows = {}
    for name in reversed(contract.SCHEMAS):
        schema = contract.SCHEMAS[name]
        column = next(key for key in gone if key in schema.names)
        rows[name] = _delete(delta.delta(tables_uri, name), column, gone[column], check)
    vacuum(tables_uri, keep_days=0)
    _drop_samples(tables_uri, [patient_key, *scan_ids.to_pylist()])
    exports = _drop_exports(tables_uri, scan_ids.to_pylist())
    searched = _prove(tables_uri, [patient_key, *scan_ids.to_pylist()])
    left = sum(storage.exists(uri) for uri in pc.unique(scans["source_uri"]).to_pylist())
    return Erased(rows=rows, exports=exports, files_searched=searched, still_in_archive=left)


def _delete(
    table: DeltaTable | None, column: str, values: pa.Array, check: Callable[[], None]
) -> int:
    if table is None:
        return 0
    check()
    matched = merged(table, pa.table({column: values}), [column])
    return int(committed(matched.when_matched_delete().execute)["num_target_rows_deleted"])


def _drop_samples(tables_uri: str, keys: list[str]) -> None:
    """Delete the training samples that hold one of the keys, by whole sets: they are a cache."""
    folder = storage.join(storage.normal(tables_uri), contract.SAMPLES)
    for uri in _below(folder):
        data = storage.read_or_none(uri)  # None: its set was deleted a moment ago
        if data is None or not uri.endswith(".parquet"):
            continue
        if _holds(pq.ParquetFile(pa.BufferReader(data)), keys):
            name = uri[len(folder) + 1 :].partition("/")[0]
            storage.delete(storage.join(folder, name))


def _drop_exports(tables_uri: str, scan_ids: list[str]) -> int:
    """Delete the DICOM exports of some scans, which are named after them; return how many."""
    folder = storage.join(storage.normal(tables_uri), contract.EXPORTS)
    mine = [uri for uri in _below(folder) if any(scan_id in uri for scan_id in scan_ids)]
    for uri in mine:
        storage.delete(uri)
    return len(mine)


def _prove(tables_uri: str, keys: list[str]) -> int:
    """Search every file below the tables for keys; return how many were searched.

    Parquet files are searched by column, so that compression cannot hide a key.

    Raises:
        RunError: a key was found.
    """
    root = storage.normal(tables_uri)
    uris = [
        uri
        for name in (contract.RESTRICTED, contract.COHORT)
        for uri in _below(storage.join(root, name))
    ]
    for uri in uris:
        data = storage.read_bytes(uri)
        found = any(key.encode() in data or key in uri for key in keys)
        if uri.endswith(".parquet"):
            found = found or _holds(pq.ParquetFile(pa.BufferReader(data)), keys)
        if found:
            raise RunError("a file below the tables still holds the patient; run again")
    return len(uris)


def _below(folder: str) -> list[str]:
    """Return the URIs of all objects below a folder, hidden ones too."""
    if not storage.exists(folder):
        return []
    uris: list[str] = storage.list_objects(folder, hidden=True)["object_uri"].to_pylist()
    return uris


def _holds(file: pq.ParquetFile, keys: list[str]) -> bool:
    """Say whether any text column, nested ones included, holds one of the keys."""
    wanted = "|".join(keys)
    for group in range(file.num_row_groups):
        columns = file.read_row_group(group).columns
        while columns:
            column = columns.pop()
            if pa.types.is_struct(column.type):
                columns += column.flatten()
            elif pa.types.is_map(column.type):
                for chunk in column.chunks:
                    columns += [pa.chunked_array([chunk.keys]), pa.chunked_array([chunk.items])]
            elif pa.types.is_list(column.type):
                columns.append(pc.list_flatten(column))
            elif (
                pa.types.is_string(column.type)
                and pc.any(pc.match_substring_regex(column, wanted)).as_py()
            ):
                return True
    return False

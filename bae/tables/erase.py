"""Remove a patient from all tables and all files, old versions included, and prove it.

No key, and no condition that contains one, is written into a table's log. Models trained
on the patient's scans are not touched: their weights hold no key, and what they learnt
of one patient cannot be taken out.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from bae import storage
from bae.errors import RunError, StorageError, UseError, after_writing
from bae.tables import contract, delta, publish
from bae.tables.maintain import committed, merged, no_check, vacuum


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What an erasure came to.

    Attributes:
        rows: table to rows removed.
        staged: files of unfinished runs removed; their objects are read again when the run
            goes on.
        exports: DICOM objects removed below ``contract.EXPORTS``.
        files_searched: files searched afterwards for the keys.
        still_in_archive: the patient's objects that the archive still holds; the next
            run would read them again. None where the archive is out of reach.
    """

    rows: dict[str, int]
    staged: int
    exports: int
    files_searched: int
    still_in_archive: int | None


def erase(tables_uri: str, patient_key: str, check: Callable[[], None] = no_check) -> Erased:
    """Remove a patient, known by the key in ``cohort/ages``; versions from before cannot be read.

    A run that was killed while publishing is published first; an unfinished one loses the parts
    that hold the patient, and stays unfinished.

    Raises:
        UseError: no such patient; nothing was written.
        RunError: the keys were still found in some file afterwards, or it broke off; the same
            call again goes on.
    """
    require(tables_uri, patient_key)
    with after_writing():
        publish.finish_halves(tables_uri, check)
        tables = {name: delta.delta(tables_uri, name) for name in contract.SCHEMAS}
        mine = _noted(tables_uri, patient_key, _scans(tables, patient_key))
        keys = [patient_key, *mine["scan_id"]]
        gone = {"patient_key": [patient_key]} | mine
        rows = {}
        for name, table in reversed(tables.items()):
            column = next(key for key in gone if key in contract.SCHEMAS[name].names)
            rows[name] = _delete(table, column, pa.array(gone[column], pa.string()), check)
        check()
        staged = _drop(_staged(tables_uri, keys))
        vacuum(tables_uri, keep_days=0)
        _drop_samples(tables_uri, keys)
        exports = _drop_exports(tables_uri, mine["scan_id"])
        storage.delete(storage.join(tables_uri, contract.UNMATCHED_LABELS))  # may name anybody
        note = _note(tables_uri, patient_key)
        searched = _prove(tables_uri, keys, note)
        storage.delete(note)
    return Erased(
        rows=rows,
        staged=staged,
        exports=exports,
        files_searched=searched,
        still_in_archive=_left(mine["source_uri"]),
    )


def require(tables_uri: str, patient_key: str) -> None:
    """See that there is something to erase, before a lease is taken.

    Raises:
        UseError: no table has this patient.
    """
    tables = {name: delta.delta(tables_uri, name) for name in contract.SCHEMAS}
    if (
        not _scans(tables, patient_key)["scan_id"]
        and not storage.exists(_note(tables_uri, patient_key))
        and not _staged(tables_uri, [patient_key])
    ):
        raise UseError("no table has this patient key; keys are 32 hex digits, see cohort/ages")


def _note(tables_uri: str, patient_key: str) -> str:
    """Return where an erasure notes what it removes, for the case that it breaks off."""
    return storage.join(tables_uri, contract.ERASING, f"{patient_key}.json")


def _noted(tables_uri: str, patient_key: str, found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what is found with what a broken erasure noted, and note it.

    Once the rows are gone no table says any more which scans and files are the patient's.
    """
    note = _note(tables_uri, patient_key)
    data = storage.read_or_none(note)
    before = {} if data is None else json.loads(data)
    both = {name: sorted({*some, *before.get(name, [])}) for name, some in found.items()}
    storage.write_bytes(note, json.dumps(both).encode())
    return both


def _scans(tables: dict[str, DeltaTable | None], patient_key: str) -> dict[str, list[str]]:
    """Return the patient's scan_id, object_uri and source_uri in the tables."""
    mine = pc.field("patient_key") == patient_key
    # the tables as they are: a run that is half published counts, too
    scans, ages = (
        delta.dataset_of(name, tables[name]).to_table(columns=columns, filter=mine)
        for name, columns in (
            ("restricted/scans", ["scan_id", "object_uri", "source_uri"]),
            ("cohort/ages", ["scan_id"]),
        )
    )
    found = {name: scans[name].to_pylist() for name in scans.schema.names}
    return found | {"scan_id": [*found["scan_id"], *ages["scan_id"].to_pylist()]}


def _staged(tables_uri: str, keys: list[str]) -> list[str]:
    """Return the staged files that hold one of the keys, whether or not a run owns them."""
    return [
        uri
        for uri in _below(storage.join(storage.normal(tables_uri), contract.STAGING))
        if uri.endswith(".parquet") and _holds(storage.read_bytes(uri), keys)
    ]


def _drop(uris: list[str]) -> int:
    for uri in uris:
        storage.delete(uri)
    return len(uris)


def _left(source_uris: list[str]) -> int | None:
    try:
        return sum(storage.exists(uri) for uri in source_uris)
    except StorageError:
        return None


def _delete(
    table: DeltaTable | None, column: str, values: pa.Array, check: Callable[[], None]
) -> int:
    if table is None or not len(values):
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
        if _holds(data, keys):
            name = uri[len(folder) + 1 :].partition("/")[0]
            storage.delete(storage.join(folder, name))


def _drop_exports(tables_uri: str, scan_ids: list[str]) -> int:
    """Delete the DICOM exports of some scans, which are named after them; return how many."""
    folder = storage.join(storage.normal(tables_uri), contract.EXPORTS)
    return _drop([uri for uri in _below(folder) if any(key in uri for key in scan_ids)])


def _prove(tables_uri: str, keys: list[str], note: str) -> int:
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
        if uri != storage.normal(note)
    ]
    for uri in uris:
        data = storage.read_bytes(uri)
        found = any(key.encode() in data or key in uri for key in keys)
        if found or (uri.endswith(".parquet") and _holds(data, keys)):
            raise RunError(
                f"{uri if uri.startswith(root + '/cohort') else 'a file below restricted/'} still "
                "holds the patient; it is none that an erasure knows: look at it, remove it, then "
                "run again"
            )
    return len(uris)


def _below(folder: str) -> list[str]:
    """Return the URIs of all objects below a folder, hidden ones too."""
    if not storage.exists(folder):
        return []
    uris: list[str] = storage.list_objects(folder, hidden=True)["object_uri"].to_pylist()
    return uris


def _holds(data: bytes, keys: list[str]) -> bool:
    """Say whether any text of a Parquet file, nested or not, holds one of the keys."""
    file = pq.ParquetFile(pa.BufferReader(data))
    wanted = "|".join(keys)
    return any(
        pc.any(pc.match_substring_regex(column, wanted)).as_py()
        for group in range(file.num_row_groups)
        for whole in file.read_row_group(group).columns
        for column in _texts(whole)
    )


def _texts(column: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """Yield every column of text or bytes inside a column.

    Raises:
        RunError: a type that may hold text and that this search does not know.
    """
    kind = column.type
    if pa.types.is_struct(kind):
        for field in column.flatten():
            yield from _texts(field)
    elif pa.types.is_map(kind):
        for chunk in column.chunks:
            yield from _texts(pa.chunked_array([chunk.keys]))
            yield from _texts(pa.chunked_array([chunk.items]))
    elif isinstance(kind, (pa.ListType, pa.LargeListType, pa.FixedSizeListType)):
        yield from _texts(pc.list_flatten(column))
    elif pa.types.is_dictionary(kind):
        yield from _texts(column.cast(kind.value_type))
    elif kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        yield column
    elif kind == pa.string_view():
        yield column.cast(pa.string())
    elif kind == pa.binary_view() or pa.types.is_fixed_size_binary(kind):
        yield column.cast(pa.binary())
    elif not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        raise RunError(f"cannot search a column of type {kind}: erasure cannot be proved")

"""Open and read the tables: as Delta tables, as pyarrow datasets, as DuckDB views.

All readers here leave out the rows of a run that is only half published. Delta makes
one table's commit atomic, not several tables'; so ``cohort/ages`` is committed last,
and until it has a run, the other tables' rows of that run do not show.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from bae import storage
from bae.errors import StorageError, TablesError
from bae.tables.contract import SCHEMAS, same_kind

LAST = "cohort/ages"
"""The table whose commit says that a run is whole."""

_COMMITS_LOOKED_AT = 50


def uri(tables_uri: str, name: str) -> str:
    """Return where a table lies.

    Raises:
        TablesError: no table of that name in the contract, or a place Delta cannot handle.
    """
    if name not in SCHEMAS:
        raise TablesError(f"there is no table {name!r}; choose from {', '.join(SCHEMAS)}")
    root = storage.normal(tables_uri)
    if odd := sorted(set(root) & set("%[]")):
        # delta-rs takes paths for URLs here: it would look elsewhere, or panic.
        raise TablesError(
            f"the tables' place must not contain {' '.join(odd)}; choose another name"
        )
    return storage.join(root, name)


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn what DuckDB, Arrow and deltalake say of failing storage into a StorageError."""
    try:
        yield
    except CommitFailedError:
        raise
    except (duckdb.Error, DeltaError, OSError, pa.ArrowInvalid) as error:
        raise StorageError(
            f"cannot {doing}: the storage refuses, is full or does not answer "
            f"({type(error).__name__}); check place and credentials, then run again"
        ) from error


def _bounded(spill: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": "1500MB", "threads": 2, "temp_directory": spill})


def ask(query: str, params: dict[str, Any] | None = None, **rows: Any) -> pa.Table:
    """Return DuckDB's answer about some tables or datasets, each by its name, in bounded memory."""
    # by itself it would spill into the working folder, which may be read-only
    with tempfile.TemporaryDirectory(prefix="bae-ask-") as spill, _bounded(spill) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, each in rows.items():
            connection.register(name, each)
        return connection.sql(query, params=params).to_arrow_table()


def delta(tables_uri: str, name: str, version: int | None = None) -> DeltaTable | None:
    """Open a table, None if it was never written.

    Raises:
        TablesError: the table cannot be read, does not fit, or has no such version.
        StorageError: the storage cannot be reached or may not be read.
    """
    place = uri(tables_uri, name)
    try:
        table = DeltaTable(place, version=version, storage_options=storage.table_options(place))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        if version is not None:
            raise TablesError(f"{name} has no version {version} any more, or never had") from error
        if isinstance(error, DeltaError):
            raise TablesError(
                f"{name} cannot be opened as a Delta table ({type(error).__name__})"
            ) from error
        raise StorageError(
            f"cannot open {name}: the storage refuses or does not answer; "
            "check endpoint, bucket and keys"
        ) from error
    _check_contract(name, table)
    return table


def _check_contract(name: str, table: DeltaTable) -> None:
    """Refuse a table whose columns do not fit; columns it lacks or has on top are fine."""
    there = pa.schema(table.schema().to_arrow())
    for field in SCHEMAS[name]:
        index = there.get_field_index(field.name)
        if index >= 0 and not same_kind(there.field(index).type, field.type):
            raise TablesError(
                f"{name}.{field.name} is {there.field(index).type} on disk, this version of bae "
                f"writes {field.type}; use another tables folder or migrate the table"
            )


def add_columns(name: str, table: DeltaTable) -> None:
    """Add the contract's columns that a table of an earlier version of bae lacks."""
    there = pa.schema(table.schema().to_arrow()).names
    missing = [field for field in SCHEMAS[name] if field.name not in there]
    if missing:
        table.alter.add_columns(Schema.from_arrow(pa.schema(missing)).fields)


def dataset_of(name: str, table: DeltaTable | None) -> ds.Dataset:
    """Return an opened table, or an empty one, as a dataset in the contract's schema."""
    if table is None:
        return ds.dataset(SCHEMAS[name].empty_table())
    # Arrow's own filesystem: deltalake's calls back into Python from Arrow's threads, which
    # aborts one process in five that ends right after reading.
    system, path = storage.pyarrow_filesystem(table.table_uri)
    found: Any = table.to_pyarrow_dataset(filesystem=pyarrow.fs.SubTreeFileSystem(path, system))
    there = found.schema
    fields = [
        field if field.name in there.names else field.with_nullable(True) for field in SCHEMAS[name]
    ]
    schema = pa.schema(fields + [field for field in there if field.name not in SCHEMAS[name].names])
    return _without_string_views(found.replace_schema(schema))


def _without_string_views(found: ds.FileSystemDataset) -> ds.Dataset:
    """Return a dataset that can be filtered whatever deltalake has written.

    Its merges write columns of the type ``string_view`` (1.6.6), which pyarrow's filters cannot
    compare (26.0). Such files are read and cast here; ``jobs.maintain`` rewrites them all.
    """
    plain: list[ds.Fragment] = []
    viewed: list[ds.Fragment] = []
    for fragment in found.get_fragments():
        odd = any(_is_view(field.type) for field in fragment.physical_schema)
        (viewed if odd else plain).append(fragment)
    if not viewed:
        return found
    read = [fragment.to_table(schema=found.schema) for fragment in viewed]
    cast = pa.concat_tables(read).cast(found.schema)
    rest = ds.FileSystemDataset(plain, found.schema, found.format, found.filesystem)
    return ds.dataset([rest, ds.dataset(cast)])


def _is_view(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_view(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_is_view(field.type) for field in kind)
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def files(table: DeltaTable) -> list[str]:
    """Return the URIs of a table's current Parquet files; paths where local."""
    uris: list[str] = table.file_uris()
    return uris if storage.is_s3(table.table_uri) else [unquote(uri) for uri in uris]


def half_published(table: DeltaTable | None, last: DeltaTable | None) -> str | None:
    """Return the run that this table has and ``cohort/ages`` has not, if there is one.

    A publish first finishes what another left half done, so it can only be the newest run.
    """
    if table is None:
        return None
    for commit in table.history(_COMMITS_LOOKED_AT):
        if run_id := commit.get("run_id"):
            whole = last is not None and last.transaction_version(run_id) is not None
            return None if whole else str(run_id)
    return None


def dataset(tables_uri: str, name: str) -> ds.Dataset:
    """Return a table as a pyarrow dataset in the contract's schema, empty if never written.

    Columns that older files lack read as null.
    """
    # ages first: what it has, the others had before it.
    last = delta(tables_uri, LAST)
    table = last if name == LAST else delta(tables_uri, name)
    found = dataset_of(name, table)
    hidden = half_published(table, last)
    return found if hidden is None else found.filter(ds.field("run_id") != hidden)


def read(tables_uri: str, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read a whole table, or some columns of it; empty if it was never written."""
    return dataset(tables_uri, name).to_table(columns=columns)

"""Open and read the tables: as Delta tables, as pyarrow datasets, as DuckDB views.

All readers here leave out the rows of a run that is only half published. Delta makes
one table's commit atomic, not several tables'; so ``cohort/ages`` is committed last,
and until it has a run, the other tables' rows of that run do not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from numpy.typing import NDArray

from bae import storage
from bae.contract import SCHEMAS, STAGED, same_columns, same_kind
from bae.errors import StorageError, TablesError
from bae.latest import latest_ages

__all__ = ["SCHEMAS", "STAGED", "connect", "dataset", "delta", "heat_array", "read", "same_columns"]

LAST = "cohort/ages"
"""The table whose commit says that a run is whole."""

AGE_GAP_BY_DECADE = """
    SELECT model_id, sex, (floor(age_years / 10) * 10)::INTEGER AS decade_years,
           count(*) AS scans, avg(age_gap_years) AS mean_gap_years,
           stddev_samp(age_gap_years) AS sd_gap_years,
           avg(abs(age_gap_years)) AS mean_absolute_gap_years
    FROM latest_ages WHERE age_gap_years IS NOT NULL
    GROUP BY ALL ORDER BY ALL"""

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


def lacks_columns(name: str, table: DeltaTable | None) -> bool:
    """Say whether a table was written by a version of bae that had fewer columns."""
    if table is None:
        return False
    there = pa.schema(table.schema().to_arrow()).names
    return any(column not in there for column in SCHEMAS[name].names)


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
    return found.replace_schema(
        pa.schema(fields + [field for field in there if field.name not in SCHEMAS[name].names])
    )


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


def connect(
    tables_uri: str, *, version: int | None = None, restricted: bool = False
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the tables as views: ages, boxes, heatmaps.

    And on top ``latest_ages`` (one row per scan: its newest object by the newest model)
    and ``age_gap_by_decade``; ``infra/views.sql`` has them for other engines. The views
    show the tables as they are now: a publish while the connection is open does not
    change an answer. Times are in UTC.

    Args:
        tables_uri: root of the tables.
        version: show ``ages`` as of this Delta version, the others to match.
        restricted: also offer scans and rejects, for those who may read them.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    last = delta(tables_uri, LAST, version)
    _add_view(connection, LAST, last, "TRUE")
    for name in SCHEMAS:
        if name == LAST or (name.startswith("restricted/") and not restricted):
            continue
        table = delta(tables_uri, name)
        if version is not None:
            shown = _runs_of(name, table, last)
        elif hidden := half_published(table, last):
            shown = f"run_id <> {_text(hidden)}"
        else:
            shown = "TRUE"
        _add_view(connection, name, table, shown)
    connection.execute(f"CREATE VIEW latest_ages AS {latest_ages(connection)}")
    connection.execute(f"CREATE VIEW age_gap_by_decade AS {AGE_GAP_BY_DECADE}")
    return connection


def _runs_of(name: str, table: DeltaTable | None, last: DeltaTable | None) -> str:
    """Return the condition that keeps only rows of runs that ``last`` has."""
    # Rows are only ever added, so a filter by run shows an old state, even after vacuum.
    runs = pc.unique(dataset_of(name, table).to_table(columns=["run_id"])["run_id"]).to_pylist()
    known = [run for run in runs if last is not None and last.transaction_version(run) is not None]
    return "run_id IN ({})".format(", ".join(map(_text, known)) or "NULL")


def _add_view(
    connection: duckdb.DuckDBPyConnection, name: str, table: DeltaTable | None, shown: str
) -> None:
    view = name.partition("/")[2]
    found = dataset_of(name, table)
    if table is not None and not storage.is_s3(table.table_uri) and files(table):
        # DuckDB's own reader is faster than Arrow's, and needs nothing but the files' names.
        paths = ", ".join(map(_text, files(table)))
        source = f"read_parquet([{paths}], union_by_name = true)"
        there = {row[0] for row in connection.sql(f"DESCRIBE FROM {source}").fetchall()}
    else:
        source = f"_{view}"
        connection.register(source, found)
        there = set(found.schema.names)
    # A time zone would ask every Python user for pytz.
    columns = ", ".join(
        (_name(field.name) if field.name in there else "NULL")
        + ("::TIMESTAMP" if pa.types.is_timestamp(field.type) else "")
        + f" AS {_name(field.name)}"
        for field in found.schema
    )
    connection.execute(f"CREATE VIEW {view} AS SELECT {columns} FROM {source} WHERE {shown}")
    for field in SCHEMAS[name]:
        text = _text((field.metadata or {})[b"description"].decode())
        connection.execute(f"COMMENT ON COLUMN {view}.{_name(field.name)} IS {text}")


def _text(value: str) -> str:
    """Return a value as SQL text: a view's definition takes no parameters."""
    return "'" + value.replace("'", "''") + "'"


def _name(column: str) -> str:
    """Return a column's name as SQL."""
    return '"' + column.replace('"', '""') + '"'


def heat_array(maps: pa.Table) -> NDArray[np.uint8]:
    """Return the ``heat`` of maps of one size as one array, without a Python object per map.

    Args:
        maps: rows of ``cohort/heatmaps`` with the columns heat, rows and columns.

    Returns:
        (maps, rows, columns) uint8, 0-255.

    Raises:
        TablesError: the maps differ in size, or a map's bytes do not fit its size.
    """
    sizes = maps.select(["rows", "columns"]).group_by(["rows", "columns"]).aggregate([]).to_pylist()
    if not sizes:
        return np.empty((0, 0, 0), np.uint8)
    rows, columns = sizes[0]["rows"], sizes[0]["columns"]
    lengths = pc.unique(pc.binary_length(maps["heat"])).to_pylist()
    if len(sizes) > 1 or lengths != [rows * columns]:
        raise TablesError("the heat maps differ in size; choose one model and one view at a time")
    flat = [bytes_of(chunk) for chunk in maps["heat"].chunks if len(chunk)]
    return np.concatenate(flat).reshape(-1, rows, columns)


def bytes_of(chunk: pa.BinaryArray) -> NDArray[np.uint8]:
    """Return the bytes of all values of a chunk without nulls, end to end, as they lie."""
    _, offsets, data = chunk.buffers()
    first, last = np.frombuffer(offsets, np.int32)[[chunk.offset, chunk.offset + len(chunk)]]
    return np.frombuffer(data, np.uint8)[first:last]

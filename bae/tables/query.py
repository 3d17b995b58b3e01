"""Read the tables: DuckDB views for analysts, heat maps as arrays."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from deltalake import DeltaTable
from numpy.typing import NDArray

from bae import storage
from bae.errors import TablesError
from bae.tables.contract import RESTRICTED, SCHEMAS
from bae.tables.delta import LAST, dataset_of, delta, files, half_published


def latest_ages(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the query of each scan's newest age, for a connection that has the view ``ages``.

    ``infra/views.sql`` says it in general: of all rows of a scan the newest object counts,
    and of that the newest model that scored it. That groups all rows by scan, which takes
    seconds on millions. Here the few facts that decide are looked up first (which models
    there are, whether any scan has a second object), and only what they ask for is joined.
    """
    facts = connection.sql("""
        SELECT model_id, max(object_version) FROM ages
        GROUP BY model_id ORDER BY min(predicted_at), model_id""").fetchall()
    models = [str(model_id).replace("'", "''") for model_id, _ in facts]
    current = "ages"
    if any(version > 1 for _, version in facts):
        # Few scans have a second object: a small table, so a quick join.
        current = """(
            SELECT ages.* FROM ages LEFT JOIN (
                SELECT scan_id, max(object_version) AS last FROM ages
                WHERE object_version > 1 GROUP BY scan_id) AS changed USING (scan_id)
            WHERE object_version = coalesce(last, 1))"""
    if len(models) < 2:
        return f"SELECT * FROM {current}"
    selects = []
    for number, model in enumerate(models):
        newer = ", ".join(f"'{name}'" for name in models[number + 1 :])
        rows = f"SELECT * FROM {current} WHERE model_id = '{model}'"
        if newer:
            seen = f"SELECT scan_id FROM {current} WHERE model_id IN ({newer})"
            rows = f"SELECT * FROM ({rows}) ANTI JOIN ({seen}) USING (scan_id)"
        selects.append(rows)
    return " UNION ALL ".join(selects)


AGE_GAP_BY_DECADE = """
    SELECT model_id, sex, (floor(age_years / 10) * 10)::INTEGER AS decade_years,
           count(*) AS scans, avg(age_gap_years) AS mean_gap_years,
           stddev_samp(age_gap_years) AS sd_gap_years,
           avg(abs(age_gap_years)) AS mean_absolute_gap_years
    FROM latest_ages WHERE age_gap_years IS NOT NULL
    GROUP BY ALL ORDER BY ALL"""


def connect(
    tables_uri: str, *, version: int | None = None, restricted: bool = False
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the tables as views: ages, boxes, heatmaps.

    And on top ``latest_ages`` (one row per scan: its newest object by the newest model)
    and ``age_gap_by_decade``; ``infra/views.sql`` has them for other engines. The views
    show the tables as they are now: a publish while the connection is open does not
    change an answer. Times are in UTC.

    Args:
        version: show ``ages`` as of this Delta version, the others to match.
        restricted: also offer scans and rejects, for those who may read them.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    last = delta(tables_uri, LAST, version)
    _add_view(connection, LAST, last, "TRUE")
    for name in SCHEMAS:
        if name == LAST or (name.startswith(f"{RESTRICTED}/") and not restricted):
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
    flat = []
    for chunk in maps["heat"].chunks:  # without nulls, the bytes lie end to end
        _, offsets, data = chunk.buffers()
        if len(chunk):
            ends = np.frombuffer(offsets, np.int32)[[chunk.offset, chunk.offset + len(chunk)]]
            flat.append(np.frombuffer(data, np.uint8)[slice(*ends)])
    return np.concatenate(flat).reshape(-1, rows, columns)

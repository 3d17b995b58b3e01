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


def _latest(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the views of what counts today, name to query, for a connection with the tables.

    ``infra/views.sql`` says it in general: of the rows of a scan the newest object that is not
    removed counts, and of that the newest model that scored it. That groups all rows by scan,
    which takes seconds on millions. Here the few facts that decide are looked up first (which
    models there are, whether any scan has a second object or lost its own), and only what they
    ask for is joined.
    """
    facts = connection.sql("""
        SELECT model_id, max(object_version), count(removed_at) FROM ages
        GROUP BY model_id ORDER BY min(predicted_at), model_id""").fetchall()
    models = [_text(str(model_id)) for model_id, _, _ in facts]
    here = "FROM ages"
    if any(removed for _, _, removed in facts):
        here = "FROM ages WHERE removed_at IS NULL"
    current = here
    if any(version > 1 for _, version, _ in facts):
        # Few scans have a second object: a small table, so a quick join.
        current = f"""
            SELECT ages.* FROM ({here}) AS ages LEFT JOIN (
                SELECT scan_id, max(object_version) AS last FROM ({here})
                WHERE object_version > 1 GROUP BY scan_id) AS changed USING (scan_id)
            WHERE object_version = coalesce(last, object_version)"""
    selects = []
    for number, model in enumerate(models):
        rows = f"FROM current_ages WHERE model_id = {model}"
        if newer := ", ".join(models[number + 1 :]):
            seen = f"SELECT scan_id FROM current_ages WHERE model_id IN ({newer})"
            rows = f"SELECT * FROM ({rows}) ANTI JOIN ({seen}) USING (scan_id)"
        selects.append(f"({rows})")
    latest = " UNION ALL ".join(selects) if len(models) > 1 else "FROM current_ages"
    own = "SEMI JOIN latest_ages USING (scan_id, model_id, object_version)"
    if latest == "FROM current_ages" and current == "FROM ages":
        own = ""  # all rows are
    return {
        "current_ages": current,
        "latest_ages": latest,
        "latest_boxes": f"FROM boxes {own}",
        "latest_heatmaps": f"FROM heatmaps {own}",
        "age_gap_by_decade": AGE_GAP_BY_DECADE,
    }


AGE_GAP_BY_DECADE = """
    SELECT model_id, sex, (floor(age_years / 10) * 10)::INTEGER AS decade_years,
           count(*) AS scans, avg(age_gap_years) AS mean_gap_years,
           stddev_samp(age_gap_years) AS sd_gap_years,
           avg(abs(age_gap_years)) AS mean_absolute_gap_years
    FROM latest_ages WHERE age_gap_years IS NOT NULL
    GROUP BY ALL HAVING count(DISTINCT patient_key) >= 5 ORDER BY ALL"""
"""Groups of fewer than five people are left out: in those, each knows the others' ages."""


def connect(
    tables_uri: str, *, version: int | None = None, restricted: bool = False
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the tables as views: ages, boxes, heatmaps.

    And on top ``current_ages`` (one row per scan and model: of the newest object that is still
    in the archive), ``latest_ages`` (one row per scan: of these the newest model's), with it
    ``latest_boxes`` and ``latest_heatmaps``, and ``age_gap_by_decade``; ``infra/views.sql`` has
    them for other engines. The views show the tables as they are now: a publish while the
    connection is open does not change an answer. Times are in UTC.

    Args:
        version: show only the runs that ``ages`` had at this Delta version. It works for ever,
            since rows are only added; patients erased and labels corrected since are so here too.
        restricted: also offer scans and rejects, for those who may read them.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    last = delta(tables_uri, LAST)
    then = last if version is None else delta(tables_uri, LAST, version)
    for name in SCHEMAS:
        if name.startswith(f"{RESTRICTED}/") and not restricted:
            continue
        table = last if name == LAST else delta(tables_uri, name)
        if version is not None:
            shown = _runs_of(name, table, then)
        elif hidden := half_published(table, last):
            shown = f"run_id <> {_text(hidden)}"
        else:
            shown = "TRUE"
        _add_view(connection, name, table, shown)
    for view, query in _latest(connection).items():
        connection.execute(f"CREATE VIEW {view} AS {query}")
    return connection


def _runs_of(name: str, table: DeltaTable | None, last: DeltaTable | None) -> str:
    """Return the condition that keeps only rows of runs that ``last`` has."""
    # Files of old versions go with vacuum; rows stay, so a filter by run shows an old state.
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

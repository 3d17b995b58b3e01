"""What of a run's staged rows is new: compared with the tables, numbered and sorted.

The comparison runs in DuckDB, which spills to disk, so a run of any size passes in
bounded memory. Rows are compared by their natural key: a scan by object, version of
the object and scan; a refusal by object, version, model, its code and which try it was; an age
by scan, model and version; heat maps and boxes by these and their view, boxes by their number,
too. Who a scan is of, its sex and its age are what ``restricted/scans`` says, whatever a later
run was told.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from bae import storage
from bae.errors import TablesError
from bae.tables import contract, delta, settings

BATCH_ROWS = 65_536
"""Rows handed over at a time."""

_QUERIES = {
    "restricted/scans": """
        SELECT staged.object_uri, staged.source_uri, staged.etag, unnest(staged.scan),
               version.object_version, splits.split
        FROM staged
        JOIN version ON staged.object_uri = version.object_uri AND staged.etag = version.etag
            AND staged.scan.scan_id = version.scan_id
        JOIN splits ON staged.scan.patient_key = splits.patient_key
        WHERE version.is_new
        ORDER BY staged.object_uri, staged.etag""",
    "restricted/rejects": """
        SELECT staged.object_uri, source_uri, staged.etag, unnest(reject),
               coalesce(attempt, 1) AS attempts
        FROM staged LEFT JOIN objects
            ON objects.object_uri = staged.source_uri AND objects.etag = staged.etag
        WHERE reject IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM known_rejects AS k
            WHERE k.object_uri = staged.object_uri AND k.etag = staged.etag
              AND k.stage = staged.reject.stage AND k.code = staged.reject.code
              AND k.model_id IS NOT DISTINCT FROM staged.reject.model_id
              AND coalesce(k.attempts, 1) = coalesce(attempt, 1)
              AND k.run_id <> $run_id)
        ORDER BY staged.object_uri, staged.etag""",
    "cohort/heatmaps": """
        SELECT scan_id, model_id, object_version, unnest(heatmap)
        FROM (SELECT age.scan_id AS scan_id, age.model_id AS model_id, object_version,
                     unnest(heatmaps) AS heatmap FROM scored) AS new
        WHERE NOT EXISTS (
            SELECT 1 FROM known_heatmaps AS k
            WHERE k.scan_id = new.scan_id AND k.model_id = new.model_id
              AND k.object_version = new.object_version
              AND k.view_index = new.heatmap.view_index)
        ORDER BY model_id, scan_id, object_version, heatmap.view_index""",
    "cohort/boxes": """
        SELECT scan_id, model_id, object_version, unnest(box)
        FROM (SELECT age.scan_id AS scan_id, age.model_id AS model_id, object_version,
                     unnest(boxes) AS box FROM scored) AS new
        WHERE NOT EXISTS (
            SELECT 1 FROM known_boxes AS k
            WHERE k.scan_id = new.scan_id AND k.model_id = new.model_id
              AND k.object_version = new.object_version
              AND k.view_index = new.box.view_index AND k.box_index = new.box.box_index)
        ORDER BY model_id, scan_id, object_version, box.view_index, box.box_index""",
    "cohort/ages": """
        SELECT * EXCLUDE (exact) REPLACE ({flags} AS flags),
               {age} AS age_years, predicted_age_years - ({age}) AS age_gap_years
        FROM (SELECT unnest(age), object_version, patient_key, split, sex, age_years AS exact
              FROM scored JOIN splits USING (patient_key))
        ORDER BY model_id, patient_key, scan_id, object_version""",
}


def staged(staged_uri: str) -> ds.Dataset:
    """Open the staged files, refusing any whose schema differs."""
    names = storage.list_objects(staged_uri) if storage.exists(staged_uri) else None
    if names is None or not names.num_rows:
        return ds.dataset(contract.STAGED.empty_table())
    system, _ = storage.pyarrow_filesystem(staged_uri)
    paths = [name.removeprefix("s3://") for name in names["object_uri"].to_pylist()]
    found = ds.dataset(paths, format="parquet", filesystem=system)
    if not contract.same_columns(found.schema, contract.STAGED):
        raise TablesError(
            "the staged files do not have the columns of this version of bae; "
            "finish the run with the version that began it, or delete its staging folder"
        )
    return found.replace_schema(contract.STAGED)


def unaccounted(objects: pa.Table, staged: ds.Dataset) -> int:
    """Return how many listed objects have neither a scan nor a refusal among staged rows."""
    missing = delta.ask(
        """
        SELECT count(*) FROM objects ANTI JOIN (
            SELECT DISTINCT source_uri AS object_uri, etag FROM staged
            WHERE scan IS NOT NULL OR reject IS NOT NULL) USING (object_uri, etag)""",
        objects=objects,
        staged=staged,
    )
    return int(missing[0][0].as_py())


def database(
    spill: str, staged: ds.Dataset, objects: pa.Table, opened: dict[str, DeltaTable | None]
) -> duckdb.DuckDBPyConnection:
    """Return a database in memory with the staged and the known rows, and objects' versions.

    Args:
        spill: folder for what does not fit into memory.
        objects: what ``Run.objects`` returned: of two versions of one object the one that was
            listed last is the newer one.
    """
    connection = duckdb.connect(
        config={"memory_limit": "1GB", "temp_directory": spill, "threads": 2}
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("staged", staged)
    for name, table in opened.items():
        known = delta.dataset_of(name, table)
        connection.register(f"known_{name.partition('/')[2]}", known)
    connection.register("objects", objects)
    connection.execute("""
        CREATE TEMP TABLE read AS
        SELECT DISTINCT ON (staged.object_uri, staged.etag, scan.scan_id)
               staged.object_uri, staged.etag, scan.scan_id AS scan_id,
               scan.patient_key AS patient_key, scan.sex AS sex, scan.age_years AS age_years,
               coalesce(objects.part, -1) AS part
        FROM staged LEFT JOIN objects
            ON objects.object_uri = staged.source_uri AND objects.etag = staged.etag
        WHERE scan IS NOT NULL;
        CREATE TEMP TABLE known AS
        SELECT scan_id, object_uri, etag, object_version, patient_key, sex, age_years
        FROM known_scans SEMI JOIN read USING (scan_id);
        CREATE TEMP TABLE version AS
        SELECT r.object_uri, r.etag, r.scan_id, k.object_version IS NULL AS is_new,
               coalesce(k.object_version, coalesce(m.last, 0) + row_number() OVER (
                   PARTITION BY r.scan_id, k.object_version IS NULL
                   ORDER BY r.part, r.object_uri, r.etag))::INTEGER AS object_version,
               coalesce(k.patient_key, r.patient_key) AS patient_key,
               CASE WHEN k.object_version IS NULL THEN r.sex ELSE k.sex END AS sex,
               CASE WHEN k.object_version IS NULL THEN r.age_years ELSE k.age_years END AS age_years
        FROM read AS r
        LEFT JOIN known AS k USING (object_uri, etag, scan_id)
        LEFT JOIN (SELECT scan_id, max(object_version) AS last FROM known GROUP BY scan_id) AS m
            ON m.scan_id = r.scan_id;
        CREATE TEMP VIEW scored AS
        SELECT staged.age, staged.boxes, staged.heatmaps,
               version.object_version, version.patient_key, version.sex, version.age_years
        FROM staged
        JOIN version ON staged.object_uri = version.object_uri AND staged.etag = version.etag
            AND staged.age.scan_id = version.scan_id
        WHERE staged.age IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM known_ages AS k
            WHERE k.scan_id = staged.age.scan_id AND k.model_id = staged.age.model_id
              AND k.object_version = version.object_version)
    """)
    return connection


def refused(connection: duckdb.DuckDBPyConnection, run_id: str) -> Counter[str]:
    """Count the objects that the run refused by code, whether its rows are published or not.

    An object that was replaced while the run was broken off counts once, as it was listed last.
    """
    rejects = _QUERIES["restricted/rejects"]
    counted = connection.sql(
        f"""
        WITH last AS (
            SELECT DISTINCT ON (object_uri) object_uri AS source_uri, etag FROM objects
            ORDER BY object_uri, part DESC),
        once AS (
            SELECT DISTINCT ON (object_uri) code
            FROM ({rejects}) SEMI JOIN last USING (source_uri, etag)
            ORDER BY object_uri, model_id NULLS FIRST, code)
        SELECT code, count(*) FROM once GROUP BY code""",
        params={"run_id": run_id},
    )
    return Counter(dict(counted.fetchall()))


def rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    run_id: str,
    now: datetime,
    told: settings.Settings,
    decoder_version: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the new rows of one table in the contract's schema, sorted."""
    schema = contract.SCHEMAS[name]
    constants: dict[str, object] = {"run_id": run_id, "removed_at": None, "settled_at": None}
    constants["decoder_version"] = decoder_version
    constants |= dict.fromkeys(("indexed_at", "rejected_at"), now)
    constants["predicted_at"] = _public_time(connection, now)
    query = _QUERIES[name]
    if name == delta.LAST:
        age = settings.public_age("exact", "patient_key", told)
        query = query.format(age=age, flags=settings.public_flags("flags", "exact"))
    params = {"run_id": run_id} if "$run_id" in query else None
    for batch in connection.sql(query, params=params).to_arrow_reader(BATCH_ROWS):
        columns = [
            pa.array([constants[field.name]] * batch.num_rows, field.type)
            if field.name in constants
            else batch.column(field.name).cast(field.type)
            for field in schema
        ]
        for field, column in zip(schema, columns, strict=True):
            if not field.nullable and column.null_count:
                raise TablesError(f"staged rows lack {name}.{field.name}, which must not be null")
        if batch.num_rows:
            yield pa.record_batch(columns, schema=schema)


def _public_time(connection: duckdb.DuckDBPyConnection, now: datetime) -> datetime:
    """Return the first of the month, and microseconds that keep the order of nights.

    Beside an age, the day of a night that followed the scan's would be nearly a birthday.
    """
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    [(last,)] = connection.sql("SELECT max(predicted_at)::TIMESTAMP FROM known_ages").fetchall()
    if last is None:
        return month
    after: datetime = last.replace(tzinfo=UTC) + timedelta(microseconds=1)
    return max(month, after)

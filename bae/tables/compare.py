"""What of a run's staged rows is new: compared with the tables, numbered and sorted.

The comparison runs in DuckDB, which spills to disk, so a run of any size passes in
bounded memory. Rows are compared by their natural key: a scan by object, version of
the object and scan; a refusal by these and its code; an age by scan, model and version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from bae import storage
from bae.errors import TablesError
from bae.tables import contract, delta

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
        SELECT object_uri, source_uri, etag, unnest(reject)
        FROM staged
        WHERE reject IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM known_rejects AS k
            WHERE k.object_uri = staged.object_uri AND k.etag = staged.etag
              AND k.stage = staged.reject.stage AND k.code = staged.reject.code
              AND k.model_id IS NOT DISTINCT FROM staged.reject.model_id
              AND k.run_id <> $run_id)
        ORDER BY object_uri, etag""",
    "cohort/heatmaps": """
        SELECT scan_id, model_id, object_version, unnest(heatmap)
        FROM (SELECT age.scan_id AS scan_id, age.model_id AS model_id, object_version,
                     unnest(heatmaps) AS heatmap FROM scored)
        ORDER BY model_id, scan_id, object_version, heatmap.view_index""",
    "cohort/boxes": """
        SELECT scan_id, model_id, object_version, unnest(box)
        FROM (SELECT age.scan_id AS scan_id, age.model_id AS model_id, object_version,
                     unnest(boxes) AS box FROM scored)
        ORDER BY model_id, scan_id, object_version, box.view_index, box.box_index""",
    "cohort/ages": """
        SELECT unnest(age), object_version, splits.split
        FROM scored JOIN splits ON scored.age.patient_key = splits.patient_key
        ORDER BY age.model_id, age.patient_key, age.scan_id, object_version""",
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
    spill: str, staged: ds.Dataset, opened: dict[str, DeltaTable | None]
) -> duckdb.DuckDBPyConnection:
    """Return a database in memory with the staged and the known rows, and objects' versions.

    Args:
        spill: folder for what does not fit into memory.
    """
    connection = duckdb.connect(
        config={"memory_limit": "1GB", "temp_directory": spill, "threads": 2}
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("staged", staged)
    for name, table in opened.items():
        known = delta.dataset_of(name, table)
        connection.register(f"known_{name.partition('/')[2]}", known)
    connection.execute("""
        CREATE TEMP TABLE known AS
        SELECT scan_id, object_uri, etag, object_version FROM known_scans;
        CREATE TEMP TABLE version AS
        SELECT s.object_uri, s.etag, s.scan_id, k.object_version IS NULL AS is_new,
               coalesce(k.object_version, coalesce(m.last, 0) + row_number() OVER (
                   PARTITION BY s.scan_id, k.object_version IS NULL
                   ORDER BY s.object_uri, s.etag))::INTEGER AS object_version
        FROM (SELECT DISTINCT object_uri, etag, scan.scan_id AS scan_id
              FROM staged WHERE scan IS NOT NULL) AS s
        LEFT JOIN known AS k USING (object_uri, etag, scan_id)
        LEFT JOIN (SELECT scan_id, max(object_version) AS last FROM known GROUP BY scan_id) AS m
            ON m.scan_id = s.scan_id;
        CREATE TEMP VIEW scored AS
        SELECT staged.age, staged.boxes, staged.heatmaps, version.object_version
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
    """Count the run's refusals by code, whether its rows are published already or not."""
    rejects = _QUERIES["restricted/rejects"]
    counted = connection.sql(
        f"SELECT code, count(*) FROM ({rejects}) GROUP BY code", params={"run_id": run_id}
    )
    return Counter(dict(counted.fetchall()))


def rows(
    connection: duckdb.DuckDBPyConnection, name: str, run_id: str, now: datetime
) -> Iterator[pa.RecordBatch]:
    """Yield the new rows of one table in the contract's schema, sorted."""
    schema = contract.SCHEMAS[name]
    constants: dict[str, object] = {"run_id": run_id, "removed_at": None}
    constants |= dict.fromkeys(("indexed_at", "rejected_at", "predicted_at"), now)
    query = _QUERIES[name]
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
        if name == delta.LAST:
            _check_public(batch)
        if batch.num_rows:
            yield pa.record_batch(columns, schema=schema)


def _check_public(ages: pa.RecordBatch) -> None:
    """Refuse ages above 89 in the open: they would single a person out."""
    oldest = pc.max(ages.column("age_years")).as_py()
    if oldest is not None and oldest > 90:
        raise TablesError("a staged age is above 90 years; ages over 89 are stored as 90")

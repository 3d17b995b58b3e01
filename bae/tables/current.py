"""Which scans are current: the one place that says so.

An object of the archive is current at the version (etag) that the last listing showed. A scan is
current while its object is, and of several current objects that hold the same scan (a copy, an
archive that moved) the one that was read last counts. ``removed_at`` in ``restricted/scans`` and
``cohort/ages`` says since when a row is not current; nothing is ever forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
from deltalake import WriterProperties

from bae import storage
from bae.tables import contract, delta
from bae.tables.maintain import committed, no_check, without_retry


def scans(tables_uri: str) -> pa.Table:
    """Return the current rows of ``restricted/scans``, one per scan, in the contract's schema."""
    with delta.storage_errors("read restricted/scans"), _database(tables_uri) as connection:
        found = connection.sql("""
            FROM scans WHERE removed_at IS NULL
            QUALIFY row_number() OVER (PARTITION BY scan_id ORDER BY object_version DESC) = 1
            ORDER BY scan_id""").to_arrow_table()
    return found.cast(contract.SCHEMAS["restricted/scans"])


def mark(
    tables_uri: str,
    archive_uri: str,
    listing: pa.Table,
    check: Callable[[], None] = no_check,
) -> int:
    """Bring ``removed_at`` up to date with a listing, in both tables that have it.

    A row is marked when its object is no longer listed, or is listed at another version that
    the tables know already: until the new version is read, the old one stays current. A mark is
    taken back when the object is there again as it was.

    Args:
        tables_uri: root of the tables.
        archive_uri: the archive that was listed; objects of others are left alone.
        listing: its complete listing, a table of ``storage.LISTING``.
        check: called before each commit; raises when this run lost its lease.

    Returns:
        How many versions of objects changed.
    """
    now = datetime.now(UTC)
    with _database(tables_uri) as connection:
        connection.register("listing", listing)
        objects = connection.sql(
            """
            WITH known AS (
                SELECT source_uri, etag FROM scans UNION SELECT source_uri, etag FROM rejects),
            here AS (
                SELECT object_uri AS source_uri, listing.etag AS listed,
                       known.etag IS NOT NULL AS is_known
                FROM listing LEFT JOIN known
                    ON known.source_uri = object_uri AND known.etag = listing.etag)
            SELECT DISTINCT source_uri, etag,
                   CASE WHEN removed_at IS NULL THEN $now::TIMESTAMPTZ END AS removed_at
            FROM scans LEFT JOIN here USING (source_uri)
            WHERE (source_uri = $place OR starts_with(source_uri, $place || '/'))
              AND CASE WHEN removed_at IS NULL THEN listed IS NULL OR (listed <> etag AND is_known)
                       ELSE listed = etag END""",
            params={"now": now, "place": storage.normal(archive_uri)},
        ).to_arrow_table()
    _merge(tables_uri, "restricted/scans", objects, ["source_uri", "etag"], check)
    with _database(tables_uri) as connection:
        ages = connection.sql("""
            SELECT DISTINCT scan_id, object_version, scans.removed_at
            FROM scans JOIN ages USING (scan_id, object_version)
            WHERE (scans.removed_at IS NULL) <> (ages.removed_at IS NULL)""").to_arrow_table()
    _merge(tables_uri, "cohort/ages", ages, ["scan_id", "object_version"], check)
    return int(objects.num_rows)


def _database(tables_uri: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"memory_limit": "1GB", "threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    for name in ("restricted/scans", "restricted/rejects", "cohort/ages"):
        connection.register(name.partition("/")[2], delta.dataset(tables_uri, name))
    return connection


def _merge(
    tables_uri: str, name: str, rows: pa.Table, keys: list[str], check: Callable[[], None]
) -> None:
    """Update all columns of ``rows`` that are no keys, where the keys are equal."""
    table = delta.delta(tables_uri, name)
    if table is None or not rows.num_rows:
        return
    check()
    delta.add_columns(name, table)
    schema = contract.SCHEMAS[name]
    merger = table.merge(
        rows.cast(pa.schema([schema.field(column) for column in rows.schema.names])),
        predicate=" AND ".join(f"t.{key} = s.{key}" for key in keys),
        source_alias="s",
        target_alias="t",
        writer_properties=WriterProperties(compression="ZSTD"),
        commit_properties=without_retry(),
    ).when_matched_update({c: f"s.{c}" for c in rows.schema.names if c not in keys})
    committed(merger.execute)

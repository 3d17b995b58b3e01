"""Which scans are current: the one place that says so.

An object of the archive is current at the version (etag) that the last listing showed. A scan is
current while its object is, and of several current objects that hold the same scan (a copy, an
archive that moved) the one that was read last counts. ``removed_at`` in ``restricted/scans`` and
``cohort/ages`` says since when a row is not current; nothing is ever forgotten.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from bae import storage
from bae.tables import contract, delta
from bae.tables.maintain import committed, merged, no_check
from bae.tables.settings import Settings, public_age, public_flags


def scans(tables_uri: str) -> pa.Table:
    """Return the current rows of ``restricted/scans``, one per scan, in the contract's schema."""
    with delta.storage_errors("read restricted/scans"):
        found = delta.ask(
            """
            FROM scans WHERE removed_at IS NULL
            QUALIFY row_number() OVER (PARTITION BY scan_id ORDER BY object_version DESC) = 1
            ORDER BY scan_id""",
            scans=delta.dataset(tables_uri, "restricted/scans"),
        )
    return found.cast(contract.SCHEMAS["restricted/scans"])


def mark(
    tables_uri: str,
    archive_uri: str,
    listing: pa.Table,
    check: Callable[[], None] = no_check,
    transient: Collection[str] = (),
) -> int:
    """Bring ``removed_at`` of ``restricted/scans`` up to date with a listing.

    A row is marked when its object is no longer listed, or is listed at another version that
    the tables know already: until the new version is read, the old one stays current. A mark is
    taken back when the object is there again as it was.

    Args:
        tables_uri: root of the tables.
        archive_uri: the archive that was listed; objects of others are left alone.
        listing: its complete listing, a table of ``storage.LISTING``.
        check: called before the commit; raises when this run lost its lease.
        transient: codes of refusals that tell nothing of the new version: it is tried again.

    Returns:
        How many versions of objects changed.
    """
    objects = delta.ask(
        """
        WITH known AS (
            SELECT source_uri, etag FROM scans UNION
            SELECT source_uri, etag FROM rejects WHERE NOT list_contains($transient, code)),
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
        {
            "now": datetime.now(UTC),
            "place": storage.normal(archive_uri),
            "transient": [*transient],
        },
        listing=listing,
        scans=delta.dataset(tables_uri, "restricted/scans"),
        rejects=delta.dataset(tables_uri, "restricted/rejects"),
    )
    update(tables_uri, "restricted/scans", objects, ["source_uri", "etag"], check)
    return int(objects.num_rows)


def gone(tables_uri: str, archive_uri: str, listing: pa.Table) -> int:
    """Return how many objects ``mark`` would mark because the archive lists them no more."""
    with delta.storage_errors("compare the archive with the tables"):
        found = delta.ask(
            """
            SELECT count(DISTINCT source_uri)
            FROM scans ANTI JOIN listing ON listing.object_uri = scans.source_uri
            WHERE removed_at IS NULL
              AND (source_uri = $place OR starts_with(source_uri, $place || '/'))""",
            {"place": storage.normal(archive_uri)},
            listing=listing,
            scans=delta.dataset(tables_uri, "restricted/scans"),
        )
    return int(found[0][0].as_py())


def tell_ages(tables_uri: str, settings: Settings, check: Callable[[], None] = no_check) -> int:
    """Bring ``cohort/ages`` in line with ``restricted/scans``, whatever changed there.

    Whose a scan is, its split, sex, age and gap, and whether it is current. A prediction made
    for another sex than the one that is known now gets the flag ``scored_as_other_sex``.

    Args:
        settings: how ages are told in ``cohort/``.
        check: called before the commit; raises when this run lost its lease.

    Returns:
        How many rows changed.
    """
    told = {name: f"scans.{name}" for name in ("patient_key", "sex", "split")} | {
        "age_years": public_age("scans.age_years", "scans.patient_key", settings),
        "removed_at": "date_trunc('month', scans.removed_at)",  # as predicted_at
    }
    differs = " OR ".join(f"ages.{name} IS DISTINCT FROM ({new})" for name, new in told.items())
    new = ", ".join(f"{expression} AS {name}" for name, expression in told.items())
    other = "CASE WHEN ages.sex IS DISTINCT FROM scans.sex THEN ['scored_as_other_sex'] ELSE [] END"
    kept = f"list_distinct(list_concat(ages.flags, {other}))"
    changed = delta.ask(
        f"""
        SELECT ages.scan_id, ages.model_id, ages.object_version, {new},
               predicted_age_years - ({told["age_years"]}) AS age_gap_years,
               {public_flags(kept, "scans.age_years")} AS flags
        FROM ages JOIN scans USING (scan_id, object_version) WHERE {differs}""",
        scans=delta.dataset(tables_uri, "restricted/scans"),
        ages=delta.dataset(tables_uri, "cohort/ages"),
    )
    update(tables_uri, "cohort/ages", changed, ["scan_id", "model_id", "object_version"], check)
    return int(changed.num_rows)


def labelled(tables_uri: str, objects: pa.Table) -> dict[str, dict[str, Any]]:
    """Return what the tables say of scans that a labels file has spoken of, by scan_id.

    Args:
        objects: those that will be read, columns of ``storage.LISTING``.
    """
    found = delta.ask(
        """
        SELECT scan_id, sex, age_years, views, pixel_mm, pixel_column_mm
        FROM scans SEMI JOIN objects
            ON objects.object_uri = scans.source_uri AND objects.etag = scans.etag
        WHERE label_by IS NOT NULL""",
        scans=delta.dataset(tables_uri, "restricted/scans"),
        objects=objects,
    )
    return {row["scan_id"]: row for row in found.to_pylist()}


def update(
    tables_uri: str, name: str, rows: pa.Table, keys: Sequence[str], check: Callable[[], None]
) -> None:
    """Set the columns of ``rows`` that are no keys, where the keys are equal.

    Args:
        tables_uri: root of the tables.
        name: of the table.
        rows: columns of the table, the keys among them.
        keys: which of its columns name a row.
        check: called before the commit; raises when this run lost its lease.
    """
    table = delta.delta(tables_uri, name)
    if table is None or not rows.num_rows:
        return
    check()
    delta.add_columns(name, table)
    schema = contract.SCHEMAS[name]
    source = rows.cast(pa.schema([schema.field(column) for column in rows.schema.names]))
    changed = {column: f"s.{column}" for column in rows.schema.names if column not in keys}
    committed(merged(table, source, keys).when_matched_update(changed).execute)

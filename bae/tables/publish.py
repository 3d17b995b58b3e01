"""Staged rows into tables: one atomic Delta commit per table, each row exactly once.

Three nets, each enough by itself for the fault it is meant for:

- every commit carries the run as a Delta application transaction, so a table that
  already has this run is left alone: a publish that was killed is simply repeated;
- rows are compared with the table by their natural key and only new ones are added;
- a commit that meets a newer version of its table than it was compared with fails,
  so two publishers at once cannot both add the same rows.

Every table is committed, even without rows, and ``cohort/ages`` last: its commit says that the
run is whole, and ``bae.tables`` hides rows of runs that have not got that far. A later run finds
their rows by the same keys, so it takes them for its own.
"""

import contextlib
import itertools
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from bae import storage
from bae.errors import LockedError, RunError, StorageError
from bae.tables import compare, contract, current, delta, settings, splits
from bae.tables.runs import Run, unfinished

_log = logging.getLogger(__name__)

_FILE_BYTES = 128 * 2**20
_CONFIGURATION: dict[str, str | None] = {
    # A paper's cohort must stay readable by version: keep the log for ten years and
    # replaced files for thirty days (`jobs.maintain` removes them after that).
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
}
# Statistics of keys and object names would stay in the log after a patient's erasure, and
# paths do not belong in any log. Files keep their own statistics, which go with the file.
_NEVER_IN_LOG = {
    "scan_id",
    "patient_key",
    "person_key",
    "study_key",
    "object_uri",
    "source_uri",
    "etag",
    "message",
}

# Heat maps differ all: a dictionary or a least and largest one would only cost.
_COLUMNS = {
    "cohort/heatmaps": {
        "heat": ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    }
}
# Rows in sorted order in one file, at most a few hundred MB of memory.
_STRETCH_ROWS = {"cohort/heatmaps": 262_144}
_ROW_GROUP = {"cohort/heatmaps": 16384}


def publish(
    run: Run, check: Callable[[], None] = lambda: None
) -> tuple[dict[str, int], Counter[str]]:
    """Add a run's staged rows to the tables; a second call changes nothing.

    Args:
        run: its staged files are in the schema ``contract.STAGED``.
        check: called before each commit; raises when this run lost its lease.

    Returns:
        Rows added to each table, 0 where the run was there already, and the run's refusals by
        code; none where a call that was killed has published all.

    Raises:
        TablesError: staged files or tables do not fit the contract.
        LockedError: another run published at the same time; nothing of this table was added.
    """
    finish_halves(run.tables_uri, check, run.run_id)
    with delta.storage_errors("publish the run"):
        return _publish(run, check)


def _publish(run: Run, check: Callable[[], None]) -> tuple[dict[str, int], Counter[str]]:
    run_id = run.run_id
    staged = compare.staged(run.staged_uri)
    opened = {name: _opened(run.tables_uri, name) for name in contract.SCHEMAS}
    added = dict.fromkeys(contract.SCHEMAS, 0)
    if _has_run(opened[delta.LAST], run_id):
        return added, Counter()
    now = datetime.now(UTC)
    told = settings.read(run.tables_uri)
    told = told or settings.Settings(key_fingerprint="")
    with tempfile.TemporaryDirectory(prefix="bae-publish-") as spill:
        connection = compare.database(spill, staged, run.objects(), opened)
        splits.assign(connection)
        refused = compare.refused(connection, run_id)
        for name, table in opened.items():
            if _has_run(table, run_id):
                continue
            version = run.decoder_version
            rows = compare.rows(connection, name, run_id, now, told, version)
            first = next(rows, None)
            check()
            added[name] = _commit(name, table, run_id, first, rows)
            _log.info("published %d rows of %s", added[name], name)
        connection.close()
    return added, refused


def _opened(tables_uri: str, name: str) -> DeltaTable:
    """Open a table; make it, without rows, where there is none.

    Two first runs at once would otherwise both add all their rows: without a table there is no
    version to compare with, so none to conflict on.
    """
    table = delta.delta(tables_uri, name)
    if table is None:
        place = delta.uri(tables_uri, name)
        with contextlib.suppress(CommitFailedError, DeltaError):  # another run was faster
            DeltaTable.create(
                place,
                contract.SCHEMAS[name],
                mode="ignore",
                name=name.partition("/")[2],
                configuration=_configuration(name),
                storage_options=storage.table_options(place),
            )
        table = delta.delta(tables_uri, name)
        if table is None:
            raise StorageError(f"cannot make {name}: the storage refuses or does not answer")
    delta.add_columns(name, table)
    return table


def finish_halves(tables_uri: str, check: Callable[[], None], run_id: str = "") -> None:
    """Publish what another run than ``run_id``, killed while publishing, left half done.

    So at most one run is half published at any time, which is what readers leave out.
    """
    for run in unfinished(tables_uri):
        if run.run_id == run_id or _has_run(delta.delta(tables_uri, delta.LAST), run.run_id):
            continue
        if has_begun(run):
            _log.warning("finishing run %s, which was killed while publishing", run.run_id)
            _publish(run, check)


def finish(
    run: Run, check: Callable[[], None] = lambda: None
) -> tuple[dict[str, int], Counter[str]]:
    """Publish a run whose parts are all staged, then drop its staging area; see ``publish``.

    Raises:
        RunError: parts are missing, or an object was neither read nor refused.
    """
    parts = run.parts()
    left = len(parts.keys() - run.staged())
    if left:
        raise RunError(f"{left} parts of the run are not done; run again to finish them")
    if parts:
        objects = pa.concat_tables(parts.values())
        with delta.storage_errors("read the staged rows"):
            missing = compare.unaccounted(objects, compare.staged(run.staged_uri))
        if missing:
            raise RunError(f"{missing} objects were neither read nor refused; nothing is published")
    published = publish(run, check)
    _settle(run, check)
    run.remove()
    return published


def refused_again(run: Run) -> int:
    """Return how many objects a published run refused that were refused before."""
    with delta.storage_errors("count what was refused again"):
        found = delta.ask(
            "SELECT count(DISTINCT object_uri) FROM rejects WHERE run_id = $run AND attempts > 1",
            {"run": run.run_id},
            rejects=delta.dataset(run.tables_uri, "restricted/rejects"),
        )
    return int(found[0][0].as_py())


def _settle(run: Run, check: Callable[[], None]) -> None:
    """Mark refusals as history whose objects this run has tried again, whatever came of it.

    Refused again they have a newer row. The run stays unfinished until this is done.
    """
    table = delta.delta(run.tables_uri, "restricted/rejects")
    with delta.storage_errors("mark what was tried again"):
        found = delta.ask(
            """
            SELECT DISTINCT rejects.object_uri, rejects.etag, code, run_id
            FROM rejects JOIN objects
                ON objects.object_uri = source_uri AND objects.etag = rejects.etag
            WHERE retried AND settled_at IS NULL AND coalesce(attempts, 1) < attempt
                  AND (model_id IS NULL OR model_id = $model)""",
            {"model": run.model_id},
            rejects=delta.dataset_of("restricted/rejects", table),
            objects=run.objects(),
        )
    now = pa.array([datetime.now(UTC)] * found.num_rows, pa.timestamp("us", tz="UTC"))
    rows = found.append_column("settled_at", now)
    current.update(run.tables_uri, "restricted/rejects", rows, found.schema.names, check)


def has_begun(run: Run) -> bool:
    """Say whether some table has the run: then it must be finished, and not be given up."""
    return any(_has_run(delta.delta(run.tables_uri, name), run.run_id) for name in contract.SCHEMAS)


def _has_run(table: DeltaTable | None, run_id: str) -> bool:
    return table is not None and table.transaction_version(run_id) is not None


def _configuration(name: str) -> dict[str, str | None]:
    """Return the settings of a new table."""
    simple = [
        field.name
        for field in contract.SCHEMAS[name]
        if field.name not in _NEVER_IN_LOG
        and not pa.types.is_nested(field.type)
        and not pa.types.is_binary(field.type)
    ]
    return _CONFIGURATION | {"delta.dataSkippingStatsColumns": ",".join(simple)}


def _commit(
    name: str,
    table: DeltaTable,
    run_id: str,
    first: pa.RecordBatch | None,
    rest: Iterator[pa.RecordBatch],
) -> int:
    """Write rows and commit them as one version; return how many there were."""
    count = 0

    def stretches() -> Iterator[pa.RecordBatch]:
        """Put sorted batches together: deltalake's writer keeps order within a batch only."""
        nonlocal count
        waiting: list[pa.RecordBatch] = []
        for batch in itertools.chain([] if first is None else [first], rest):
            waiting.append(batch)
            count += batch.num_rows
            if sum(one.num_rows for one in waiting) >= _STRETCH_ROWS.get(name, 1_000_000):
                yield pa.concat_batches(waiting).cast(schema)
                waiting = []
        if waiting:
            yield pa.concat_batches(waiting).cast(schema)

    # the table's own: a description that has changed since would be refused as another schema
    there = pa.schema(table.schema().to_arrow())
    schema = pa.schema([there.field(field.name) for field in contract.SCHEMAS[name]])
    try:
        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(schema, stretches()),
            mode="append",
            target_file_size=_FILE_BYTES,
            writer_properties=WriterProperties(
                compression="ZSTD",
                compression_level=3,
                max_row_group_size=_ROW_GROUP.get(name, 131072),
                column_properties=_COLUMNS.get(name),
            ),
            commit_properties=CommitProperties(
                custom_metadata={"run_id": run_id},
                # Rows were compared with this very version: never commit onto another.
                max_commit_retries=0,
                # the version orders runs, whose names say the month only
                app_transactions=[Transaction(run_id, table.version() + 1)],
            ),
        )
    except CommitFailedError as error:
        raise LockedError(
            f"another run published {name} at the same time; nothing was added, run again"
        ) from error
    return count

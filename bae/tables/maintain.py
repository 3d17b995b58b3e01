"""Tidy files: put together what is small, delete what nobody needs.

All of it holds the lease (``bae.tables.lease``) while it works, commits atomically per table,
and writes no key, no path and no condition that contains one into a table's log.
"""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, WriterProperties
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableMerger

from bae import storage
from bae.errors import LockedError, UseError
from bae.tables import contract, delta, runs

_SMALL_FILES = 8
"""Files per table that are fine; above it they are put together."""
_FILE_BYTES = 128 * 2**20
_SORTED_BY = {
    "restricted/scans": "scan_id",
    "restricted/rejects": "code",
    "cohort/heatmaps": "scan_id",
    "cohort/boxes": "scan_id",
    "cohort/ages": "patient_key",
}


def no_check() -> None:
    """Stand for a run without a lease."""


def merged(table: DeltaTable, source: pa.Table, keys: Sequence[str]) -> TableMerger:
    """Begin a merge of rows ``s`` into the rows ``t`` that have the same keys.

    Its condition names columns only: the values of a plain delete's would stand in the log.
    """
    return table.merge(
        source,
        predicate=" AND ".join(f"t.{key} = s.{key}" for key in keys),
        source_alias="s",
        target_alias="t",
        writer_properties=WriterProperties(compression="ZSTD"),
        commit_properties=without_retry(),
    )


def compact(tables_uri: str, check: Callable[[], None] = no_check) -> dict[str, tuple[int, int]]:
    """Put small files together into sorted files of about 128 MiB; rows stay as they are.

    Returns:
        Table to files before and after, for the tables that had too many.
    """
    changed = {}
    for name in contract.SCHEMAS:
        table = delta.delta(tables_uri, name)
        if table is None:
            continue
        sizes = pa.table(table.get_add_actions())["size_bytes"]
        before = len(sizes)
        if before <= _SMALL_FILES + 2 * (pc.sum(sizes).as_py() or 0) // _FILE_BYTES:
            continue
        check()
        rewrite = functools.partial(
            table.optimize.z_order,
            [_SORTED_BY[name]],
            target_size=_FILE_BYTES,
            max_concurrent_tasks=2,
            max_spill_size=2**30,
            writer_properties=WriterProperties(compression="ZSTD", compression_level=3),
            commit_properties=without_retry(),
        )
        committed(rewrite)
        table.update_incremental()
        changed[name] = (before, len(table.file_uris()))
    return changed


def vacuum(tables_uri: str, keep_days: int = contract.KEEP_DAYS) -> int:
    """Delete files that no version of the last ``keep_days`` days needs; return how many.

    Also those that no version ever had, which a killed writer leaves: hold the lease.
    """
    return _vacuumed(tables_uri, keep_days, dry_run=False)


def unneeded(tables_uri: str, keep_days: int = contract.KEEP_DAYS) -> int:
    """Return how many files ``vacuum`` would delete."""
    return _vacuumed(tables_uri, keep_days, dry_run=True)


def _vacuumed(tables_uri: str, keep_days: int, dry_run: bool) -> int:
    found = 0
    for name in contract.SCHEMAS:
        table = delta.delta(tables_uri, name)
        if table is not None:
            found += len(
                table.vacuum(
                    retention_hours=24 * keep_days,
                    dry_run=dry_run,
                    enforce_retention_duration=False,
                    full=True,
                )
            )
    return found


def drop_abandoned(tables_uri: str, keep_days: int = contract.KEEP_DAYS) -> int:
    """Delete staging folders that never became a run, or whose run is published; count them."""
    folders = abandoned(tables_uri, keep_days)
    for folder in folders:
        storage.delete(folder)
    return len(folders)


def abandoned(tables_uri: str, keep_days: int = contract.KEEP_DAYS) -> list[str]:
    """Return the staging folders of no unfinished run, untouched for ``keep_days`` days."""
    folder = storage.join(storage.normal(tables_uri), contract.STAGING)
    if not storage.exists(folder):
        return []
    alive = {run.run_id for run in runs.unfinished(tables_uri)}
    oldest = datetime.now(UTC) - timedelta(days=keep_days)
    written = storage.last_written(folder)
    return [storage.join(folder, name) for name in written.keys() - alive if written[name] < oldest]


def give_up(tables_uri: str, run_id: str) -> None:
    """Drop an unfinished run for good: what it has staged is read again by a later run.

    Raises:
        UseError: there is no such run.
    """
    unfinished(tables_uri, run_id).remove()


def unfinished(tables_uri: str, run_id: str) -> runs.Run:
    """Return the unfinished run of this name.

    Raises:
        UseError: there is no such run.
    """
    found = {run.run_id: run for run in runs.unfinished(tables_uri)}
    if run_id not in found:
        known = f"unfinished are {', '.join(found)}" if found else "no run is unfinished"
        raise UseError(f"there is no unfinished run {run_id}; {known}")
    return found[run_id]


def without_retry() -> CommitProperties:
    """Return properties of a commit that fails if the table changed meanwhile."""
    return CommitProperties(max_commit_retries=0)


def committed(commit: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Commit; raise LockedError if another run was faster."""
    try:
        return commit()
    except CommitFailedError as error:
        raise LockedError("another run changed the tables at the same time; run again") from error

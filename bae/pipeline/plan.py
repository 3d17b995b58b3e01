"""What a run over an archive has to do, found out without Ray, torch, or reading an object.

The night itself asks here before it reads; ``jobs.predict --plan`` asks and reads nothing.
"""

from dataclasses import dataclass

import pyarrow as pa

from bae import storage
from bae.archive import inventory, privacy, refusals
from bae.errors import StorageError, UseError
from bae.tables import contract, current, delta, nights, runs, settings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the next run with the same flags will do, if the archive stays as it is.

    Attributes:
        listed: objects of the archive.
        done: those with nothing left to do.
        new: those never read.
        changed: those read before at another version.
        retried: those refused before and tried again.
        unscored: those read before at this version, that this model has yet to score.
        gone: objects that the tables know and the archive has no more; their rows are marked.
        to_read: objects that will be read. Beside new, changed, retried and unscored ones those
            that an unfinished run still has, less those whose result it has already.
        unfinished: that run's id, or None.
        takes: how long, by the last nights; None where no night has read any object yet.
    """

    listed: int
    done: int
    new: int
    changed: int
    retried: int
    unscored: int
    gone: int
    to_read: int
    unfinished: str | None
    takes: nights.Estimate | None


def plan(
    archive_uri: str,
    tables_uri: str,
    model_id: str | None,
    *,
    inventory_uri: str | None = None,
    retry_rejected: tuple[str, ...] = (),
) -> Plan:
    """Say what is left to do; writes nothing.

    Raises:
        UseError: archive missing or empty, or no tables can lie at this place.
    """
    listing = listed(archive_uri, inventory_uri)
    todo = runs.todo(tables_uri, listing, model_id, retry(retry_rejected))
    kinds = _kinds(tables_uri, todo)
    begun = runs.unfinished_of(tables_uri, archive_uri, model_id)
    to_read = todo.num_rows
    if begun:
        keys = ["object_uri", "etag"]
        more = todo.join(begun.objects().select(keys), keys, join_type="left anti").num_rows
        to_read = more + sum(part.num_rows for part in begun.remaining().values())
    job = "index" if model_id is None else "predict"
    found = nights.last(tables_uri)
    return Plan(
        listed=listing.num_rows,
        done=listing.num_rows - todo.num_rows,
        **kinds,
        gone=current.gone(tables_uri, archive_uri, listing),
        to_read=to_read,
        unfinished=begun.run_id if begun else None,
        takes=nights.estimate(found, job, model_id, to_read),
    )


def listed(archive_uri: str, inventory_uri: str | None = None) -> pa.Table:
    """List an archive, or read its inventory; see ``storage.list_objects``.

    Raises:
        StorageError: missing, unreadable or empty.
    """
    found = (
        inventory.read(inventory_uri, archive_uri)
        if inventory_uri
        else storage.list_objects(archive_uri)
    )
    if not found.num_rows:
        raise StorageError(f"the archive {archive_uri} holds no objects")
    return found


def retry(asked: tuple[str, ...] = ()) -> runs.Retry:
    """Return which refused objects are tried again: those that are anyway, and those asked for."""
    return runs.Retry(
        transient=refusals.TRANSIENT, asked=asked, decoder_version=refusals.DECODER_VERSION
    )


def agreed(
    tables_uri: str, age_decimals: int | None = None, key: bytes | None = None
) -> settings.Settings:
    """Return what holds for all rows, by default with the key that this machine was given.

    Raises:
        UseError: there is no key, or the tables do not agree; see ``settings.agreed``.
    """
    fingerprint = privacy.fingerprint(key or privacy.load_key())
    made = storage.join(tables_uri, contract.PSEUDONYM_FILE)
    old = storage.read_or_none(made) if settings.read(tables_uri) is None else None
    if old is not None and privacy.fingerprint(privacy.checked(old, made)) != fingerprint:
        raise UseError(
            f"an earlier version of bae made the key of these tables: set "
            f"{privacy.KEY_VARIABLE} to the content of {made}"
        )
    return settings.agreed(tables_uri, fingerprint, age_decimals)


def _kinds(tables_uri: str, todo: pa.Table) -> dict[str, int]:
    """Count what is to be done by why."""
    with delta.storage_errors("compare the archive with the tables"):
        found = delta.ask(
            """
            WITH seen AS (
                SELECT source_uri AS object_uri, etag FROM scans
                UNION SELECT source_uri, etag FROM rejects),
            why AS (
                SELECT CASE WHEN retried THEN 'retried'
                            WHEN seen.etag IS NOT NULL THEN 'unscored'
                            WHEN object_uri IN (SELECT object_uri FROM seen) THEN 'changed'
                            ELSE 'new' END AS kind
                FROM todo LEFT JOIN seen USING (object_uri, etag))
            SELECT kind, count(*) AS objects FROM why GROUP BY kind""",
            todo=todo,
            scans=delta.dataset(tables_uri, "restricted/scans"),
            rejects=delta.dataset(tables_uri, "restricted/rejects"),
        )
    counted = dict(zip(*(found[name].to_pylist() for name in ("kind", "objects")), strict=True))
    return {kind: counted.get(kind, 0) for kind in ("new", "changed", "retried", "unscored")}

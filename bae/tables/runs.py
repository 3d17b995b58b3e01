"""What is left to do, and a run that survives being killed.

A run is a folder ``<tables>/restricted/staging/<run_id>/``::

    todo-000.parquet     objects to read, one row group per part
    run.json             written last: from here on the run exists
    staged/000017.parquet    the result of part 17, one row per decoded scan or refusal

Each part's result is one object, written whole by whoever scored it. So what is left
of a broken run is the parts without a staged file; a part done twice overwrites itself
with the same rows; and nobody keeps a list of finished scans in memory. A part that kills its
workers is cut: a later to-do file holds the pieces and names the part they replace.
"""

import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bae import storage
from bae.errors import TablesError
from bae.tables import compare, contract, delta

PART_OBJECTS = 64
"""Most objects in a part: the work that a killed worker repeats."""
PART_BYTES = 80 << 20
"""About the most bytes of objects in a part: each worker holds some of them in memory."""
_MOST_PARTS = 4096


RETRY_NIGHTS = 3
"""Runs that try an object again whose refusal was transient, after the one that refused it."""

TO_DO = storage.LISTING.append(pa.field("attempt", pa.int32())).append(
    pa.field("retried", pa.bool_())
)
"""A to-do list: what was listed, which try this is (1 is the first), and whether the object was
refused at this version before and is tried again."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Which refused objects to try again.

    Attributes:
        transient: codes after which an object is tried in the next ``RETRY_NIGHTS`` runs.
        asked: codes after which it is tried now, however often it was.
        decoder_version: what an older decoder refused is tried once more; None: nothing is.
    """

    transient: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    decoder_version: int | None = None


def todo(
    tables_uri: str, listing: pa.Table, model_id: str | None, retry: Retry | None = None
) -> pa.Table:
    """Return the listed objects that have something left to do.

    An object is known at the version (etag) it was read at; with a model, all scans
    in it must have been scored by that model. A refusal at this version counts as
    done: without a model in it for all models, otherwise for that model. The exceptions
    are what ``retry`` says (by default there are none).

    Returns:
        The rows of ``listing`` to work on, in the schema ``TO_DO``, sorted by ``object_uri``.
    """
    retry = retry or Retry()
    with delta.storage_errors("compare the archive with the tables"):
        left = """
            WITH refused AS (
                SELECT object_uri, source_uri, etag, code, stage, settled_at,
                       coalesce(decoder_version, 1) AS version,
                       max(coalesce(attempts, 1)) OVER (PARTITION BY source_uri, etag) AS tried
                FROM rejects WHERE model_id IS NULL OR model_id = $model),
            open AS (FROM refused WHERE settled_at IS NULL),
            again AS (
                SELECT DISTINCT source_uri AS object_uri, etag FROM open
                WHERE list_contains($asked::VARCHAR[], code)
                   OR (list_contains($transient::VARCHAR[], code) AND tried <= $nights)
                   OR (stage <> 'score' AND version < $decoder)),
            tries AS (
                SELECT DISTINCT source_uri AS object_uri, etag, tried FROM refused),
            scored AS (SELECT scan_id, object_version FROM ages WHERE model_id = $model),
            unscored AS (
                SELECT source_uri AS object_uri, etag
                FROM scans ANTI JOIN scored USING (scan_id, object_version)
                           ANTI JOIN open USING (object_uri, etag)
                WHERE $model IS NOT NULL),
            seen AS (
                SELECT source_uri AS object_uri, etag FROM scans
                UNION SELECT source_uri, etag FROM refused),
            done AS (
                FROM seen ANTI JOIN unscored USING (object_uri, etag)
                          ANTI JOIN again USING (object_uri, etag))
            SELECT object_uri, etag, size_bytes,
                   coalesce(tried, 1) + (again.etag IS NOT NULL)::INT AS attempt,
                   again.etag IS NOT NULL AS retried
            FROM listing ANTI JOIN done USING (object_uri, etag)
                 LEFT JOIN tries USING (object_uri, etag)
                 LEFT JOIN again USING (object_uri, etag)
            ORDER BY object_uri"""
        found = delta.ask(
            left,
            {
                "model": model_id,
                "asked": list(retry.asked),
                "transient": list(retry.transient),
                "nights": RETRY_NIGHTS,
                "decoder": retry.decoder_version or 0,
            },
            listing=listing,
            scans=delta.dataset(tables_uri, "restricted/scans"),
            rejects=delta.dataset(tables_uri, "restricted/rejects"),
            ages=delta.dataset(tables_uri, "cohort/ages"),
        )
    return found.cast(TO_DO)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run's staging area. Plain values: it travels to workers as it is.

    Attributes:
        run_id: month and eight random digits: it stands in ``cohort/``, where the day of a scan
            beside an age would be a birthday. In bae 0.1 it was the time of start.
        model_id: the model to score with, None where only indexing.
        begun_at: time of start, as in ``20261124T203859Z``; in ``restricted/`` only.
        decoder_version: of the decoder that began it; whoever goes on may have a newer one.
    """

    tables_uri: str
    run_id: str
    archive_uri: str
    model_id: str | None = None
    begun_at: str | None = None
    decoder_version: int | None = None

    @property
    def uri(self) -> str:
        """Return the run's folder."""
        return storage.join(self.tables_uri, contract.STAGING, self.run_id)

    @property
    def staged_uri(self) -> str:
        """Return the folder of staged results."""
        return storage.join(self.uri, "staged")

    def parts(self) -> dict[int, pa.Table]:
        """Return all parts: number -> objects in the schema ``TO_DO``; none that was cut."""
        parts: list[pa.Table] = []
        cut: set[int] = set()
        for name in sorted(_below(self.uri, "todo-")):
            file = pq.ParquetFile(io.BytesIO(storage.read_bytes(name)))
            cut |= set(json.loads((file.schema_arrow.metadata or {}).get(_CUT, b"[]")))
            parts += [_as_todo(file.read_row_group(i)) for i in range(file.num_row_groups)]
        return {number: part for number, part in enumerate(parts) if number not in cut}

    def objects(self) -> pa.Table:
        """Return all objects, in the order in which they were listed: ``TO_DO`` and their part."""
        parts = [
            objects.append_column("part", pa.array([number] * objects.num_rows, pa.int64()))
            for number, objects in self.parts().items()
        ]
        empty = TO_DO.append(pa.field("part", pa.int64())).empty_table()
        return pa.concat_tables([empty, *parts])

    def cut(self, pieces: Mapping[int, int]) -> list[int]:
        """Replace parts by so many pieces each, all in one write; return their new numbers.

        Their objects count as listed later than those of the other parts, which matters only
        where two versions of one object are in the run.
        """
        before, parts = self.parts(), list[pa.Table]()
        for number, wanted in pieces.items():
            rows = -(-before[number].num_rows // wanted)
            starts = range(0, before[number].num_rows, rows)
            parts += [before[number].slice(start, rows) for start in starts]
        _write_parts(self, parts, cut=[*pieces])
        return sorted(self.parts().keys() - before)

    def label_keys(self) -> pa.Table:
        """Return label_by, label_row and person_key of all scans that are staged."""
        names = ["label_by", "label_row", "person_key"]
        scans = compare.staged(self.staged_uri).to_table(columns=["scan"])["scan"].drop_null()
        columns = [pc.struct_field(scans, name) for name in names]
        return pa.table(columns, names=names)

    def remaining(self) -> dict[int, pa.Table]:
        """Return the parts without a staged result: number -> objects."""
        done = self.staged()
        return {number: part for number, part in self.parts().items() if number not in done}

    def staged(self) -> set[int]:
        """Return the numbers of the parts whose result is there."""
        names = _below(self.staged_uri, "")
        return {int(name.rsplit("/", 1)[1].removesuffix(".parquet")) for name in names}

    def store(self, number: int, rows: pa.Table) -> None:
        """Write one part's rows whole; written again, they replace themselves.

        Raises:
            TablesError: the rows do not have the columns of ``contract.STAGED``.
        """
        if not contract.same_columns(rows.schema, contract.STAGED):
            raise TablesError("staged rows must have the columns of bae.tables.contract.STAGED")
        sink = io.BytesIO()
        pq.write_table(rows.cast(contract.STAGED), sink, compression="zstd")
        name = storage.join(self.staged_uri, f"{number:06d}.parquet")
        storage.write_bytes(name, sink.getvalue())

    def remove(self) -> None:
        """Delete the staging area, its ``run.json`` first so that nobody resumes half of it."""
        storage.delete(storage.join(self.uri, "run.json"))
        storage.delete(self.uri)


def open_run(
    tables_uri: str,
    archive_uri: str,
    model_id: str | None,
    todo: pa.Table,
    part_objects: int | None = None,
    decoder_version: int | None = None,
) -> Run:
    """Resume the unfinished run of this archive and model, or begin one.

    Objects of ``todo`` (in the schema ``TO_DO``, or a plain listing) that the unfinished run does
    not have yet are added to it.
    """
    todo = _as_todo(todo)
    if run := unfinished_of(tables_uri, archive_uri, model_id):
        keys = ["object_uri", "etag"]
        known = run.objects().select(keys)
        more = todo.join(known, keys, join_type="left anti")
        _write_todo(run, more.sort_by("object_uri"), part_objects)
        return run
    now = datetime.now(UTC)
    run = Run(
        tables_uri=storage.normal(tables_uri),
        run_id=f"{now:%Y-%m}-{secrets.token_hex(4)}",
        begun_at=f"{now:%Y%m%dT%H%M%SZ}",
        archive_uri=storage.normal(archive_uri),
        model_id=model_id,
        decoder_version=decoder_version,
    )
    _write_todo(run, todo, part_objects)
    facts = {key: value for key, value in asdict(run).items() if key != "tables_uri"}
    storage.write_bytes(storage.join(run.uri, "run.json"), json.dumps(facts).encode())
    return run


def unfinished(tables_uri: str) -> list[Run]:
    """Return the runs that were begun and not yet published, oldest first."""
    place = storage.normal(tables_uri)
    folder = storage.join(place, contract.STAGING)
    names = [name for name in _below(folder, "") if name.endswith("/run.json")]
    found = [Run(tables_uri=place, **json.loads(storage.read_bytes(name))) for name in names]
    return sorted(found, key=lambda run: (run.begun_at or run.run_id, run.run_id))


def unfinished_of(tables_uri: str, archive_uri: str, model_id: str | None) -> Run | None:
    """Return the unfinished run of this archive and model; there is at most one."""
    wanted = storage.normal(archive_uri), model_id
    found = unfinished(tables_uri)
    return next((run for run in found if (run.archive_uri, run.model_id) == wanted), None)


def divided(objects: pa.Table, part_objects: int | None = None) -> list[pa.Table]:
    """Divide objects into parts, in their order.

    A part ends when it holds ``part_objects`` objects or about ``PART_BYTES``, whichever
    comes first. Both limits are raised where there would be more than 4096 parts.
    """
    if not objects.num_rows:
        return []
    size = objects["size_bytes"].to_numpy()
    # half of the parts may end by their number of objects, half by their bytes
    half = _MOST_PARTS // 2
    most = max(part_objects or PART_OBJECTS, -(-len(size) // half))
    # each object fills a share of its part: by its bytes, and no less than one of the most
    least = -(-max(PART_BYTES, -(-int(size.sum()) // half)) // most)
    filled = np.maximum(size, least).cumsum()
    part = (filled - np.maximum(size, least)) // (least * most)
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    ends = [*starts[1:], objects.num_rows]
    return [objects.slice(start, end - start) for start, end in zip(starts, ends, strict=True)]


_CUT = b"cut"
"""Key in the metadata of a to-do file: numbers of the parts that its own parts replace."""


def _as_todo(objects: pa.Table) -> pa.Table:
    """Return objects in the schema ``TO_DO``: a plain listing is tried for the first time."""
    count = objects.num_rows
    if "attempt" not in objects.schema.names:
        objects = objects.append_column("attempt", pa.array([1] * count, pa.int32()))
        objects = objects.append_column("retried", pa.array([False] * count, pa.bool_()))
    return objects.select(TO_DO.names).cast(TO_DO)


def _write_todo(run: Run, objects: pa.Table, part_objects: int | None) -> None:
    _write_parts(run, divided(objects, part_objects))


def _write_parts(run: Run, parts: Sequence[pa.Table], cut: Sequence[int] = ()) -> None:
    if not parts:
        return
    sink = io.BytesIO()
    schema = TO_DO.with_metadata({_CUT: json.dumps(list(cut)).encode()})
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(part.cast(schema), row_group_size=part.num_rows)
    files = len(_below(run.uri, "todo-"))
    storage.write_bytes(storage.join(run.uri, f"todo-{files:03d}.parquet"), sink.getvalue())


def _below(folder: str, start: str) -> list[str]:
    """Return the URIs of the objects below a folder whose name there begins with ``start``."""
    if not storage.exists(folder):
        return []
    names: list[str] = storage.list_objects(folder)["object_uri"].to_pylist()
    return [name for name in names if name[len(folder) + 1 :].startswith(start)]

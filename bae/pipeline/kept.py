"""What a step answers for some scans, kept beside the tables so that nobody asks twice.

::

    <tables>/restricted/samples/<name>-<key>/000000.parquet    one file per part

The key is a digest of what the answers depend on, object versions among them. A change of
any gives another folder; nothing is ever stale. A file that is not whole is made again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bae import recipes, storage
from bae.archive.intake import Decoded
from bae.archive.refusals import DECODER_VERSION
from bae.errors import RunError, UseError
from bae.pipeline.cluster import deaths
from bae.pipeline.parts import run_parts
from bae.pipeline.rows import killer
from bae.pipeline.step import OnPart, PartDone, Reading, Step
from bae.scan import Scan
from bae.tables import contract, current, delta, lease, publish
from bae.tables.runs import divided, open_run

KEPT = "training and evaluation"
"""What stands for a model where they have refused an object: the nightly job may still read it."""


def cache(tables_uri: str, name: str, state: object, schema: pa.Schema) -> Cache:
    """Return where answers are kept that depend on ``state``, a value that JSON can hold.

    The schema's first column is ``scan_id``.
    """
    key = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    return Cache(uri=storage.join(tables_uri, contract.SAMPLES, f"{name}-{key}"), schema=schema)


def answers(tables_uri: str, scans: pa.Table, step: KeptStep, on_part: OnPart) -> pa.Table:
    """Return what a step says of each scan, in the scans' order, done before or now.

    Raises:
        RunError: a scan of the table can no longer be read.
    """
    files = make(tables_uri, {"": scans}, step, on_part)[""]
    rows = _read(files)
    place = {scan_id: row for row, scan_id in enumerate(rows["scan_id"].to_pylist())}
    wanted = scans["scan_id"].to_pylist()
    missing = sum(scan_id not in place for scan_id in wanted)
    if missing:
        storage.delete(step.cache.uri)  # a later call must not find the gap in the cache
        raise RunError(
            f"{missing} of {len(wanted)} scans of the table can no longer be read; run jobs.index "
            "over the archive, then again"
        )
    return rows.take([place[scan_id] for scan_id in wanted])


def _read(files: Sequence[str]) -> pa.Table:
    found = [pq.read_table(pa.BufferReader(storage.read_bytes(file))) for file in files]
    return pa.concat_tables(found)


def make(
    tables_uri: str, scans: Mapping[str, pa.Table], step: KeptStep, on_part: OnPart
) -> dict[str, list[str]]:
    """Make the files of a cache that are not there yet; return all files of each split.

    Raises:
        RunError: an object ends the process that reads it. It is refused by name in
            ``restricted/rejects``, and left out by the next call of ``training_scans``.
    """
    columns = ["source_uri", "etag", "size_bytes"]
    parts: dict[int, pa.Table] = {}
    files: dict[str, list[str]] = {}
    for split, table in scans.items():
        objects = table.select(columns).group_by(columns).aggregate([])
        objects = objects.rename_columns(storage.LISTING.names).sort_by("object_uri")
        own = dict(enumerate(divided(objects), start=len(parts)))
        parts |= own
        files[split] = [step.cache.file(number) for number in own]
    work = _Parts(cache=step.cache, parts=parts)
    left = work.remaining()
    if left:
        tried = functools.partial(run_parts, reading=Reading.of(tables_uri), step=step)
        for done in deaths.survive(work, tried):
            on_part(len(left), done)
    if work.killers:
        _quarantine(tables_uri, step.cache.uri, pa.concat_tables(work.killers))
    work.join()
    return files


@dataclass
class _Parts:
    """Parts of scans and the cache of their answers, as ``deaths.survive`` asks.

    A piece of a part has a number that says of which rows, the same in every job; when all
    pieces are done their answers become the part's.
    """

    cache: Cache
    parts: dict[int, pa.Table]
    pieces: dict[int, tuple[int, pa.Table]] = field(default_factory=dict)
    killers: list[pa.Table] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """Return the folder of the cache."""
        return self.cache.uri

    def remaining(self) -> dict[int, pa.Table]:
        """Return the parts, and pieces of parts, without a file; no part that was cut."""
        cut = {whole for whole, _ in self.pieces.values()}
        some = {number: part for number, part in self.parts.items() if number not in cut}
        some |= {number: piece for number, (_, piece) in self.pieces.items()}
        return {number: part for number, part in some.items() if not self.cache.holds(number)}

    def cut(self, pieces: Mapping[int, int]) -> list[int]:
        """Cut in memory; a later job would cut again."""
        made = []
        for number, wanted in pieces.items():
            whole, part = self.pieces.pop(number, (number, self.parts.get(number)))
            assert part is not None
            rows = -(-part.num_rows // wanted)
            for start in range(0, part.num_rows, rows):
                piece = part.slice(start, rows)
                first = self.parts[whole]["object_uri"].index(piece["object_uri"][0]).as_py()
                made.append(((whole + 1) * _PIECE + first) * _PIECE + piece.num_rows)
                self.pieces[made[-1]] = whole, piece
        return made

    def refuse(self, number: int, objects: pa.Table) -> PartDone:
        """Remember whom to name."""
        del self.pieces[number]
        self.killers.append(objects)
        return PartDone(number=number, scans=0, refused=objects.num_rows, seconds=0.0)

    def join(self) -> None:
        """Make files of whole parts from those of their pieces, and forget who died."""
        for whole in sorted({whole for whole, _ in self.pieces.values()}):
            own = sorted(number for number, (of, _) in self.pieces.items() if of == whole)
            self.cache.store(whole, _read([self.cache.file(number) for number in own]))
            for number in own:
                storage.delete(self.cache.file(number))
        storage.delete(deaths.Notes.place(self.uri))


_PIECE = 100_000
"""More than a part has objects."""


def _quarantine(tables_uri: str, folder: str, objects: pa.Table) -> NoReturn:
    """Refuse objects by name, for training and evaluation alone, and say so."""
    with lease.hold(tables_uri, "quarantine") as held:
        run = open_run(tables_uri, folder, None, objects, decoder_version=DECODER_VERSION)
        for number, part in run.remaining().items():
            run.store(number, killer(part, KEPT))
        publish.finish(run, held.check)
    raise RunError(
        f"{objects.num_rows} objects end the process that reads them, each by itself; they are "
        f"named in restricted/rejects as object_kills_worker, and the same command goes on without "
        "them"
    )


DOUBTFUL = ("age_disagrees", "label_age_disagrees")
"""Flags of scans of which two sources tell ages that lie years apart: one of them is wrong."""

KEPT_SETS = 4
"""Folders of samples kept for each network: both inputs of Table 1's methods, two recipes."""


def training_scans(tables_uri: str, recipe: recipes.Recipe, split: str) -> pa.Table:
    """Return the current scans of one split whose age lies within the recipe's age groups.

    Scans whose ages disagree are left out, of training as of errors, and objects that have ended
    the process that read them here.

    Raises:
        UseError: there are none.
    """
    scans = current.scans(tables_uri)
    low, high = recipe.localizer.group_edges_years[0], recipe.localizer.group_edges_years[-1]
    age = scans["age_years"]
    inside = pc.and_(pc.greater_equal(age, low), pc.less_equal(age, high))
    chosen = scans.filter(pc.and_(pc.equal(scans["split"], split), inside))
    doubtful = [not set(DOUBTFUL).isdisjoint(flags) for flags in chosen["flags"].to_pylist()]
    chosen = chosen.filter(pc.invert(pa.array(doubtful, pa.bool_())))
    deadly = _quarantined(tables_uri)
    objects = zip(chosen["source_uri"].to_pylist(), chosen["etag"].to_pylist(), strict=True)
    chosen = chosen.filter(pa.array([each not in deadly for each in objects], pa.bool_()))
    if not chosen.num_rows:
        raise UseError(
            f"no {split} scans with an age of {low:g} to {high:g} years in {tables_uri}; run "
            "jobs.index over an archive with ages first"
        )
    return chosen


def at_most(scans: pa.Table, most: int | None) -> pa.Table:
    """Return so many scans, or all: those that come first by their patients' pseudonyms.

    Pseudonyms are hashes: their order is chance, and the same on every day.
    """
    return scans if most is None else scans.sort_by("patient_key")[:most]


def _quarantined(tables_uri: str) -> set[tuple[str, str]]:
    """Return (source_uri, etag) of objects that end their readers, as far as this decoder knows."""
    rejects = delta.dataset(tables_uri, "restricted/rejects")
    here = (pc.field("model_id") == KEPT) & (pc.field("decoder_version") >= DECODER_VERSION)
    found = rejects.to_table(["source_uri", "etag"], filter=here).to_pylist()
    return {(row["source_uri"], row["etag"]) for row in found}


def digest(scans: pa.Table) -> str:
    """Return a digest of which object versions these are, for keys and the model's card."""
    pairs = zip(scans["scan_id"].to_pylist(), scans["etag"].to_pylist(), strict=True)
    return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Files of kept answers in one folder, one for each part. Plain values: it travels."""

    uri: str
    schema: pa.Schema

    def store(self, number: int, rows: pa.Table) -> None:
        """Write one part's answers whole."""
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd")
        storage.write_bytes(self.file(number), sink.getvalue())

    def holds(self, number: int) -> bool:
        """Say whether one part's answers are there, whole, and have the columns of today."""
        if not storage.exists(self.file(number)):
            return False
        filesystem, path = storage.pyarrow_filesystem(self.file(number))
        try:
            # the schema lies at the file's end: a file cut off has none
            return bool(pq.read_schema(path, filesystem=filesystem).equals(self.schema))
        except (pa.ArrowInvalid, OSError):
            return False

    def file(self, number: int) -> str:
        """Return the URI of one part's answers."""
        return storage.join(self.uri, f"{number:06d}.parquet")

    def drop_others(self, kept: int = KEPT_SETS) -> int:
        """Delete older folders of the same network beyond the newest few; return how many."""
        root, _, name = self.uri.rpartition("/")
        written = storage.last_written(root)
        alike = [f for f in written if f.split("-")[0] == name.split("-")[0] and f != name]
        old = sorted(alike, key=lambda folder: written[folder], reverse=True)[kept - 1 :]
        for folder in old:
            storage.delete(storage.join(root, folder))
        return len(old)


def among(items: Sequence[Decoded], wanted: Container[str]) -> Iterator[tuple[str, Scan]]:
    """Yield scan_id and scan of those wanted; a zip file may hold other scans beside them."""
    for item in items:
        if isinstance(item.outcome, Scan) and item.scan_id in wanted:
            yield item.scan_id, item.outcome


@dataclass(kw_only=True, eq=False)
class KeptStep(Step):
    """A step whose tables are kept in a cache."""

    cache: Cache

    def store(self, number: int, rows: pa.Table) -> None:
        """Write one part's table into the cache."""
        self.cache.store(number, rows)

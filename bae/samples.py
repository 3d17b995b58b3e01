"""Training samples: prepared pictures kept beside the tables, so no epoch decodes again.

::

    <tables>/restricted/samples/<key>/000000.parquet    one file per part, one row per view

The key is a digest of what the pictures depend on: recipe sections, localizer weights,
and the object versions. A change of any gives another folder; nothing is ever stale. A
file that is not whole is made again, and of each part's folders only the newest few stay.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from bae import recipes, storage, tables
from bae.errors import UseError
from bae.runs import divided
from bae.scan import SEX_CODE, Scan
from bae.staging import Decoded

SCHEMA = pa.schema(
    [
        pa.field("scan_id", pa.string(), metadata={"description": "pseudonym of the scan"}),
        pa.field("view", pa.string(), metadata={"description": "its name, or both together"}),
        pa.field("male", pa.float32(), metadata={"description": "0 female, 1 male, NaN unknown"}),
        pa.field("age_years", pa.float32(), metadata={"description": "age at acquisition, years"}),
        pa.field("image", pa.binary(), metadata={"description": "uint8 grey values, row-major"}),
    ]
)


KEPT_SETS = 4
"""Sets of samples kept for each part: both inputs of Table 1's methods and two recipes."""

Truth = dict[str, tuple[float, float]]
"""scan_id to (age in years, sex code): from the scans table, where labels already count."""


def truth(scans: pa.Table) -> Truth:
    """Return age and sex code of each scan of the scans table."""
    columns = (scans[name].to_pylist() for name in ("scan_id", "age_years", "sex"))
    return {scan_id: (age, SEX_CODE[sex]) for scan_id, age, sex in zip(*columns, strict=True)}


def wanted(items: Sequence[Decoded], known: Truth) -> Iterator[tuple[str, Scan]]:
    """Yield the scans to train on; a zip file may hold others beside them."""
    for item in items:
        if item.scan_id in known and isinstance(item.outcome, Scan):
            yield item.scan_id, item.outcome


def row(scan_id: str, view: str, known: Truth, picture: bytes) -> dict[str, Any]:
    """Return one sample as a row of ``SCHEMA``."""
    age, male = known[scan_id]
    return {"scan_id": scan_id, "view": view, "male": male, "age_years": age, "image": picture}


def training_scans(tables_uri: str, recipe: recipes.Recipe, split: str) -> pa.Table:
    """Return the scans of one split whose age lies within the recipe's age groups.

    Raises:
        UseError: there are none.
    """
    scans = tables.read(tables_uri, "restricted/scans")
    low, high = recipe.localizer.group_edges_years[0], recipe.localizer.group_edges_years[-1]
    age = scans["age_years"]
    inside = pc.and_(pc.greater_equal(age, low), pc.less_equal(age, high))
    there = pc.and_(pc.equal(scans["split"], split), pc.is_null(scans["removed_at"]))
    chosen = scans.filter(pc.and_(there, inside))
    # the newest version of each scan: it comes last, and a dictionary keeps the last
    chosen = chosen.sort_by([("scan_id", "ascending"), ("object_version", "ascending")])
    newest = {scan_id: row for row, scan_id in enumerate(chosen["scan_id"].to_pylist())}
    if not newest:
        raise UseError(
            f"no {split} scans with an age of {low:g} to {high:g} years in {tables_uri}; run "
            "jobs.index over an archive with ages first"
        )
    return chosen.take(list(newest.values()))


def digest(scans: pa.Table) -> str:
    """Return a digest of which object versions these are, for keys and the model's card."""
    pairs = zip(scans["scan_id"].to_pylist(), scans["etag"].to_pylist(), strict=True)
    return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The prepared pictures of some scans for one recipe. Plain values: it travels.

    Attributes:
        uri: the folder.
        schema: of its files.
    """

    uri: str
    schema: pa.Schema = SCHEMA

    def store(self, number: int, rows: pa.Table) -> None:
        """Write one part's samples whole."""
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd")
        storage.write_bytes(self.file(number), sink.getvalue())

    def holds(self, number: int) -> bool:
        """Say whether one part's samples are there, whole, and have the columns of today."""
        if not storage.exists(self.file(number)):
            return False
        filesystem, path = storage.pyarrow_filesystem(self.file(number))
        try:
            # the schema lies at the file's end: a file cut off has none
            return bool(pq.read_schema(path, filesystem=filesystem).equals(self.schema))
        except (pa.ArrowInvalid, OSError):
            return False

    def file(self, number: int) -> str:
        """Return the URI of one part's samples."""
        return storage.join(self.uri, f"{number:06d}.parquet")

    def drop_others(self, kept: int = KEPT_SETS) -> int:
        """Delete older sets of the same part beyond the newest few; return how many."""
        root, _, name = self.uri.rpartition("/")
        filesystem, path = storage.pyarrow_filesystem(root)
        selector = pyarrow.fs.FileSelector(path, allow_not_found=True, recursive=True)
        written: dict[str, float] = {}
        for info in filesystem.get_file_info(selector):
            folder = info.path[len(path) + 1 :].partition("/")[0]
            if info.is_file and folder.split("-")[0] == name.split("-")[0] and folder != name:
                written[folder] = max(written.get(folder, 0.0), info.mtime.timestamp())
        old = sorted(written, key=lambda folder: written[folder], reverse=True)[kept - 1 :]
        for folder in old:
            storage.delete(storage.join(root, folder))
        return len(old)


def cut(scans: Mapping[str, pa.Table]) -> dict[str, dict[int, pa.Table]]:
    """Cut the scans of each split into parts of objects to read, numbered through."""
    names = ["source_uri", "etag", "size_bytes"]
    parts: dict[str, dict[int, pa.Table]] = {}
    number = itertools.count()
    for split, table in scans.items():
        objects = table.select(names).group_by(names).aggregate([])
        objects = objects.rename_columns(storage.LISTING.names).sort_by("object_uri")
        parts[split] = {next(number): part for part in divided(objects)}
    return parts


def shape(recipe: recipes.Recipe, part: str) -> tuple[int, int, int]:
    """Return channels, rows and columns of a part's samples, margin included."""
    section = getattr(recipe, part)
    size = (section.height, section.width)
    if part == "localizer":
        return (1, *size)
    margin = recipe.fit_regressor.box_jitter
    return (2 if recipe.regressor.pair else 1, *recipes.with_margin(size, margin))


def cache(
    tables_uri: str, recipe: recipes.Recipe, part: str, scans: Mapping[str, pa.Table], made_by: str
) -> Cache:
    """Return where the samples lie.

    Args:
        tables_uri: root of the tables.
        recipe: windowing, input sizes, regions.
        part: ``localizer`` or ``regressor``.
        scans: what ``training_scans`` returned for each split.
        made_by: hash of the localizer's weights for regressor samples, else empty.
    """
    state = {
        "part": part,
        "shape": shape(recipe, part),
        "windowing": asdict(recipe.windowing),
        "region": asdict(recipe.region),
        "localizer": made_by,
        "scans": {split: digest(table) for split, table in scans.items()},
    }
    key = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    return Cache(uri=storage.join(tables_uri, "restricted", "samples", f"{part}-{key}"))

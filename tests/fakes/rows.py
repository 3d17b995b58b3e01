"""Made-up listings and staged rows: the same object always gives the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from bae import storage
from bae.tables import contract, delta, publish, runs

ARCHIVE = "s3://hospital/scans"

REGIONS = "regions"
"""The model whose made-up scans have several regions a view."""
PLACES = (("skull", 0.0, 0.05), ("lumbar spine", 0.0, 0.36), ("left knee", 0.06, 0.67))
"""Of these: name, body_x, body_y."""


def listing(numbers: range, archive: str = ARCHIVE, version: str = "v1") -> pa.Table:
    """List made-up objects; numbers divisible by 20 will be refused."""
    return pa.table(
        {
            "object_uri": [f"{archive}/DOE^JANE/{n:07d}.dcm" for n in numbers],
            "etag": [f"{version}-{n}" for n in numbers],
            "size_bytes": [1000 + n for n in numbers],
        },
        schema=storage.LISTING,
    ).sort_by("object_uri")


def key(kind: str, number: int) -> str:
    """Return a made-up pseudonym of 32 hex digits."""
    return hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()


def staged(objects: pa.Table, model_id: str | None = None) -> pa.Table:
    """Stage what a scoring job would for these objects; two scans belong to each patient."""
    rows = [_row(entry, model_id) for entry in objects.to_pylist()]
    return pa.Table.from_pylist(rows, schema=contract.STAGED)


def _row(entry: dict[str, Any], model_id: str | None) -> dict[str, Any]:
    uri = entry["object_uri"]
    number = int(uri[-11:-4])
    row = {"object_uri": uri, "source_uri": uri, "etag": entry["etag"]}
    if number % 20 == 0:
        return row | {"reject": {"stage": "decode", "code": "broken", "message": "cut short"}}
    person = number // 2
    known = {
        "scan_id": key("scan", number),
        "patient_key": key("patient", person),
        "sex": ("F", "M", None)[person % 3],
        "age_years": 40.0 + person % 40,
        "views": ["anterior", "posterior"],
        "flags": [],
    }
    row["scan"] = known | {
        "size_bytes": entry["size_bytes"],
        "age_source": "birth_date",
        "manufacturer": "GE",
        "rows": 1024,
        "columns": 256,
        "pixel_mm": 2.4,
        "pixel_column_mm": 2.3,
    }
    if model_id is None:
        return row
    gap = (number % 7) - 3.0 + len(model_id) / 10
    row["age"] = known | {
        "model_id": model_id,
        "predicted_age_years": known["age_years"] + gap,
        "age_low_years": known["age_years"] + gap - 5,
        "age_high_years": known["age_years"] + gap + 5,
        "age_gap_years": gap,
        "age_group": min(person % 40 // 10, 3),
        "group_probabilities": [0.1, 0.2, 0.3, 0.4],
    }
    row["boxes"] = [
        {"view": view, "view_index": index, **box}
        for index, view in enumerate(known["views"])
        for box in _boxes(number, index, gap, model_id)
    ]
    row["heatmaps"] = [
        {
            "view": view,
            "view_index": index,
            "age_group": row["age"]["age_group"],
            "heat": bytes((number + i) % 256 for i in range(12)),
            "rows": 4,
            "columns": 3,
            "heat_min": 0.0,
            "heat_max": 1.0,
        }
        for index, view in enumerate(known["views"])
    ]
    return row


def _boxes(number: int, view: int, gap: float, model_id: str) -> list[dict[str, Any]]:
    """Return the boxes of one view: one, or those of a model of several regions."""
    box = {"x0": 10, "y0": 20, "x1": 110, "y1": 220, "heat_share": 0.7}
    if model_id != REGIONS:
        return [box | {"box_index": 0}]
    found = []
    for index, (region, body_x, body_y) in enumerate(PLACES):
        # the person weighs more than the visit; both views together are the whole answer
        parts = [1 + (number // 2 + 3 * i) % 5 + 0.2 * (number % 2) for i in range(len(PLACES))]
        weight = parts[index] / sum(parts) * (0.6, 0.4)[view]
        found.append(
            box
            | {"box_index": index, "y0": 20 + index, "region": region, "weight": weight}
            | {"body_x": body_x, "body_y": body_y, "added_years": weight * gap * (index - 0.5)}
        )
    return found


def night(
    tables_uri: str,
    objects: pa.Table,
    model_id: str | None = None,
    archive: str = ARCHIVE,
    check: Callable[[], None] = lambda: None,
) -> runs.Run | None:
    """Do a whole run without Ray: compare, stage all parts, publish. None if nothing was left."""
    todo = runs.todo(tables_uri, objects, model_id)
    if not todo.num_rows:
        return None
    run = runs.open_run(tables_uri, archive, model_id, todo)
    for number, part in run.remaining().items():
        run.store(number, staged(part, model_id))
    publish.finish(run, check)
    return run


def publish_staged(tables_uri: str, archive: str, objects: pa.Table, rows: pa.Table) -> None:
    """Publish staged rows of real scans, all in one part, without Ray."""
    run = runs.open_run(tables_uri, archive, None, objects)
    run.store(0, rows)
    publish.finish(run, lambda: None)


def content(tables_uri: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables, sorted, without run and time: what two runs must share."""
    run_columns = {"run_id", "indexed_at", "rejected_at", "predicted_at", "removed_at"}
    run_columns |= {"settled_at"}
    found = {}
    for name in contract.SCHEMAS:
        table = delta.read(tables_uri, name)
        rows = table.drop_columns([c for c in table.schema.names if c in run_columns]).to_pylist()
        found[name] = sorted(rows, key=repr)
    return found

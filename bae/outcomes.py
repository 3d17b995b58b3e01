"""A model's answers on scans of known age, along the very way of the nightly job.

They are kept beside the training samples, so that a second evaluation scores nothing and
an erased patient's answers go with the samples.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bae import model, ray_session, recipes, ridge, samples, scoring, storage
from bae.errors import RunError
from bae.ray_data import LastStep, PartDone, Reading, run_parts
from bae.scan import SEX_CODE

SCANS = ("scan_id", "patient_key", "sex", "age_years", "manufacturer", "object_uri", "split")
"""What an outcome keeps of the scans table."""


def score(
    tables_uri: str,
    model_uri: str,
    scans: pa.Table,
    on_part: Callable[[int, PartDone], None] = lambda parts, done: None,
    resources: ray_session.Resources | None = None,
) -> pa.Table:
    """Return one row per scan: the columns of ``SCANS``, then those of ``scoring.OUTCOMES``.

    Parts that are done are kept by model and object versions, so the same call after a
    fault goes on, and after success it reads no scan.

    Args:
        tables_uri: root of the tables; the answers are kept under ``restricted/``.
        model_uri: the model.
        scans: rows of the scans table, as ``samples.training_scans`` returns them.
        on_part: called with the number of parts to do and each that is done.
        resources: see ``ray_data.run_parts``.

    Raises:
        RunError: a scan of the table can no longer be read.
    """
    card = model.load_card(model_uri)
    # sex as the scans table has it: a labels file may have told
    sexes = dict(zip(scans["scan_id"].to_pylist(), scans["sex"].to_pylist(), strict=True))
    step = functools.partial(scoring.Outcomes, model_uri, sexes)
    found = _answers(
        tables_uri, "outcomes", card.model_id, scans, step, scoring.OUTCOMES, on_part, resources
    )
    joined = scans.select(list(SCANS))
    for name in scoring.OUTCOMES.names[1:]:
        joined = joined.append_column(scoring.OUTCOMES.field(name), found[name])
    return joined


def thumbnails(
    tables_uri: str,
    windowing: recipes.Windowing,
    scans: pa.Table,
    on_part: Callable[[int, PartDone], None] = lambda parts, done: None,
) -> NDArray[np.float64]:
    """Return small pictures of scans for ``bae.ridge``, with their sex; kept like ``score``'s.

    Returns:
        (N, K): the grey values of ``ridge.ROWS`` x ``ridge.COLUMNS`` pixels, anterior, then
        posterior, NaN where there is no such view, and last the sex's code.
    """
    step = functools.partial(scoring.Thumbnails, windowing, scans["scan_id"].to_pylist())
    state = json.dumps([asdict(windowing), ridge.ROWS, ridge.COLUMNS])
    found = _answers(
        tables_uri, "thumbnails", state, scans, step, scoring.THUMBNAILS, on_part, None
    )
    pixels = np.array(found["pixels"].to_pylist(), dtype=np.float64)
    sexes = [SEX_CODE[sex] for sex in scans["sex"].to_pylist()]
    return np.column_stack([pixels, sexes])


def _answers(
    tables_uri: str,
    name: str,
    made_by: str,
    scans: pa.Table,
    step: Callable[[], LastStep],
    schema: pa.Schema,
    on_part: Callable[[int, PartDone], None],
    resources: ray_session.Resources | None,
) -> pa.Table:
    """Return what a step says of each scan, in the scans' order, done before or now."""
    key = hashlib.sha256(json.dumps([made_by, samples.digest(scans)]).encode()).hexdigest()[:16]
    uri = storage.join(tables_uri, "restricted", "samples", f"{name}-{key}")
    cache = samples.Cache(uri=uri, schema=schema)
    parts = samples.cut({"": scans})[""]
    left = {number: objects for number, objects in parts.items() if not cache.holds(number)}
    reading = Reading(tables_uri=tables_uri)
    for done in run_parts(left, reading, step, cache.store, resources=resources):
        on_part(len(left), done)
    found = [pq.read_table(pa.BufferReader(storage.read_bytes(cache.file(n)))) for n in parts]
    answers = pa.concat_tables(found)
    place = {scan_id: row for row, scan_id in enumerate(answers["scan_id"].to_pylist())}
    wanted = scans["scan_id"].to_pylist()
    missing = sum(scan_id not in place for scan_id in wanted)
    if missing:
        storage.delete(cache.uri)  # a later call must not find the gap in the cache
        raise RunError(
            f"{missing} of {len(wanted)} scans of the table can no longer be read; run jobs.index "
            "over the archive, then again"
        )
    return answers.take([place[scan_id] for scan_id in wanted])

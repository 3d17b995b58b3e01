"""A model's answers on scans of known age, along the very way of the nightly job.

They are kept beside the training samples, so that a second evaluation scores nothing and
an erased patient's answers go with the samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from bae import model, ray_session, samples, scoring, storage
from bae.errors import RunError
from bae.ray_data import PartDone, Reading, run_parts

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
        RunError: a scan of the table can no longer be read, or got no answer.
    """
    card = model.load_card(model_uri)
    state = [card.model_id, samples.digest(scans)]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
    uri = storage.join(tables_uri, "restricted", "samples", f"outcomes-{key}")
    cache = samples.Cache(uri=uri, schema=scoring.OUTCOMES)
    parts = samples.cut({"": scans})[""]
    left = {number: objects for number, objects in parts.items() if not cache.holds(number)}
    # sex as the scans table has it: a labels file may have told
    sexes = dict(zip(scans["scan_id"].to_pylist(), scans["sex"].to_pylist(), strict=True))
    reading = Reading(tables_uri=tables_uri)
    arguments = (model_uri, sexes)
    for done in run_parts(
        left, reading, scoring.Outcomes, arguments, cache.store, resources=resources
    ):
        on_part(len(left), done)
    found = [pq.read_table(pa.BufferReader(storage.read_bytes(cache.file(n)))) for n in parts]
    answers = pa.concat_tables(found)
    missing = scans.num_rows - answers.num_rows
    if missing:
        # a later call must not find the gap in the cache
        storage.delete(cache.uri)
        raise RunError(
            f"{missing} of {scans.num_rows} scans can no longer be read or got no answer; "
            "run jobs.index over the archive, then again"
        )
    # Arrow's join has no lists: put the answers in the scans' order instead
    place = {scan_id: row for row, scan_id in enumerate(answers["scan_id"].to_pylist())}
    answers = answers.take([place[scan_id] for scan_id in scans["scan_id"].to_pylist()])
    joined = scans.select(list(SCANS))
    for name in scoring.OUTCOMES.names[1:]:
        joined = joined.append_column(scoring.OUTCOMES.field(name), answers[name])
    return joined

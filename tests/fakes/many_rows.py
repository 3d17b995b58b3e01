"""Many made-up rows in the tables, written in a few commits: cohorts of any size in seconds."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa

from bae.tables import contract, publish

MODEL = "0123456789ab"
ROWS, COLUMNS = 32, 10

_SCANS = """
    SELECT i, md5('s' || i) AS scan_id, md5('p' || (i // 2)) AS patient_key, 1 AS object_version,
           's3://hospital/DOE^JANE/' || i || '.dcm' AS object_uri, object_uri AS source_uri,
           'e' || i AS etag, 600000 AS size_bytes, ['F', 'M', NULL][1 + i // 2 % 3] AS sex,
           40 + (hash(i // 2) % 40000) / 1000 AS age_years, 'birth_date' AS age_source,
           'GE' AS manufacturer, ['anterior', 'posterior'] AS views, 1024 AS rows,
           256 AS columns, 2.4 AS pixel_mm, 2.4 AS pixel_column_mm, []::VARCHAR[] AS flags,
           ['train', 'train', 'validation', 'test'][1 + i // 2 % 4] AS split,
           NULL AS removed_at, $run AS run_id,
           TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_days($night) AS indexed_at,
           $model AS model_id,
           sqrt(-2 * ln((1 + hash(i, 1) % 1000000) / 1000001)) * cos(hash(i, 2) % 6283 / 1000) * 5
               + $shift AS age_gap_years,
           age_years + age_gap_years AS predicted_age_years,
           predicted_age_years - 8 AS age_low_years, predicted_age_years + 8 AS age_high_years,
           (i % 4) AS age_group, [0.25, 0.25, 0.25, 0.25] AS group_probabilities,
           indexed_at AS predicted_at
    FROM range($start, $stop) t(i)"""

_REJECTS = """
    SELECT 's3://hospital/DOE^JANE/bad' || i || '.dcm' AS object_uri, object_uri AS source_uri,
           'e' || i AS etag, 'select' AS stage, ['half_body', 'spect'][1 + i % 2] AS code,
           'made up' AS message, NULL AS model_id, $run AS run_id,
           TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_days($night) AS rejected_at,
           1 AS attempts, 1 AS decoder_version, NULL::TIMESTAMPTZ AS settled_at
    FROM range($start, $stop) t(i)"""


def publish_nights(root: str, scans: int, nights: int = 1, refused: int = 0) -> list[str]:
    """Publish scans, refusals, heat maps and ages of one model; return the runs.

    Args:
        root: root of the tables, empty so far.
        scans: in all.
        nights: runs to spread them over; the last one's gaps lie half a year higher.
        refused: refusals in each night.
    """
    names = [f"2026010{night + 1}T000000Z-{night:08x}" for night in range(nights)]
    for night, run in enumerate(names):
        start, stop = scans * night // nights, scans * (night + 1) // nights
        shift = 0.5 if 0 < night == nights - 1 else 0.0
        values = {
            "start": start,
            "stop": stop,
            "run": run,
            "model": MODEL,
            "shift": shift,
            "night": night,
        }
        found = duckdb.sql(_SCANS, params=values).to_arrow_table()
        some = {"start": night * refused, "stop": (night + 1) * refused, "run": run, "night": night}
        _commit(root, "restricted/rejects", run, duckdb.sql(_REJECTS, params=some).to_arrow_table())
        for name in ("restricted/scans", "cohort/ages"):
            _commit(root, name, run, found)
            if name == "restricted/scans" and stop > start:
                _publish(root, "cohort/heatmaps", run, _maps(found, night))
    return names


def _maps(scans: pa.Table, seed: int) -> Iterator[pa.RecordBatch]:
    noise = np.random.default_rng(seed)
    schema = contract.SCHEMAS["cohort/heatmaps"]
    for batch in scans.to_batches(8192):
        for index, view in enumerate(("anterior", "posterior")):
            heat = noise.integers(0, 256, (batch.num_rows, ROWS, COLUMNS), np.uint8)
            fixed = {
                "view": view,
                "view_index": index,
                "heat_min": 0.0,
                "heat_max": 1.0,
                "rows": ROWS,
                "columns": COLUMNS,
            }
            yield pa.record_batch(
                [
                    pa.array([fixed[f.name]] * batch.num_rows, f.type)
                    if f.name in fixed
                    else pa.array([m.tobytes() for m in heat])
                    if f.name == "heat"
                    else batch.column(f.name).cast(f.type)
                    for f in schema
                ],
                schema=schema,
            )


def _commit(root: str, name: str, run: str, rows: pa.Table) -> None:
    schema = contract.SCHEMAS[name]
    there = set(rows.schema.names)
    columns = [
        rows[f.name].combine_chunks().cast(f.type)
        if f.name in there
        else pa.nulls(rows.num_rows, f.type)
        for f in schema
    ]
    _publish(root, name, run, iter([pa.record_batch(columns, schema=schema)]))


def _publish(root: str, name: str, run: str, batches: Iterator[pa.RecordBatch]) -> None:
    publish._commit(name, publish._opened(root, name), run, None, batches)

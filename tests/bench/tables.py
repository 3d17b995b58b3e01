"""How fast the tables are, at size: ``python -m tests.bench.tables``.

Each step runs in a process of its own, so that its peak memory is its own. Made-up rows,
real code: a listing compared with the scans table, a run published, the cookbook's
aggregates on many rows, heat maps into one array; beside the same rows in one Parquet
file as somebody in a hurry would write it (one row group size, snappy, unsorted).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bae import recipes, storage
from bae.tables import contract, delta, publish, runs
from bae.tables import query as tables_query
from tests.fakes import rows as fakes_rows
from tests.fakes import tiny

QUERIES = {
    "age gap by sex and decade": """
        SELECT sex, floor(age_years / 10) AS decade, avg(age_gap_years), count(*)
        FROM {ages} GROUP BY ALL""",
    "error of each model": """
        SELECT model_id, avg(abs(age_gap_years)), count(*) FROM {ages} GROUP BY ALL""",
    "latest age of every scan, by sex": """
        SELECT sex, avg(age_gap_years), count(*) FROM {latest} GROUP BY ALL""",
    "share of each flag": """
        SELECT flag, count(*) FROM (SELECT unnest(flags) AS flag FROM {ages}) GROUP BY ALL""",
    "calibration of the interval": """
        SELECT avg((age_years BETWEEN age_low_years AND age_high_years)::INT) FROM {ages}""",
    "one patient": """
        SELECT * FROM {ages} WHERE patient_key = md5('p4711')""",
}

_STAGED_ROWS = """
    SELECT 's3://hospital/scans/' || (i % 1000) || '/' || i || '.dcm' AS object_uri,
           object_uri AS source_uri, 'e' || i AS etag,
           {'size_bytes': 600000::BIGINT, 'scan_id': md5('s' || i),
            'patient_key': md5('p' || (i // 2)), 'sex': if(i // 2 % 2 = 0, 'F', 'M'),
            'age_years': 40.0::DOUBLE + i // 2 % 4000 / 100, 'age_source': 'birth_date',
            'manufacturer': 'GE', 'views': ['anterior', 'posterior'], 'rows': 1024::INT,
            'columns': 256::INT, 'pixel_mm': 2.4::DOUBLE, 'pixel_column_mm': 2.4::DOUBLE,
            'flags': []::VARCHAR[]} AS scan
    FROM range($start, $stop) t(i)"""

_AGES = """
    SELECT md5('s' || i) AS scan_id, md5('p' || (i // 2)) AS patient_key, $model AS model_id,
           1::INT AS object_version, if(i // 2 % 2 = 0, 'F', 'M') AS sex,
           40.0::DOUBLE + i // 2 % 4000 / 100 AS age_years,
           (hash(i) % 2000)::DOUBLE / 100 - 10 AS age_gap_years,
           age_years + age_gap_years AS predicted_age_years,
           predicted_age_years - 7 AS age_low_years, predicted_age_years + 7 AS age_high_years,
           (i % 4)::INT AS age_group,
           [0.25, 0.25, 0.25, 0.25 + (i % 7)::DOUBLE / 100] AS group_probabilities,
           ['anterior', 'posterior'] AS views,
           if(i % 50 = 0, ['age_disagrees'], []) AS flags,
           ['train', 'train', 'validation', 'test'][1 + i // 2 % 4] AS split, $run AS run_id,
           TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_days($night) AS predicted_at
    FROM range($start, $stop) t(i) ORDER BY patient_key, scan_id"""


def _staged(start: int, stop: int) -> pa.Table:
    parameters = {"start": start, "stop": stop}
    found = duckdb.sql(_STAGED_ROWS, params=parameters).to_arrow_table()
    for field in list(contract.STAGED)[4:]:
        found = found.append_column(field.name, pa.array([None] * found.num_rows, field.type))
    return found.cast(contract.STAGED)


def make_scans(root: str, scans: int) -> dict[str, Any]:
    """Publish a first index of many scans, through the real code."""
    listing = _listing(scans)
    start = time.monotonic()
    run = runs.open_run(root, "s3://hospital/scans", None, listing)
    opened_s = time.monotonic() - start
    per_part = -(-scans // len(run.parts()))
    for number, first in enumerate(range(0, scans, per_part)):
        run.store(number, _staged(first, min(first + per_part, scans)))
    start = time.monotonic()
    publish.finish(run)
    return {"open_run_s": opened_s, "publish_s": time.monotonic() - start}


def _listing(scans: int) -> pa.Table:
    return (
        duckdb.sql(
            "SELECT 's3://hospital/scans/' || (i % 1000) || '/' || i || '.dcm' AS object_uri, "
            "'e' || i AS etag, 600000::BIGINT AS size_bytes FROM range($n) t(i) ORDER BY 1",
            params={"n": scans},
        )
        .to_arrow_table()
        .cast(storage.LISTING)
    )


def compare(root: str, scans: int) -> dict[str, Any]:
    """Compare a listing as large as the table, a thousand objects new, with the tables."""
    listing = _listing(scans + 1000)
    start = time.monotonic()
    left = runs.todo(root, listing, None)
    assert left.num_rows == 1000
    return {"todo_s": time.monotonic() - start}


def list_folder(root: str, scans: int) -> dict[str, Any]:
    """List a folder of many (empty) files."""
    folder = Path(root) / "archive"
    for part in range(100):
        (folder / str(part)).mkdir(parents=True)
        for number in range(scans // 100):
            (folder / str(part) / f"{number}.dcm").touch()
    start = time.monotonic()
    assert storage.list_objects(str(folder)).num_rows == scans
    return {"list_s": time.monotonic() - start}


def make_ages(root: str, rows: int) -> dict[str, Any]:
    """Publish ages in ten nights of two models, with the real writer; and one naive file."""
    nights = 10
    start = time.monotonic()
    for night in range(nights):
        # five nights by one model, then the same scans by another
        model, first = f"model-{night // 5}", night % 5 * (rows // nights)
        parameters = {
            "start": first,
            "stop": first + rows // nights,
            "model": model,
            "run": f"run{night:02d}",
            "night": night,
        }
        found = duckdb.sql(_AGES, params=parameters).to_arrow_reader(65536)
        schema = contract.SCHEMAS["cohort/ages"]
        batches = (
            pa.record_batch([batch.column(f.name).cast(f.type) for f in schema], schema=schema)
            for batch in found
        )
        table = delta.delta(root, "cohort/ages")
        publish._commit(root, "cohort/ages", table, f"run{night:02d}", None, batches)
    took = time.monotonic() - start
    everything = delta.read(root, "cohort/ages")
    order = np.random.default_rng(0).permutation(everything.num_rows)
    pq.write_table(everything.take(order), f"{root}/naive.parquet")
    table = delta.delta(root, "cohort/ages")
    assert table is not None
    ours = sum(Path(path).stat().st_size for path in delta.files(table))
    naive = Path(f"{root}/naive.parquet").stat().st_size
    return {"write_s": took, "ours_mb": ours / 1e6, "naive_mb": naive / 1e6}


def query(root: str, rows: int) -> dict[str, Any]:
    """Ask the cookbook's aggregates of the views, and of the naive file."""
    start = time.monotonic()
    ours = tables_query.connect(root)
    ours.execute("SET threads = 2")
    found: dict[str, Any] = {"connect_s": time.monotonic() - start}
    naive = duckdb.connect(config={"threads": 2})
    naive.execute(f"CREATE VIEW ages AS FROM '{root}/naive.parquet'")
    naive.execute(
        "CREATE VIEW latest AS SELECT * FROM ages QUALIFY row_number() OVER "
        "(PARTITION BY scan_id ORDER BY object_version DESC, predicted_at DESC) = 1"
    )
    for name, text in QUERIES.items():
        seconds = []
        for connection, latest in ((ours, "latest_ages"), (naive, "latest")):
            asked = text.format(ages="ages", latest=latest)
            if "SELECT *" in asked:
                asked = asked.replace("*", "* EXCLUDE (predicted_at)")
            start = time.monotonic()
            connection.sql(asked).fetchall()
            seconds.append(time.monotonic() - start)
        found[name] = {"ours_s": seconds[0], "naive_s": seconds[1]}
    return found


def heat(root: str, maps: int) -> dict[str, Any]:
    """Read many 32 x 10 heat maps into one array."""
    noise = np.random.default_rng(0)
    smooth = noise.integers(0, 256, (maps, 32, 10)).cumsum(1) // np.arange(1, 33)[:, None]
    values = [map_.tobytes() for map_ in smooth.astype(np.uint8)]
    columns = {
        "scan_id": [f"{n:032x}" for n in range(maps)],
        "model_id": ["m"] * maps,
        "object_version": [1] * maps,
        "view": ["anterior"] * maps,
        "view_index": [0] * maps,
        "age_group": [0] * maps,
        "heat": values,
        "rows": [32] * maps,
        "columns": [10] * maps,
        "heat_min": [0.0] * maps,
        "heat_max": [1.0] * maps,
        "run_id": ["r"] * maps,
    }
    rows = pa.table(columns, schema=contract.SCHEMAS["cohort/heatmaps"])
    publish._commit(root, "cohort/heatmaps", None, "r", None, iter(rows.to_batches()))
    publish._commit(root, "cohort/ages", None, "r", None, iter(()))
    pq.write_table(rows, f"{root}/naive_heat.parquet")
    seconds: dict[str, float] = {}

    def measure(name: str, read: Callable[[], Any]) -> None:
        read()  # once for the disk cache
        start = time.monotonic()
        for _ in range(3):
            array = read()
        seconds[name] = (time.monotonic() - start) / 3
        assert array.shape == (maps, 32, 10) and array[-1].tobytes() == values[-1]

    wanted = ["heat", "rows", "columns"]
    measure("ours", lambda: tables_query.heat_array(delta.read(root, "cohort/heatmaps", wanted)))
    measure(
        "naive",
        lambda: np.stack(
            [
                np.frombuffer(value, np.uint8).reshape(32, 10)
                for value in pq.read_table(f"{root}/naive_heat.parquet")["heat"].to_pylist()
            ]
        ),
    )
    size = maps * 320 / 1e6
    return {f"{name}_mb_per_s": size / took for name, took in seconds.items()}


def idle(root: str, objects: int) -> dict[str, float]:
    """Run the nightly job as a user would where every object has been scored before."""
    archive, model_uri, place = (f"{root}/{name}" for name in ("archive", "model", "tables"))
    for number in range(objects):
        folder = Path(archive, f"{number % 1000:03d}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:07d}.dcm").write_bytes(b"scored before, so never read")
    card = tiny.write_model(model_uri, recipes.small())
    fakes_rows.night(place, storage.list_objects(archive), card.model_id, archive)
    start = time.monotonic()
    command = [sys.executable, "-m", "jobs.predict", "--archive", archive, "--tables", place]
    done = subprocess.run(
        [*command, "--model", model_uri], check=True, stdout=subprocess.PIPE, text=True
    )
    assert "nothing to do" in done.stdout
    return {"seconds": time.monotonic() - start}


STEPS: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "list_folder": list_folder,
    "make_scans": make_scans,
    "compare": compare,
    "make_ages": make_ages,
    "query": query,
    "heat": heat,
    "idle": idle,
}
_PLACE = {"make_scans": "scans", "compare": "scans", "make_ages": "ages", "query": "ages"}


def main() -> None:
    """Run every step and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=1_000_000)
    parser.add_argument("--ages", type=int, default=10_000_000)
    parser.add_argument("--maps", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--steps", nargs="*", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--folder", help="where to work; a temporary folder by default")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = {"list_folder": options.scans, "make_scans": options.scans, "compare": options.scans}
    counts |= {
        "make_ages": options.ages,
        "query": options.ages,
        "heat": options.maps,
        "idle": options.objects,
    }
    if options.step:
        found = STEPS[options.step](options.folder, counts[options.step])
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(prefix="bae-bench-") as temporary:
        root = options.folder or temporary
        for step in options.steps:
            folder = f"{root}/{_PLACE.get(step, step)}"
            Path(folder).mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "tests.bench.tables", "--step", step]
            command += ["--folder", folder, "--scans", str(options.scans)]
            command += ["--ages", str(options.ages), "--maps", str(options.maps)]
            command += ["--objects", str(options.objects)]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            print(f"{step} x {counts[step]:,}")
            for name, value in json.loads(out).items():
                text = value if isinstance(value, dict) else {"": value}
                print(f"  {name:<36}" + "  ".join(f"{k} {v:.2f}" for k, v in text.items()))


if __name__ == "__main__":
    main()

"""The whole story on one machine: an archive, the paper's networks and the linear model, tables."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bae import storage
from bae.archive import privacy
from bae.errors import RunError, UseError
from jobs import command, index, phantom, predict, train, train_localizer, train_regressor


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "demo",
        "Run every job once on a local archive: phantoms and the one real scan packages carry.",
        "python -m jobs.demo --folder demo-data",
    )
    parser.add_argument("--folder", default="demo-data", help="made anew (default demo-data)")
    parser.add_argument("--scans", type=int, default=140, help="phantom scans (default 140)")
    parser.add_argument("--world", type=int, default=0, help="as of jobs.phantom (default 0)")
    return command.run(parser, job, argv)


def job(options: argparse.Namespace) -> None:
    """Chain the jobs as a user would on a command line."""
    from bae.pipeline.cluster import session

    # phantoms need no secret, and one key gives one split: every demo tells the same story
    os.environ.setdefault(privacy.KEY_VARIABLE, privacy.DEMO)
    storage.check_writable(options.folder)
    real_scans()  # whether they are here must be known before anything is deleted or written
    folder = Path(options.folder)
    start = time.monotonic()
    archive, tables, model, networks = (
        str(folder / name) for name in ("archive", "tables", "model", "networks")
    )
    for name in (archive, tables, model, networks):
        shutil.rmtree(name, ignore_errors=True)
    with session.session():
        people = ("--scans", str(options.scans), "--world", str(options.world))
        _step("phantom", phantom.main, "--archive", archive, *people)
        add_real_scans(archive)
        places = ("--archive", archive, "--tables", tables)
        _step("index", index.main, *places)
        # the paper's threshold: small's own is lower and takes nearly the whole body
        gamma = ("--set", "region.gamma=150")
        training = ("--tables", tables, "--model", networks, "--recipe", "small", *gamma)
        _step("train_localizer", train_localizer.main, *training)
        _step("train_regressor", train_regressor.main, *training)
        _step("predict", predict.main, *places, "--model", networks)
        # last, since analysts are shown the newest model's answers
        linear = ("--tables", tables, "--model", model, "--recipe", "regional")
        _step("train", train.main, *linear)
        _step("predict", predict.main, *places, "--model", model)
    print()
    print(first_rows(tables))
    picture = folder / "real-scan.png"
    draw_real_scan(archive, tables, picture)
    print(query(tables))
    print(f"\npicture: {picture}\n{time.monotonic() - start:.0f} s in all")


def _step(name: str, step: object, *flags: str) -> None:
    """Run one job as its command line would, and stop if it fails."""
    print(f"\n$ python -m jobs.{name} {' '.join(flags)}", flush=True)
    assert callable(step)
    if step(list(flags)) != 0:
        raise RunError(f"the demo stopped because jobs.{name} failed")


REAL_SCANS = (
    "JPEG-LL.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
)
"""One whole-body bone scan (GE Millennium MG, anterior) in four encodings: lossless in
pydicom-data; a 2097:1 blur of it and two odd encodings in pydicom itself."""


def real_scans() -> dict[str, Path]:
    """Return where the real scan's files lie, by their names.

    Raises:
        UseError: a package that carries them is not installed.
    """
    from pydicom.data import get_testdata_file

    found = {name: get_testdata_file(name, download=False) for name in REAL_SCANS}
    for name, path in found.items():
        if path is None:
            raise UseError(f"{name} is not here; install the demo extra: pip install -e .[demo]")
    return {name: Path(str(path)) for name, path in found.items()}


def add_real_scans(archive_uri: str) -> None:
    """Copy the real scan's files into an archive."""
    for name, path in real_scans().items():
        storage.write_bytes(storage.join(archive_uri, "real", name), path.read_bytes())


def draw_real_scan(archive_uri: str, tables_uri: str, target: Path) -> None:
    """Draw the sharp real scan as the paper's Figure 3, from the tables alone."""
    import pyarrow.compute as pc

    from bae.evaluation import figure3
    from bae.evaluation.panels import region_panels, title
    from bae.pipeline import reread
    from bae.tables import connect, delta

    uri = storage.join(storage.normal(archive_uri), "real", REAL_SCANS[0])
    scans = delta.read(tables_uri, "restricted/scans", ["object_uri", "scan_id"])
    found = scans.filter(pc.equal(scans["object_uri"], uri))["scan_id"]
    if not len(found):
        raise RunError("the real scan was refused; see restricted/rejects")
    [(scan_id, scan)] = reread.scans(tables_uri, found.to_pylist()[:1])
    asked = connect(tables_uri)
    ages, heatmaps, boxes = (
        asked.sql(f"FROM latest_{name} WHERE scan_id = ?", params=[scan_id]).to_arrow_table()
        for name in ("ages", "heatmaps", "boxes")
    )
    found_in = region_panels(scan, heatmaps.to_pylist(), boxes.to_pylist())
    panels = [replace(p, title=title(ages.to_pylist()[0], p.view)) for p in found_in]
    figure3.regions(panels).savefig(target, dpi=130)


SHOWN = {
    "restricted/scans": "scan_id patient_key sex age_years age_source views rows columns split",
    "restricted/rejects": "stage code message",
    "cohort/heatmaps": "scan_id model_id view age_group rows columns heat_min heat_max",
    "cohort/boxes": "scan_id view box_index x0 y0 x1 y1 heat_share region weight added_years",
    "cohort/ages": "split scan_id sex age_years predicted_age_years age_low_years age_high_years",
}
"""The columns that tell a newcomer most; all are described in the files themselves. Ages begin with
their split, so that the rows shown, the first in order, are of people no training saw."""


def first_rows(tables_uri: str, rows: int = 3) -> str:
    """Return the first rows of each table as text."""
    from bae.tables import connect

    asked, texts = connect(tables_uri, restricted=True), []
    for name, columns in SHOWN.items():
        # analysts are shown the newest model's rows
        view = name.split("/")[1] if name.startswith("restricted") else f"latest_{name[7:]}"
        found = asked.sql(f"SELECT {', '.join(columns.split())} FROM {view} ORDER BY ALL")
        # a method of one region has no weights or names
        frame = found.limit(rows).df().dropna(axis="columns", how="all")
        for column in frame.columns.intersection(["scan_id", "patient_key"]):
            frame[column] = frame[column].str[:8] + "…"
        text = frame.to_string(index=False, max_colwidth=60, float_format="%.2f")
        texts.append(f"{name}: {len(found)} rows\n{text}\n")
    return "\n".join(texts)


def query(tables_uri: str) -> str:
    """Return a query that a reader can paste."""
    return f"""ask the tables yourself:
  .venv/bin/python -c "
import bae.tables
print(bae.tables.connect('{tables_uri}').sql('''
  SELECT sex, count(*) AS scans, avg(abs(age_gap_years)) AS mean_absolute_error_years
  FROM latest_ages WHERE split = 'test' GROUP BY sex ORDER BY sex'''))\""""


if __name__ == "__main__":
    sys.exit(main())

"""What only the demo needs: the real scan that packages carry, its picture, a first look."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
from pydicom.data import get_testdata_file

from bae import figure3, figures, storage, tables
from bae.errors import UseError

REAL_SCANS = (
    "JPEG-LL.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
)
"""One whole-body bone scan (GE Millennium MG, anterior) in four encodings: lossless in
pydicom-data; a 2097:1 blur of it and two odd encodings in pydicom itself."""


def add_real_scans(archive_uri: str) -> None:
    """Copy the real scan's files into an archive.

    Raises:
        UseError: a package that carries them is not installed.
    """
    for name in REAL_SCANS:
        path = get_testdata_file(name, download=False)
        if path is None:
            raise UseError(f"{name} is not here; install the demo extra: pip install -e .[demo]")
        storage.write_bytes(storage.join(archive_uri, "real", name), Path(str(path)).read_bytes())


def draw_real_scan(archive_uri: str, tables_uri: str, target: Path) -> None:
    """Draw the sharp real scan as the paper's Figure 3, from the tables alone."""
    uri = storage.join(storage.normal(archive_uri), "real", REAL_SCANS[0])
    scans = tables.read(tables_uri, "restricted/scans", ["object_uri", "scan_id"])
    found = scans.filter(pc.equal(scans["object_uri"], uri))["scan_id"]
    if not len(found):
        raise UseError("the real scan was refused; see restricted/rejects")
    mine = pc.field("scan_id") == found[0]
    ages = tables.dataset(tables_uri, "cohort/ages").to_table(filter=mine)
    panels = figure3.panels(tables_uri, ages, found.to_pylist()[:1])
    figures.regions([panel for own in panels.values() for panel in own]).savefig(target, dpi=130)


SHOWN = {
    "restricted/scans": "scan_id patient_key sex age_years age_source views rows columns split",
    "restricted/rejects": "stage code message",
    "cohort/heatmaps": "scan_id model_id view age_group rows columns heat_min heat_max",
    "cohort/boxes": "scan_id view box_index x0 y0 x1 y1 width_mm height_mm heat_share",
    "cohort/ages": "scan_id sex age_years predicted_age_years age_low_years age_high_years views",
}
"""The columns that tell a newcomer most; all are described in the files themselves."""


def first_rows(tables_uri: str, rows: int = 3) -> str:
    """Return the first rows of each table as text."""
    parts = []
    for name, columns in SHOWN.items():
        table = tables.read(tables_uri, name, columns.split())
        frame = table.slice(0, rows).to_pandas()
        for column in frame.columns.intersection(["scan_id", "patient_key"]):
            frame[column] = frame[column].str[:8] + "…"
        text = frame.to_string(index=False, max_colwidth=60, float_format="%.2f")
        parts.append(f"{name}: {table.num_rows} rows\n{text}\n")
    return "\n".join(parts)


def query(tables_uri: str) -> str:
    """Return a query that a reader can paste."""
    return f"""ask the tables yourself:
  .venv/bin/python -c "
import bae.tables
print(bae.tables.connect('{tables_uri}').sql('''
  SELECT sex, count(*) AS scans, avg(abs(age_gap_years)) AS mean_absolute_error_years
  FROM ages WHERE split = 'test' GROUP BY sex ORDER BY sex'''))\""""

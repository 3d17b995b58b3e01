"""What only the simulation knows, kept in a table of its own beside the archive."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from bae.phantom.ageing import EFFECTS
from bae.phantom.cohort import PhantomScan


def _field(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, False, {"description": description})


def _column(effect: str) -> str:
    return "effect_" + effect.replace(" ", "_").replace("-", "_")


LANDMARK = pa.struct(
    [
        pa.field("name", pa.string(), False),
        pa.field("column", pa.float32(), False),
        pa.field("row", pa.float32(), False),
    ]
)

FOCUS = pa.struct(
    [
        pa.field("kind", pa.string(), False),
        pa.field("part", pa.string(), False),
        pa.field("radius_mm", pa.float32(), False),
        pa.field("uptake", pa.float32(), False),
    ]
)

SCHEMA = pa.schema(
    [
        _field("scan", pa.int64(), "number of the scan in the cohort"),
        _field("objects", pa.list_(pa.string()), "names of its objects in the archive"),
        _field("patient", pa.int64(), "number of the patient in the cohort"),
        _field("sex", pa.string(), "F or M"),
        _field("age_years", pa.float64(), "exact age at acquisition"),
        _field("latent_years", pa.float64(), "latent skeletal age that drives the picture"),
        _field("mistake", pa.string(), "what is wrong with the object, empty if nothing"),
        *[
            _field(
                _column(effect.name),
                pa.float32(),
                f"change of log uptake shared by the parts of: {effect.name}",
            )
            for effect in EFFECTS
        ],
        _field("foci", pa.list_(FOCUS), "hot spots; uptake is relative to muscle"),
        _field(
            "landmarks",
            pa.list_(LANDMARK),
            "middle of each part in pixels of the anterior view; the posterior is its mirror",
        ),
    ]
)


def table(scans: Sequence[tuple[PhantomScan, Sequence[str], str]]) -> pa.Table:
    """Return the truth of some scans.

    Args:
        scans: each scan with its objects' names and its mistake (empty if none).

    Returns:
        One row per scan, with ``SCHEMA``.
    """
    rows = [
        {
            "scan": scan.index,
            "objects": list(names),
            "patient": scan.patient,
            "sex": scan.sex,
            "age_years": scan.age_years,
            "latent_years": scan.latent_years,
            "mistake": mistake,
            **{_column(name): change for name, change in scan.effects.items()},
            "foci": [
                {"kind": f.kind, "part": f.part, "radius_mm": f.radius_mm, "uptake": f.uptake}
                for f in scan.foci
            ],
            "landmarks": [
                {"name": name, "column": column, "row": row}
                for name, (column, row) in scan.landmarks.items()
            ],
        }
        for scan, names, mistake in scans
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)

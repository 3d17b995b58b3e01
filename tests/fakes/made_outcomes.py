"""Made-up outcomes: scans of known age with a model's answers, as ``outcomes.score`` returns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bae.method import calibration
from bae.pipeline import outcomes as pipeline_outcomes
from bae.recipes import age_group

EDGES = (40.0, 50.0, 60.0, 70.0, 80.0)

SCHEMA = pa.schema(
    [
        pa.field("scan_id", pa.string()),
        pa.field("patient_key", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("age_years", pa.float64()),
        pa.field("manufacturer", pa.string()),
        pa.field("object_uri", pa.string()),
        pa.field("split", pa.string()),
        *list(pipeline_outcomes.OUTCOMES)[1:],
    ]
)


def outcomes(
    patients: int, seed: int = 0, *, sd: float = 4.0, slope: float = 0.8, half: float | None = 7.0
) -> pa.Table:
    """Return outcomes of patients with one or two scans.

    Args:
        patients: how many; half of them have a second scan 3 years later.
        seed: of errors; ages and patients are the same for every seed.
        sd: of the error, years.
        slope: of the answer on the age.
        half: half width of the intervals; None for a model without calibration.
    """
    people, noise = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        first = people.uniform(40, 77)
        for visit in range(1 + patient % 2):
            age = first + 3.0 * visit
            group = age_group(age, EDGES)
            assert group is not None
            views = (60 + slope * (age - 60) + noise.normal(0, sd, 2)).tolist()
            answer = float(np.mean(views))
            scores = noise.normal(0, 1, 4) + 1.5 * (np.arange(4) == group)
            sure = calibration.tempered(np.exp(scores) / np.exp(scores).sum(), 0.5)
            rows.append(
                {
                    "scan_id": f"{patient:030d}{visit:02d}",
                    "patient_key": f"{patient:032d}",
                    "sex": ("F", "M", None)[patient % 3],
                    "age_years": age,
                    "manufacturer": ("GE", "Siemens")[patient % 2],
                    "object_uri": f"/archive/{patient}-{visit}.dcm",
                    "split": "test",
                    "predicted_age_years": answer,
                    "spread_years": float(noise.uniform(0.5, 2)),
                    "age_low_years": None if half is None else answer - half,
                    "age_high_years": None if half is None else answer + half,
                    "group_probabilities": sure.tolist(),
                    "views": ["anterior", "posterior"],
                    "view_ages_years": views,
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)

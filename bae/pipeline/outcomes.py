"""A model's answers on scans of known age, along the very way of the nightly job.

They are kept beside the training samples, so that a second evaluation scores nothing and
an erased patient's answers go with the samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pyarrow as pa

from bae.archive.intake import Decoded
from bae.method import model
from bae.method.prediction import Prediction
from bae.pipeline.kept import KeptStep, among, answers, cache, digest
from bae.pipeline.score import Lanes
from bae.pipeline.step import OnPart

SCANS = ("scan_id", "patient_key", "sex", "age_years", "manufacturer", "object_uri", "split")
"""What an outcome keeps of the scans table."""


def score(
    tables_uri: str, model_uri: str, scans: pa.Table, on_part: OnPart = lambda parts, done: None
) -> pa.Table:
    """Return one row per scan: the columns of ``SCANS``, then those of ``outcomes.OUTCOMES``.

    Parts that are done are kept by model and object versions, so the same call after a
    fault goes on, and after success it reads no scan.

    Args:
        scans: rows of the scans table, as ``kept.training_scans`` returns them.

    Raises:
        RunError: a scan of the table can no longer be read.
    """
    card = model.load_card(model_uri)
    # sex as the scans table has it: a labels file may have told
    sexes = dict(zip(scans["scan_id"].to_pylist(), scans["sex"].to_pylist(), strict=True))
    kept = cache(tables_uri, "outcomes", [card.model_id, digest(scans)], OUTCOMES)
    step = Outcomes(cache=kept, model_uri=model_uri, sexes=sexes)
    found = answers(tables_uri, scans, step, on_part)
    joined = scans.select(list(SCANS))
    for name in OUTCOMES.names[1:]:
        joined = joined.append_column(OUTCOMES.field(name), found[name])
    return joined


FLOATS = pa.list_(pa.field("element", pa.float64()))


OUTCOMES = pa.schema(
    {
        "scan_id": pa.string(),
        "predicted_age_years": pa.float64(),
        "spread_years": pa.float64(),
        "age_low_years": pa.float64(),
        "age_high_years": pa.float64(),
        "group_probabilities": FLOATS,
        "views": pa.list_(pa.field("element", pa.string())),
        "view_ages_years": FLOATS,
    }
)
"""What a model says of a scan, for calibration and evaluation; as ``predictor.Prediction``."""


@dataclass(kw_only=True, eq=False)
class Outcomes(KeptStep):
    """Keep what the nightly job would answer, with what only an evaluation asks for.

    Attributes:
        sexes: those of the scans to score, by scan_id.
    """

    name: ClassVar[str] = "Outcomes"
    model_uri: str
    sexes: Mapping[str, str | None]
    lanes: Lanes = field(init=False, repr=False)

    def load(self) -> None:
        """Load both networks."""
        self.lanes = Lanes.of_process(self.model_uri)

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``OUTCOMES``; a zip file may hold other scans beside those wanted."""
        scans = {
            scan_id: replace(scan, sex=self.sexes[scan_id])
            for scan_id, scan in among(items, self.sexes)
        }
        found = self.lanes.predict(list(scans.values()))
        rows = [_outcome(*pair) for pair in zip(scans, found, strict=True)]
        return pa.Table.from_pylist(rows, schema=OUTCOMES)


def _outcome(scan_id: str, found: Prediction) -> dict[str, Any]:
    views = [view.view for view in found.views]
    return {
        "scan_id": scan_id,
        "predicted_age_years": found.age_years,
        "spread_years": found.spread_years,
        "age_low_years": found.low_years,
        "age_high_years": found.high_years,
        "group_probabilities": found.probabilities.tolist(),
        # both views may enter the regressor together
        "views": views if len(views) == len(found.view_ages_years) else ["both"],
        "view_ages_years": list(found.view_ages_years),
    }

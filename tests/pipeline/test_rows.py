"""Predictions to rows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bae import recipes
from bae.archive.intake import Decoded
from bae.errors import ScanError
from bae.method import model, predictor
from bae.method.prediction import LocalizedView, Prediction
from bae.pipeline import score
from bae.pipeline.rows import Index, staged
from bae.scan import Box, Identity, Scan, View
from bae.tables import contract
from bae.tables.runs import Run

RUN = Run(tables_uri="t", run_id="r", archive_uri="a")
VIEW = View(name="posterior", counts=np.ones((10, 4), np.uint16))
SCAN = Scan(
    views=(VIEW,),
    identity=Identity(patient="p", study="", instance="i"),
    pixel_mm=(2.0, 3.0),
    sex="M",
    age_years=92.5,
    age_source="birth_date",
    flags=("b", "a"),
)


def _decoded(outcome: Scan | ScanError) -> Decoded:
    return Decoded(
        object_uri="/a/x.dcm",
        source_uri="/a/x.dcm",
        etag="e",
        size_bytes=9,
        scan_id="s" * 32,
        patient_key="p" * 32,
        outcome=outcome,
    )


def _prediction(age: float) -> Prediction:
    import torch

    view = LocalizedView(
        view="posterior",
        group=2,
        probabilities=np.array([0.1, 0.2, 0.7], np.float32),
        heat=np.arange(6, dtype=np.uint8).reshape(3, 2),
        heat_min=-1.0,
        heat_max=2.0,
        boxes=[Box(1, 2, 3, 7, 0.5), Box(0, 8, 1, 9, 0.1)],
        grey=torch.zeros(10, 4),
    )
    return Prediction(
        age_years=age,
        spread_years=1.0,
        low_years=age - 5,
        high_years=age + 5,
        view_ages_years=(age,),
        group=2,
        probabilities=view.probabilities,
        views=(view,),
        flags=("c",),
    )


def test_row_has_boxes_in_mm_and_heat_row_by_row() -> None:
    """Sizes are pixels times spacing, heat is row-major bytes."""
    (row,) = staged([_decoded(SCAN)], [_prediction(80.0)], "m").to_pylist()
    assert row["reject"] is None
    first = row["boxes"][0]
    assert (first["width_mm"], first["height_mm"]) == (2 * 3.0, 5 * 2.0)
    assert [box["box_index"] for box in row["boxes"]] == [0, 1]
    (heat,) = row["heatmaps"]
    assert (heat["heat"], heat["rows"], heat["columns"]) == (bytes(range(6)), 3, 2)


def test_row_says_of_each_region_what_its_box_says() -> None:
    """Weight, place and years as they are; null where the method knows none."""
    said = _prediction(60.0)
    told = Box(1, 2, 3, 7, 0.5, 0.3, 0.66, -0.04, "right knee", -1.5)
    view = replace(said.views[0], boxes=[told, Box(0, 8, 1, 9, 0.1)])
    (row,) = staged([_decoded(SCAN)], [replace(said, views=(view,))], "m").to_pylist()
    names = ("weight", "body_y", "body_x", "region", "added_years")
    assert [tuple(box[name] for name in names) for box in row["boxes"]] == [
        (0.3, 0.66, -0.04, "right knee", -1.5),
        (None,) * 5,
    ]


def test_indexed_scan_has_no_prediction() -> None:
    """Index stages the scan alone."""
    (row,) = Index(run=RUN).rows([_decoded(SCAN)]).to_pylist()
    assert row["scan"]["scan_id"] == "s" * 32
    assert (row["age"], row["boxes"], row["heatmaps"], row["reject"]) == (None,) * 4


def test_refused_object_has_its_stage_and_code() -> None:
    """The stage is that of the code."""
    error = ScanError("format_unknown", "neither")
    table = Index(run=RUN).rows([_decoded(error)])
    assert table.schema.equals(contract.STAGED)
    (row,) = table.to_pylist()
    assert row["scan"] is None
    assert (row["reject"]["stage"], row["reject"]["code"]) == ("read", "format_unknown")


def test_age_that_is_no_number_is_refused_for_this_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan stays listed; the refusal names the model, so another may still score it."""
    card = model.Card(recipe=recipes.small(), parts={})

    class Broken:
        def __init__(self) -> None:
            self.card, self.device = card, "cpu"

        def predict(self, scans: list[Scan]) -> list[Prediction]:
            return [_prediction(math.nan) for _ in scans]

    monkeypatch.setattr(predictor.Predictor, "load", lambda uri: Broken())
    step = score.Score(run=RUN, model_uri="anywhere")
    step.lanes = score.Lanes(step.model_uri)
    (row,) = step.rows([_decoded(SCAN)]).to_pylist()
    assert row["scan"] is not None
    assert row["age"] is None
    assert (row["reject"]["stage"], row["reject"]["code"]) == ("score", "score_failed")
    assert row["reject"]["model_id"] == card.model_id

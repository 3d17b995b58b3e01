"""The last steps of ``ray_data.run_parts``: what becomes of a part's decoded scans.

Each is a class that an actor builds once (models load there) and calls for each part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from bae import image, model, networks, recipes, samples
from bae.errors import ScanError
from bae.predictor import (
    Prediction,
    Predictor,
    chosen_views,
    localize,
    regressor_inputs,
    whole_views,
)
from bae.scan import Scan
from bae.staging import Decoded, staged

NO_ANSWER = ScanError("score_failed", "the networks gave no finite age")

BATCH_SCANS = 8
"""Scans that go through the networks together: enough to fill two CPU cores, and small memory."""


class Index:
    """Stage scans as read, without any network."""

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``tables.STAGED``."""
        return staged(items, [None] * len(items), None)


class Score:
    """Stage scans with their predictions."""

    def __init__(self, model_uri: str) -> None:
        """Load both networks once."""
        model.use_every_core()
        self.predictor = Predictor.load(model_uri)

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``tables.STAGED``."""
        predictions: list[Prediction | ScanError | None] = [None] * len(items)
        read = [(i, item.outcome) for i, item in enumerate(items) if isinstance(item.outcome, Scan)]
        for start in range(0, len(read), BATCH_SCANS):
            chunk = read[start : start + BATCH_SCANS]
            found = self.predictor.predict([scan for _, scan in chunk])
            for (i, _), prediction in zip(chunk, found, strict=True):
                predictions[i] = prediction if math.isfinite(prediction.age_years) else NO_ANSWER
        return staged(items, predictions, self.predictor.card.model_id)


_FLOATS = pa.list_(pa.field("element", pa.float64()))

OUTCOMES = pa.schema(
    [
        pa.field("scan_id", pa.string()),
        pa.field("predicted_age_years", pa.float64()),
        pa.field("spread_years", pa.float64()),
        pa.field("age_low_years", pa.float64()),
        pa.field("age_high_years", pa.float64()),
        pa.field("group_probabilities", _FLOATS),
        pa.field("views", pa.list_(pa.field("element", pa.string()))),
        pa.field("view_ages_years", _FLOATS),
    ]
)
"""What a model says of a scan, for calibration and evaluation; as ``predictor.Prediction``."""


class Outcomes:
    """Keep what the nightly job would answer, with what only an evaluation asks for."""

    def __init__(self, model_uri: str, sexes: Mapping[str, str | None]) -> None:
        """Load the model once; ``sexes`` are those of the scans to score, by scan_id."""
        model.use_every_core()
        self.predictor = Predictor.load(model_uri)
        self.sexes = sexes

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``OUTCOMES``; a zip file may hold other scans beside those wanted."""
        scans = {
            item.scan_id: replace(item.outcome, sex=self.sexes[item.scan_id])
            for item in items
            if isinstance(item.outcome, Scan) and item.scan_id in self.sexes
        }
        names, rows = list(scans), []
        for start in range(0, len(names), BATCH_SCANS):
            chunk = names[start : start + BATCH_SCANS]
            found = self.predictor.predict([scans[scan_id] for scan_id in chunk])
            rows += [_outcome(*pair) for pair in zip(chunk, found, strict=True)]
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


class LocalizerSamples:
    """Prepare every view as the localizer will see it."""

    def __init__(self, recipe: recipes.Recipe, known: samples.Truth) -> None:
        """Keep the recipe, for windowing and input size, and what to train on."""
        self.recipe, self.known = recipe, known

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``samples.SCHEMA``."""
        size = (self.recipe.localizer.height, self.recipe.localizer.width)
        rows = []
        for scan_id, scan in samples.wanted(items, self.known):
            for view in chosen_views(scan, self.recipe):
                grey = image.window(image.to_tensor(view.counts), self.recipe.windowing)
                picture = image.to_bytes(image.resize(grey, *size))
                rows.append(samples.row(scan_id, view.name, self.known, picture))
        return pa.Table.from_pylist(rows, schema=samples.SCHEMA)


class RegressorSamples:
    """Crop every view where the trained localizer says, as the regressor will see it."""

    def __init__(self, recipe: recipes.Recipe, known: samples.Truth, model_uri: str | None) -> None:
        """Load the localizer once; without a model every view is taken whole."""
        model.use_every_core()
        self.recipe, self.known = recipe, known
        self.device = model.best_device()
        self.localizer: networks.Localizer | None = None
        if model_uri is not None:
            localizer = model.load_localizer(model_uri, model.load_card(model_uri))
            self.localizer = model.onto(localizer, self.device)

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``samples.SCHEMA``."""
        margin = self.recipe.fit_regressor.box_jitter
        rows = []
        for scan_id, scan in samples.wanted(items, self.known):
            views = chosen_views(scan, self.recipe)
            if self.localizer is None:
                found = whole_views(self.recipe, views, self.device)
            else:
                found = localize(self.localizer, self.recipe, views, self.device)
            inputs = regressor_inputs(self.recipe, found, margin)
            names = ["both"] if self.recipe.regressor.pair else [view.view for view in found]
            for name, picture in zip(names, inputs, strict=True):
                rows.append(samples.row(scan_id, name, self.known, image.to_bytes(picture)))
        return pa.Table.from_pylist(rows, schema=samples.SCHEMA)

"""The last steps of ``ray_data.run_parts``: what becomes of a part's decoded scans.

Each is a class that an actor builds once (models load there) and calls for each part, for
more than one at a time, in threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from bae import fused, image, malloc, model, networks, recipes, ridge, samples
from bae.errors import ScanError
from bae.predictor import (
    Prediction,
    Predictor,
    chosen_views,
    localize,
    regressor_inputs,
    whole_views,
)
from bae.scan import POSTERIOR, Scan
from bae.staging import Decoded, staged

NO_ANSWER = ScanError("score_failed", "the networks gave no finite age")

SCANS_AT_ONCE = {"cpu": 1, "cuda": 64}
"""Scans that go through the networks together: on a GPU many; a CPU's caches hold few."""


class Lanes:
    """A model's answers for many scans: one lane for each core, or one for the GPU.

    Each core takes scans of its own. Cores that share one scan wait for each other at
    every layer, and for whichever of them a decoder has just pushed aside.
    """

    def __init__(self, model_uri: str) -> None:
        """Load both networks once; torch's threads in this process become one per lane."""
        self.predictor = Predictor.load(model_uri)
        on_cpu = self.predictor.device == "cpu"
        self.threads = ThreadPoolExecutor(model.cores() if on_cpu else 1)
        self.at_once = SCANS_AT_ONCE[self.predictor.device]
        torch.set_num_threads(1)
        malloc.keep_freed()

    def predict(self, scans: Sequence[Scan]) -> list[Prediction]:
        """Return ``Predictor.predict`` of the scans, without their grey pictures.

        Those of a part would take 1.4 GB at 900 x 3000.
        """
        chunks = [scans[at : at + self.at_once] for at in range(0, len(scans), self.at_once)]
        return [one for found in self.threads.map(self._without_grey, chunks) for one in found]

    def _without_grey(self, chunk: Sequence[Scan]) -> list[Prediction]:
        nothing = torch.empty(0, 0)
        return [
            replace(each, views=tuple(replace(view, grey=nothing) for view in each.views))
            for each in self.predictor.predict(chunk)
        ]


class Score:
    """Stage scans with their predictions."""

    def __init__(self, model_uri: str) -> None:
        """Load both networks once."""
        self.lanes = Lanes(model_uri)

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``tables.STAGED``."""
        predictions: list[Prediction | ScanError | None] = [None] * len(items)
        read = [(i, item.outcome) for i, item in enumerate(items) if isinstance(item.outcome, Scan)]
        found = self.lanes.predict([scan for _, scan in read])
        for (i, _), prediction in zip(read, found, strict=True):
            predictions[i] = prediction if math.isfinite(prediction.age_years) else NO_ANSWER
        return staged(items, predictions, self.lanes.predictor.card.model_id)


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
        self.lanes = Lanes(model_uri)
        self.sexes = sexes

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``OUTCOMES``; a zip file may hold other scans beside those wanted."""
        scans = {
            item.scan_id: replace(item.outcome, sex=self.sexes[item.scan_id])
            for item in items
            if isinstance(item.outcome, Scan) and item.scan_id in self.sexes
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


THUMBNAILS = pa.schema([pa.field("scan_id", pa.string()), pa.field("pixels", _FLOATS)])


class Thumbnails:
    """Shrink both views to what ``bae.ridge`` learns from."""

    def __init__(self, windowing: recipes.Windowing, wanted: Sequence[str]) -> None:
        """Keep how to window, and which scans."""
        self.windowing, self.wanted = windowing, set(wanted)

    def __call__(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``THUMBNAILS``: anterior, then posterior; NaN where a view is missing."""
        rows = []
        for item in items:
            if not isinstance(item.outcome, Scan) or item.scan_id not in self.wanted:
                continue
            pixels = np.full((2, ridge.ROWS, ridge.COLUMNS), np.nan)
            for view in item.outcome.views:
                grey = image.window(image.to_tensor(view.counts), self.windowing)
                # a view of unknown name counts as anterior, which most single views are
                place = int(view.name == POSTERIOR)
                pixels[place] = image.resize(grey, ridge.ROWS, ridge.COLUMNS).numpy()
            rows.append({"scan_id": item.scan_id, "pixels": pixels.ravel().tolist()})
        return pa.Table.from_pylist(rows, schema=THUMBNAILS)


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
            self.localizer = fused.fast(model.onto(localizer, self.device))

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

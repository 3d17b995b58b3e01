"""The last steps of ``parts.run_parts``: what becomes of a part's decoded scans.

Each is a class that an actor builds once (models load there) and calls for each part, for
more than one at a time, in threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import torch

from bae import malloc
from bae.archive.intake import Decoded
from bae.errors import ScanError
from bae.method import hardware
from bae.method.predictor import Prediction, Predictor
from bae.pipeline.rows import staged
from bae.scan import Scan

NO_ANSWER = ScanError("score_failed", "the networks gave no finite age")

SCANS_AT_ONCE = {"cpu": 1, "cuda": 64}
"""Scans that go through the networks together: on a GPU many; a CPU's caches hold few."""


def own_process() -> None:
    """Prepare an actor's process for ``Lanes``: torch takes one core a lane, memory is kept."""
    hardware.use_cores(1)
    malloc.keep_freed()


class Lanes:
    """A model's answers for many scans: one lane for each core, or one for the GPU.

    Each core takes scans of its own. Cores that share one scan wait for each other at
    every layer, and for whichever of them a decoder has just pushed aside.
    """

    def __init__(self, model_uri: str) -> None:
        """Load both networks once."""
        self.predictor = Predictor.load(model_uri)
        on_cpu = self.predictor.device == "cpu"
        self.threads = ThreadPoolExecutor(hardware.cores() if on_cpu else 1)
        self.at_once = SCANS_AT_ONCE[self.predictor.device]

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
        """Return rows of ``contract.STAGED``."""
        predictions: list[Prediction | ScanError | None] = [None] * len(items)
        read = [(i, item.outcome) for i, item in enumerate(items) if isinstance(item.outcome, Scan)]
        found = self.lanes.predict([scan for _, scan in read])
        for (i, _), prediction in zip(read, found, strict=True):
            predictions[i] = prediction if math.isfinite(prediction.age_years) else NO_ANSWER
        return staged(items, predictions, self.lanes.predictor.card.model_id)

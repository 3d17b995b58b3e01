"""The step of the nightly job: both networks over decoded scans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from bae import malloc
from bae.archive.intake import Decoded
from bae.errors import ScanError
from bae.pipeline.rows import Index, as_told, staged
from bae.scan import Scan

if TYPE_CHECKING:  # torch, in the actor alone
    from bae.method.prediction import Prediction

NO_ANSWER = ScanError("score_failed", "the networks gave no finite age")

SCANS_AT_ONCE = {"cpu": 1, "cuda": 64}
"""Scans that go through the networks together: on a GPU many; a CPU's caches hold few."""


class Lanes:
    """A model's answers for many scans: one lane for each core, or one for the GPU.

    Each core takes scans of its own. Cores that share one scan wait for each other at
    every layer, and for whichever of them a decoder has just pushed aside.
    """

    def __init__(self, model_uri: str) -> None:
        """Load both networks once."""
        from bae.method import hardware
        from bae.method.predictor import Predictor

        self.predictor = Predictor.load(model_uri)
        on_cpu = self.predictor.device == "cpu"
        self.threads = ThreadPoolExecutor(hardware.cores() if on_cpu else 1)
        self.at_once = SCANS_AT_ONCE[self.predictor.device]

    @classmethod
    def of_process(cls, model_uri: str) -> Lanes:
        """Load both networks into a process that has nothing else to do: see ``Step.load``.

        Torch computes with one thread for each lane, and freed memory stays for the next scan.
        """
        import torch

        lanes = cls(model_uri)
        torch.set_num_threads(1)
        malloc.keep_freed()
        return lanes

    def predict(self, scans: Sequence[Scan]) -> list[Prediction]:
        """Return ``Predictor.predict`` of the scans, without their grey images.

        Those of a part would take 1.4 GB at 900 x 3000.
        """
        chunks = [scans[at : at + self.at_once] for at in range(0, len(scans), self.at_once)]
        return [one for found in self.threads.map(self._without_grey, chunks) for one in found]

    def _without_grey(self, chunk: Sequence[Scan]) -> list[Prediction]:
        return [
            replace(
                each,
                views=tuple(replace(view, grey=view.grey.new_empty(0, 0)) for view in each.views),
            )
            for each in self.predictor.predict(chunk)
        ]


@dataclass(kw_only=True, eq=False)
class Score(Index):
    """Stage scans with their predictions.

    Attributes:
        told: what the tables say of scans that a labels file has spoken of, by scan_id; see
            ``current.labelled``.
    """

    name: ClassVar[str] = "Score"
    model_uri: str
    told: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    lanes: Lanes = field(init=False, repr=False)

    def load(self) -> None:
        """Load both networks."""
        self.lanes = Lanes.of_process(self.model_uri)

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Return rows of ``contract.STAGED``."""
        predictions: list[Prediction | ScanError | None] = [None] * len(items)
        read = [
            (i, as_told(item.outcome, self.told.get(item.scan_id)))
            for i, item in enumerate(items)
            if isinstance(item.outcome, Scan)
        ]
        found = self.lanes.predict([scan for _, scan in read])
        for (i, _), prediction in zip(read, found, strict=True):
            predictions[i] = prediction if math.isfinite(prediction.age_years) else NO_ANSWER
        return staged(items, predictions, self.lanes.predictor.card.model_id)

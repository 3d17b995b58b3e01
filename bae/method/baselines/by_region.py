"""One regressor a region, averaged (Iglovikov et al. 2018): the whole body and two bands of it.

Shape suffixes: N views or crops, H, W of the input, F features of all readers side by side, B
bins, S thinned copies, A answers.
"""

import torch
from torch import Tensor, nn

from bae import recipes
from bae.method.networks import Look, Regressor

BANDS = {
    "whole body": (0.0, 1.0),
    "head and thorax": (0.0, 0.42),
    "pelvis to knees": (0.36, 0.76),
}
"""Shares of the body's length, from the crown; they overlap, so no place is at an edge of both."""


class ByRegion(Regressor):
    """Several regressors, each with a trunk and a head of its own; the answer is their mean.

    For crops that show the body alone (``region.parts=body``): there a share of the height is
    about the same place in everybody.
    """

    shares = (1.0,) * len(BANDS)

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights."""
        super().__init__(config)
        del self.trunk, self.sex, self.head, self.kept  # each reader has its own
        self.readers = nn.ModuleList(Regressor(config) for _ in BANDS)

    def look(self, crop_N1HW: Tensor) -> Look:
        """Return what each reader sees of its band, side by side: (N, F)."""
        rows = crop_N1HW.shape[2]
        bands = [crop_N1HW[:, :, round(a * rows) : round(b * rows)] for a, b in BANDS.values()]
        seen = [r.look(band).pooled_NF for r, band in zip(self._each(), bands, strict=True)]
        return Look(pooled_NF=torch.cat(seen, dim=1))

    def lessons(self, crop_N1HW: Tensor, male_N: Tensor) -> Tensor:
        """Return the last layers (A, N, B), one of each reader."""
        own = self._own(self.look(crop_N1HW).pooled_NF)
        return torch.stack([r.answer(seen, male_N, scores=True) for r, seen in own])

    def answer(self, pooled_NF: Tensor, male_N: Tensor, scores: bool = False) -> Tensor:
        """Return the readers' mean ages (N,), or their mean last layer (N, B)."""
        own = self._own(pooled_NF)
        return torch.stack([r.answer(seen, male_N, scores) for r, seen in own]).mean(dim=0)

    def ensemble(self, pooled_NF: Tensor, male_N: Tensor) -> Tensor:
        """Return the readers' mean ages (S, N), by S thinned heads of each."""
        own = self._own(pooled_NF)
        return torch.stack([r.ensemble(seen, male_N) for r, seen in own]).mean(dim=0)

    def _own(self, pooled_NF: Tensor) -> list[tuple[Regressor, Tensor]]:
        """Return each reader with its part of what ``look`` saw."""
        return list(zip(self._each(), pooled_NF.chunk(len(BANDS), dim=1), strict=True))

    def _each(self) -> list[Regressor]:
        return [reader for reader in self.readers if isinstance(reader, Regressor)]

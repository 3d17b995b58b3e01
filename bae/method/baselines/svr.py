"""A scan's way through support vector regression: see ``vectors``.

Shape suffixes: N views, F features, K age groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bae.method import fused, hardware, image, model
from bae.method.baselines.vectors import Vectors, codes
from bae.method.networks import Localizer, pool
from bae.method.prediction import Prediction
from bae.method.predictor import Predictor, chosen_views
from bae.method.regional.bodies import whole
from bae.recipes import Recipe
from bae.scan import SEX_CODE, Scan, View

Floats32 = NDArray[np.float32]


def look(
    network: Localizer, recipe: Recipe, views: Sequence[View], device: str
) -> tuple[Floats32, Floats32]:
    """Return what the localizer sees of whole views: (N, F) features and (N, K) probabilities."""
    greys = [image.window(image.to_tensor(view.counts, device), recipe.windowing) for view in views]
    with hardware.inference(device):
        size = (recipe.localizer.height, recipe.localizer.width)
        scores_NK, features_NFVU = network(image.prepare(greys, *size))
        pooled_NF, sure_NK = pool(features_NFVU), scores_NK.float().softmax(dim=1)
    return pooled_NF.cpu().numpy(), sure_NK.cpu().numpy()


class SupportVectors(Predictor):
    """The localizer's features of whole views, and the regression that reads them.

    It has no regions. Its spread is a constant, the error on patients left out: two views say
    little of it, and one nothing.
    """

    def __init__(
        self, network: Localizer, vectors: Vectors, card: model.Card, device: str = "cpu"
    ) -> None:
        """Move the localizer to the device; as a localizer of regions it is not asked."""
        self.card, self.recipe, self.device = card, card.recipe, device
        self.vectors = vectors
        self.localizer = self.fast_localizer = None
        self.network = hardware.onto(network, device).eval()
        self.fast_network = fused.fast(self.network)

    def predict(self, scans: Sequence[Scan]) -> list[Prediction]:
        """Estimate the age of each scan: the mean of its views' answers."""
        if not scans:
            return []
        per_scan = [chosen_views(scan, self.recipe) for scan in scans]
        every = [view for views in per_scan for view in views]
        male_N = np.array(
            [SEX_CODE[s.sex] for s, own in zip(scans, per_scan, strict=True) for _ in own]
        )
        features_NF, sure_NK = look(self.fast_network, self.recipe, every, self.device)
        years_N = self.vectors.predict(features_NF, male_N, codes([view.name for view in every]))
        shown = iter(
            [
                (replace(whole(view), group=int(sure_K.argmax()), probabilities=sure_K), float(age))
                for view, sure_K, age in zip(every, sure_NK, years_N, strict=True)
            ]
        )
        found = [[next(shown) for _ in views] for views in per_scan]
        return [
            self._prediction(
                scan, [view for view, _ in own], [age for _, age in own], self.vectors.error_years
            )
            for scan, own in zip(scans, found, strict=True)
        ]

    def fast_trunks(self) -> list[fused.FusedTrunk]:
        """Return what reads pictures, as it runs."""
        return [m for m in self.fast_network.modules() if isinstance(m, fused.FusedTrunk)]

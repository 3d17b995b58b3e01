"""The whole method without Ray: ``Predictor.load(uri).predict(scans)``.

Shape suffixes: N views, K channels, V rows, U columns of the map, H, W of an input,
R, C rows and columns of a stored view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae import image, model, roi
from bae.heatmap import class_heatmap, to_byte_scale
from bae.networks import Localizer, Regressor
from bae.recipes import Recipe
from bae.scan import SEX_CODE, Scan, View


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalizedView:
    """What the localizer says of one view.

    Attributes:
        view: ``anterior``, ``posterior`` or ``unknown``.
        group: the predicted age group, 0 is the youngest; the class c of Eq. (1).
        probabilities: (C,) softmax of the scores, sums to 1.
        heat: (V, U) uint8, 0-255, the network's own map size.
        heat_min, heat_max: what 0 and 255 stand for, unitless.
        boxes: regions in stored pixels, the cropped one first.
        grey: (R, C) the windowed view on the device, to crop from.
    """

    view: str
    group: int
    probabilities: NDArray[np.float32]
    heat: NDArray[np.uint8]
    heat_min: float
    heat_max: float
    boxes: list[roi.Box]
    grey: Tensor

    @property
    def crop(self) -> Tensor:
        """Return the windowed pixels of the first box, at the stored scan's resolution."""
        box = self.boxes[0]
        return self.grey[box.y0 : box.y1, box.x0 : box.x1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What the method says of one scan.

    Attributes:
        age_years: mean of the views' predicted ages.
        low_years, high_years: 90 % interval, None where the model has no validation error.
        view_ages_years: predicted age of each view, in the order of ``views``.
        probabilities: (C,) mean over views of the age groups' probabilities.
        views: what was found in each view.
        flags: what was unusual about the prediction itself.
    """

    age_years: float
    low_years: float | None
    high_years: float | None
    view_ages_years: tuple[float, ...]
    probabilities: NDArray[np.float32]
    views: tuple[LocalizedView, ...]
    flags: tuple[str, ...] = ()


def chosen_views(scan: Scan, recipe: Recipe) -> tuple[View, ...]:
    """Return the views that the recipe asks for; all of them where none has that name."""
    named = tuple(v for v in scan.views if recipe.region.views in ("both", v.name))
    return named or scan.views


@contextmanager
def _inference(device: str) -> Iterator[None]:
    """Run without gradients, matrix products in bf16 where the hardware has it."""
    half = device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
        yield


def localize(
    localizer: Localizer, recipe: Recipe, views: Sequence[View], device: str
) -> list[LocalizedView]:
    """Find age group, heat map and boxes of each view.

    Args:
        localizer: in evaluation mode, on the device.
        recipe: windowing, input size, γ.
        views: any sizes.
        device: ``cpu`` or ``cuda``.
    """
    size = (recipe.localizer.height, recipe.localizer.width)
    greys = [image.window(image.to_tensor(v.counts, device), recipe.windowing) for v in views]
    with _inference(device):
        scores_NC, features_NKVU = localizer(image.prepare(greys, *size))
        group_N = scores_NC.argmax(dim=1)
        heat_NVU = class_heatmap(features_NKVU, localizer.head.weight, group_N)
        probabilities_NC = scores_NC.float().softmax(dim=1).cpu().numpy()
        heat_bytes_NVU = to_byte_scale(heat_NVU).cpu().numpy()
    lows, highs = heat_NVU.amin(dim=(1, 2)).tolist(), heat_NVU.amax(dim=(1, 2)).tolist()
    return [
        LocalizedView(
            view=view.name,
            group=int(group_N[i]),
            probabilities=probabilities_NC[i],
            heat=heat_bytes_NVU[i],
            heat_min=lows[i],
            heat_max=highs[i],
            boxes=roi.find_boxes(heat_bytes_NVU[i], view.counts.shape, recipe.region),
            grey=greys[i],
        )
        for i, view in enumerate(views)
    ]


class Predictor:
    """Both networks of one model, ready on one device."""

    def __init__(
        self,
        localizer: Localizer,
        regressor: Regressor,
        card: model.Card,
        device: str = "cpu",
    ) -> None:
        """Move both networks to the device."""
        self.card = card
        self.recipe = card.recipe
        self.device = device
        self.localizer = model.onto(localizer, device).eval()
        self.regressor = model.onto(regressor, device).eval()

    @classmethod
    def load(cls, uri: str, device: str | None = None) -> Predictor:
        """Load a model folder.

        Args:
            uri: a path, ``file://`` or ``s3://`` URI of the folder.
            device: ``cpu`` or ``cuda``; by default the GPU where there is one.

        Raises:
            ModelError: a part is missing or does not match the card.
        """
        card = model.load_card(uri)
        return cls(
            model.load_localizer(uri, card),
            model.load_regressor(uri, card),
            card,
            device or model.best_device(),
        )

    def predict(self, scans: Sequence[Scan]) -> list[Prediction]:
        """Estimate the age of each scan.

        Each view goes through both networks by itself; the scan's age is the mean of
        its views' ages (our reading: the paper does not say which views it used).
        """
        if not scans:
            return []
        per_scan = [chosen_views(scan, self.recipe) for scan in scans]
        localized = localize(
            self.localizer, self.recipe, [v for views in per_scan for v in views], self.device
        )
        male_N = torch.tensor(
            [SEX_CODE[s.sex] for s, views in zip(scans, per_scan, strict=True) for _ in views],
            device=self.device,
        )
        size = (self.recipe.regressor.height, self.recipe.regressor.width)
        with _inference(self.device):
            crops_N1HW = image.prepare([found.crop for found in localized], *size)
            ages: list[float] = self.regressor(crops_N1HW, male_N).tolist()
        predictions, start = [], 0
        for scan, views in zip(scans, per_scan, strict=True):
            stop = start + len(views)
            predictions.append(self._combine(scan, localized[start:stop], ages[start:stop]))
            start = stop
        return predictions

    def _combine(self, scan: Scan, found: list[LocalizedView], ages: list[float]) -> Prediction:
        age = float(np.mean(ages))
        half = self.card.parts["regressor"].metrics.get("validation_error_90_years")
        flags = [
            *(["heatmap_flat"] if any(f.heat_max == f.heat_min for f in found) else []),
            *(["sex_unknown"] if scan.sex is None and self.recipe.regressor.use_sex else []),
        ]
        return Prediction(
            age_years=age,
            low_years=None if half is None else age - half,
            high_years=None if half is None else age + half,
            view_ages_years=tuple(ages),
            probabilities=np.mean([f.probabilities for f in found], axis=0),
            views=tuple(found),
            flags=tuple(flags),
        )

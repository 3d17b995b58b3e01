"""What a method says of one view, and of one scan: values, the same for every method."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bae.scan import Box


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalizedView:
    """What the localizer says of one view.

    Attributes:
        view: ``anterior``, ``posterior`` or ``unknown``.
        group: the predicted age group, 0 is the youngest; the class c of Eq. (1). 0 without a
            localizer.
        probabilities: (K,) softmax of the scores, sums to 1; empty without a localizer.
        heat: (V, U) uint8, 0-255, the network's own map size; (0, 0) without a localizer.
        heat_min, heat_max: what 0 and 255 stand for, unitless.
        boxes: regions in stored pixels, the cropped one first.
        grey: (rows, columns) the windowed view on the device, to crop from.
    """

    view: str
    group: int = 0
    probabilities: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    heat: NDArray[np.uint8]
    heat_min: float = 0.0
    heat_max: float = 0.0
    boxes: list[Box]
    grey: Tensor

    def crop(self, margin: float = 0.0) -> Tensor:
        """Return the windowed pixels of the first box, at the stored scan's resolution.

        Args:
            margin: surroundings on each side, as a share of the box; black outside the view.
        """
        return cut(self.grey, self.boxes[0], margin)


def cut(grey: Tensor, box: Box, margin: float = 0.0) -> Tensor:
    """Return the pixels of a box of a view (rows, columns); see ``LocalizedView.crop``."""
    down, right = round(margin * (box.y1 - box.y0)), round(margin * (box.x1 - box.x0))
    y0, y1, x0, x1 = box.y0 - down, box.y1 + down, box.x0 - right, box.x1 + right
    rows, columns = grey.shape
    inside = grey[max(y0, 0) : y1, max(x0, 0) : x1]
    return F.pad(inside, (max(-x0, 0), max(x1 - columns, 0), max(-y0, 0), max(y1 - rows, 0)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What the method says of one scan.

    Attributes:
        age_years: mean of the views' predicted ages.
        spread_years: standard deviation of the regressor's ensemble.
        low_years, high_years: 90 % interval, None where the model has no validation error.
        view_ages_years: predicted age of each view, in the order of ``views``; a single
            one where both views enter the regressor together.
        group: the most probable age group; that of the age where there is no localizer.
        probabilities: (K,) mean over views of the age groups' probabilities, calibrated
            where the model's card knows how; empty where there is no localizer.
        views: what was found in each view.
        flags: what was unusual about the prediction itself.
    """

    age_years: float
    spread_years: float
    low_years: float | None
    high_years: float | None
    view_ages_years: tuple[float, ...]
    group: int
    probabilities: NDArray[np.floating]
    views: tuple[LocalizedView, ...]
    flags: tuple[str, ...] = ()

"""A stand-in for a method of several regions: it reads the spread of counts at fixed places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from bae import recipes
from bae.method.prediction import LocalizedView, Prediction
from bae.method.predictor import chosen_views
from bae.method.regional import frame
from bae.method.regional.places import place_name
from bae.scan import Box, Scan, View

PLACES = ((0.06, 0.0), (0.35, 0.0), (0.66, 0.05))
"""Crown to sole and midline of the regions: skull, lumbar spine, left knee."""
WEIGHTS = (0.5, 0.3, 0.2)
MEAN_YEARS = 60.0


def view_of(view: View, places: Sequence[tuple[float, float]] = PLACES) -> list[Box]:
    """Return the boxes of one view, a tenth of the body long, most heat first."""
    affine = frame.outline(view.counts, None)
    rows, columns = view.counts.shape
    boxes = []
    for (down, across), weight in zip(places, WEIGHTS, strict=True):
        sign = -1 if view.name == "posterior" else 1
        y_mm = frame.CROWN_MM + down * frame.BODY_MM
        x_mm = frame.FRAME[1] * frame.CELL_MM / 2 + sign * across * frame.BODY_MM
        y, x = affine @ [y_mm, x_mm, 1.0]
        half = 0.05 * frame.BODY_MM * affine[0, 0]
        y0, y1 = max(round(y - half), 0), min(round(y + half), rows)
        x0, x1 = max(round(x - half), 0), min(round(x + half), columns)
        inside = view.counts[y0:y1, x0:x1].astype(float)
        boxes.append(
            Box(
                x0=x0,
                y0=y0,
                x1=x1,
                y1=y1,
                heat_share=weight,
                weight=weight,
                crown_sole=down,
                midline=across,
                name=place_name(down, across),
                years=weight * float(inside.std()),
            )
        )
    return boxes


class Several:
    """Has what the evaluation asks of ``Predictor``, and no network."""

    localizer = None
    device = "cpu"
    recipe = recipes.regional()
    places: Sequence[tuple[float, float]] = PLACES

    def predict(self, scans: Sequence[Scan]) -> list[Prediction]:
        """Read the age from the boxes alone."""
        return [self._one(scan) for scan in scans]

    def _one(self, scan: Scan) -> Prediction:
        views = chosen_views(scan, self.recipe)
        found = []
        for view in views:
            boxes = [
                replace(box, weight=box.weight / len(views), years=box.years / len(views))
                for box in view_of(view, places=self.places)
                if box.weight is not None and box.years is not None
            ]
            found.append(
                LocalizedView(
                    view=view.name,
                    group=0,
                    probabilities=np.empty(0, np.float32),
                    heat=np.arange(40, dtype=np.uint8).reshape(10, 4) * 6,
                    heat_min=0.0,
                    heat_max=1.0,
                    boxes=boxes,
                    grey=torch.zeros(1, 1),
                )
            )
        age = MEAN_YEARS + sum(box.years or 0.0 for view in found for box in view.boxes)
        return Prediction(
            age_years=age,
            spread_years=0.0,
            low_years=None,
            high_years=None,
            view_ages_years=(age,),
            group=0,
            probabilities=np.empty(0, np.float32),
            views=tuple(found),
        )


class Forgetful(Several):
    """One that can make what it learned random: then it looks at the feet."""

    def randomised(self, seed: int) -> Iterator[tuple[str, Forgetful]]:
        """Yield itself, first with one place wrong, then with all."""
        spoilt = Forgetful()
        for layer, wrong in (("head", 1), ("trunk", 3)):
            feet = [(0.85, -0.02), (0.85, 0.0), (0.85, 0.02)]
            spoilt.places = [*feet[:wrong], *PLACES[wrong:]]
            yield layer, spoilt

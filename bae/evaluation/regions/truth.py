"""Is the region right? What the truth of simulated scans says; see ``bae.phantom.evidence``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bae import body
from bae.evaluation.panels import RegionPanel
from bae.evaluation.regions import controls
from bae.method import boxes as method_boxes
from bae.phantom import PhantomConfig
from bae.phantom.evidence import Evidence
from bae.phantom.limits import latent_mae_years
from bae.scan import Box

DRAWS = 8
"""Random choices that several regions are compared with; their mean counts."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How much the regions keep of the evidence in their scan's views.

    Attributes:
        region: share of the information about latent age that all boxes together keep.
        elsewhere: the same for one other box of that size in the body; for several regions
            the mean of as many random boxes of these sizes. NaN where none fit.
        anatomical: the same for as many boxes of these sizes at fixed places of the body; NaN
            for a method of one region.
        area: share of the body's pixels that the boxes cover.
        limit_whole_years, limit_region_years: least mean absolute error of a reader of all,
            and of the boxes alone.
    """

    region: float
    elsewhere: float
    anatomical: float
    area: float
    limit_whole_years: float
    limit_region_years: float


def kept(
    truth: Evidence,
    own: Sequence[RegionPanel],
    config: PhantomConfig,
    seed: int = 0,
) -> Kept:
    """Compare the boxes of one phantom's views with the whole views."""
    whole = {p.view: [Box(0, 0, p.counts.shape[1], p.counts.shape[0], 1.0)] for p in own}
    everything = truth.information(truth.shares(whole))

    def share(boxes: Mapping[str, Sequence[Box]]) -> float:
        return truth.information(truth.shares(boxes)) / everything

    region = share({p.view: p.boxes for p in own})
    rng = np.random.default_rng(seed)
    several = any(len(p.boxes) > 1 for p in own)
    masks = [body.body_mask(p.counts) for p in own]
    drawn = [
        {p.view: _others(p, mask, rng, several) for p, mask in zip(own, masks, strict=True)}
        for _ in range(DRAWS if several else 1)
    ]
    others = [share(found) for found in drawn if all(found.values())]
    inside = sum(
        int((controls.covered(p.boxes, mask.shape) & mask).sum())
        for p, mask in zip(own, masks, strict=True)
    )

    def limit(information: float) -> float:
        return latent_mae_years(config, reader_sd=max(information, 1e-6) ** -0.5)

    return Kept(
        region=region,
        elsewhere=float(np.mean(others)) if others else float("nan"),
        anatomical=(
            share({p.view: controls.anatomical(p) for p in own}) if several else float("nan")
        ),
        area=inside / max(sum(int(mask.sum()) for mask in masks), 1),
        limit_whole_years=limit(everything),
        limit_region_years=limit(region * everything),
    )


def _others(
    panel: RegionPanel, mask: controls.Mask, rng: np.random.Generator, several: bool
) -> list[Box]:
    """Return other boxes of one view, or none.

    One region is compared with another place; several with chance, which may hit them: what
    lies away from all of them would be worse than chance.
    """
    if not several:
        return method_boxes.elsewhere(panel.box, mask, rng, 1)
    return controls.scattered(panel.boxes, mask, rng, away=False) or []

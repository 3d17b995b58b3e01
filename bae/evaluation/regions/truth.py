"""Is the region right? What the truth of simulated scans says; see ``bae.phantom.evidence``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bae import body
from bae.evaluation.panels import RegionPanel
from bae.method import boxes as method_boxes
from bae.phantom import PhantomConfig
from bae.phantom.evidence import Evidence
from bae.phantom.limits import latent_mae_years
from bae.scan import Box


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How much a region keeps of the evidence in its scan's views.

    Attributes:
        region: share of the information about latent age that the boxes keep.
        elsewhere: the same for other boxes of that size in the body, mean; NaN where none fit.
        limit_whole_years, limit_region_years: least mean absolute error of a reader of all,
            and of the boxes alone.
    """

    region: float
    elsewhere: float
    limit_whole_years: float
    limit_region_years: float


def kept(
    truth: Evidence,
    own: Sequence[RegionPanel],
    config: PhantomConfig,
    seed: int = 0,
) -> Kept:
    """Compare the boxes of one phantom's views with the whole views."""
    whole = {p.view: Box(0, 0, p.counts.shape[1], p.counts.shape[0], 1.0) for p in own}
    everything = truth.information(truth.shares(whole))
    inside = truth.information(truth.shares({p.view: p.box for p in own}))
    rng = np.random.default_rng(seed)
    others = {p.view: method_boxes.elsewhere(p.box, body.body_mask(p.counts), rng, 1) for p in own}
    control = float("nan")
    if all(others.values()):
        boxes = {view: found[0] for view, found in others.items()}
        control = truth.information(truth.shares(boxes)) / everything

    def limit(information: float) -> float:
        return latent_mae_years(config, reader_sd=max(information, 1e-6) ** -0.5)

    return Kept(
        region=inside / everything,
        elsewhere=control,
        limit_whole_years=limit(everything),
        limit_region_years=limit(inside),
    )

"""Log uptake by place and scale: what the linear model reads of a body on the frame.

Bands of the logarithm of counts, so that neither the injected dose nor the camera matters,
in cells that the template calls body, the two sides averaged: age is symmetric, noise is not.

Shape suffixes: N scans, Y, X rows and columns of the frame, H half the columns, J features
of a view.
"""

from itertools import pairwise

import torch
from torch import Tensor

from bae.method.regional.frame import FRAME, blurred, body_level

SCALES = (0.5, 1.0, 2.0, 4.0)
"""Blur of the bands' edges in cells: details of 4 to 32 mm."""
FAINTEST = 0.06
"""Added before the logarithm, in units of the body's mean: a cell of air is not minus infinity."""
HALF = FRAME[1] // 2


def body_half(mean_YX: Tensor) -> Tensor:
    """Return (Y, H) bool: cells of the body, from one side to the midline.

    Args:
        mean_YX: first channel of a template: the root of counts.
    """
    both_YX = (mean_YX + mean_YX.flip(-1)) / 2
    near_YX = blurred((both_YX > 0.25 * both_YX.max()).float()[None], 1.0)[0] > 0.3
    return near_YX[:, :HALF]


def size(body_YH: Tensor) -> int:
    """Return J: bands times cells of half the body."""
    return (len(SCALES) - 1) * int(body_YH.sum())


def features(density_NYX: Tensor, body_YH: Tensor) -> Tensor:
    """Return (N, J) log uptake by band and place; NaN where a view shows nothing.

    Args:
        density_NYX: views of one kind on the frame.
        body_YH: see ``body_half``; J is three times its cells.
    """
    held_NYX = (~density_NYX.isnan()).float()
    relative_NYX = density_NYX.nan_to_num().clamp_min(0) / body_level(density_NYX)[:, None, None]
    logs = []
    for scale in SCALES:
        share_NYX = blurred(held_NYX, scale)
        log_NYX = (blurred(relative_NYX, scale) / share_NYX.clamp_min(0.5) + FAINTEST).log()
        logs.append(log_NYX.masked_fill(share_NYX < 0.5, torch.nan))
    bands = [(fine - coarse) for fine, coarse in pairwise(logs)]
    sides = [torch.stack([band[..., :HALF], band.flip(-1)[..., :HALF]]) for band in bands]
    return torch.cat([side.nanmean(dim=0)[:, body_YH] for side in sides], dim=1)


def onto_body(values_J: Tensor, body_YH: Tensor) -> Tensor:
    """Return (Y, X) the sum over bands of a value by feature, half of it on either side."""
    half_YH = torch.zeros(body_YH.shape, dtype=values_J.dtype)
    half_YH[body_YH] = values_J.view(len(SCALES) - 1, -1).sum(dim=0) / 2
    return torch.cat([half_YH, half_YH.flip(-1)], dim=1)

"""Log uptake by place and scale: what the linear model reads of a body on the frame.

Bands of the logarithm of counts, so that neither the injected dose nor the camera matters,
in cells that the template calls body, the two sides averaged: age is symmetric, noise is not.

Shape suffixes: N scans, Y, X rows and columns of the frame, H half the columns, J features
of a view.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
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
    """Return (N, J) log uptake by band and place, mean of both sides; see ``sides``."""
    return sides(density_NYX, body_YH).nanmean(dim=0)


def sides(density_NYX: Tensor, body_YH: Tensor) -> Tensor:
    """Return (2, N, J) log uptake by band and place; NaN where a view shows nothing.

    Args:
        density_NYX: views of one kind on the frame.
        body_YH: see ``body_half``; J is three times its cells.
    """
    logs = log_uptake(density_NYX, SCALES)
    bands = [(fine - coarse) for fine, coarse in pairwise(logs)]
    both = [torch.stack([band[..., :HALF], band.flip(-1)[..., :HALF]]) for band in bands]
    return torch.cat([band_2NYH[:, :, body_YH] for band_2NYH in both], dim=2)


def log_uptake(density_NYX: Tensor, scales: Sequence[float]) -> list[Tensor]:
    """Return (N, Y, X) for each blur in cells: logarithm of counts in units of the body's mean.

    NaN where a view shows less than half of what the blur takes in.
    """
    held_NYX = (~density_NYX.isnan()).float()
    relative_NYX = density_NYX.nan_to_num().clamp_min(0) / body_level(density_NYX)[:, None, None]
    logs = []
    for scale in scales:
        share_NYX = blurred(held_NYX, scale)
        log_NYX = (blurred(relative_NYX, scale) / share_NYX.clamp_min(0.5) + FAINTEST).log()
        logs.append(log_NYX.masked_fill(share_NYX < 0.5, torch.nan))
    return logs


def agreement(one_NJ: NDArray[np.float32], two_NJ: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (J,) how far the mean of two sides can be trusted: 1 without noise, 0 for noise.

    The sides of a body are alike but for its noise, so their correlation over people says
    what share of a column's variance is people (Spearman 1910, Brown 1910: reliability of the
    mean of two halves).
    """
    there_NJ = ~(np.isnan(one_NJ) | np.isnan(two_NJ))
    count_J = np.maximum(there_NJ.sum(axis=0), 1)
    centred = []
    for side_NJ in (one_NJ, two_NJ):
        kept_NJ = np.where(there_NJ, side_NJ, 0)
        centred.append(np.where(there_NJ, kept_NJ - kept_NJ.sum(axis=0) / count_J, 0))
    one, two = centred
    size_J = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    alike_J = np.clip((one * two).sum(axis=0) / np.maximum(size_J, 1e-12), 0, 1)
    return np.asarray(2 * alike_J / (1 + alike_J), np.float32)


def onto_body(values_J: Tensor, body_YH: Tensor) -> Tensor:
    """Return (Y, X) the sum over bands of a value by feature, half of it on either side."""
    half_YH = torch.zeros(body_YH.shape, dtype=values_J.dtype)
    half_YH[body_YH] = values_J.view(len(SCALES) - 1, -1).sum(dim=0) / 2
    return torch.cat([half_YH, half_YH.flip(-1)], dim=1)

"""Counts to network input, and the exact map between both pixel grids.

Shape suffixes: N views, R rows, C columns of the stored scan; H, W of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bae.recipes import Windowing


@dataclass(frozen=True)
class Grid:
    """The map between a stored view's pixels and a resized input's pixels.

    Pixel centres lie at integers and the outer edges of both grids coincide, as in
    ``torch.nn.functional.interpolate(align_corners=False)``.

    Args:
        rows, columns: size of the stored view.
        height, width: size of the network input.
    """

    rows: int
    columns: int
    height: int
    width: int

    def to_input(self, y: float, x: float) -> tuple[float, float]:
        """Map a point of the stored view to the input; both in pixels."""
        return (
            (y + 0.5) * self.height / self.rows - 0.5,
            (x + 0.5) * self.width / self.columns - 0.5,
        )

    def to_scan(self, y: float, x: float) -> tuple[float, float]:
        """Map a point of the input to the stored view; the inverse of ``to_input``."""
        return (
            (y + 0.5) * self.rows / self.height - 0.5,
            (x + 0.5) * self.columns / self.width - 0.5,
        )


def to_tensor(counts_RC: NDArray[np.uint16] | NDArray[np.float32], device: str = "cpu") -> Tensor:
    """Move one view's counts to the device and make them float there.

    uint16 travels as it is (half the bytes of float32) and becomes float32 on the device.
    """
    # from_numpy refuses read-only arrays and foreign byte orders; both occur in decoded scans
    counts = np.require(counts_RC, requirements=["C", "W"])
    return torch.from_numpy(counts).to(device, non_blocking=True).to(torch.float32)


def window(counts_RC: Tensor, config: Windowing) -> Tensor:
    """Turn counts into grey values in [0, 1]: clip, scale, raise to a power.

    White is a percentile of the pixels that hold counts, since bladder, kidneys and
    injection site can lie a hundred times above bone (``bae/README.md``, windowing).
    The map is monotone, so a crop of the result is the result of the crop.

    Args:
        counts_RC: one view, float32, counts.
        config: percentile and power.

    Returns:
        (R, C) float32 in [0, 1]; all zero for a view without counts.
    """
    held = counts_RC[counts_RC > 0]
    if held.numel() == 0:
        return torch.zeros_like(counts_RC)
    rank = max(1, round(config.percentile / 100 * held.numel()))
    white = held.kthvalue(rank).values
    return (counts_RC / white).clamp_(0.0, 1.0).pow_(config.power)


def resize(grey_RC: Tensor, height: int, width: int) -> Tensor:
    """Resize one view to (height, width), bilinear, low-pass filtered where it shrinks."""
    return F.interpolate(
        grey_RC[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True
    )[0, 0].clamp_(0.0, 1.0)


def prepare(greys: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Stack windowed views (or crops) of any sizes into one network input.

    Returns:
        (N, 1, height, width) float32 in [0, 1].
    """
    return torch.stack([resize(grey, height, width) for grey in greys])[:, None]


def to_bytes(image_HW: Tensor) -> bytes:
    """Quantise a prepared input to 8 bits for the training cache.

    The root of the window makes the noise of ten counts about six of these steps, so
    the rounding (at most half a step) lies far below what the camera adds by itself.
    """
    return (image_HW * 255).round().to(torch.uint8).cpu().numpy().tobytes()

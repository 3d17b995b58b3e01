"""Counts to network input.

Shape suffixes: N views, R rows, C columns of the stored scan; H, W of the input,
L levels of a histogram.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bae.recipes import Windowing

# decoded scans lie in memory that nobody may write to, and nothing here does; torch warns of
# it once in each process: here, where nobody hears it
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.from_numpy(np.frombuffer(b" ", np.uint8))


def to_tensor(counts_RC: NDArray[np.uint16] | NDArray[np.float32], device: str = "cpu") -> Tensor:
    """Move one view's counts to the device as they are: uint16 is half the bytes of float32."""
    return torch.from_numpy(np.ascontiguousarray(counts_RC)).to(device, non_blocking=True)


def window(counts_RC: Tensor, config: Windowing) -> Tensor:
    """Turn counts into grey values in [0, 1]: clip, scale, raise to a power.

    White is a percentile of the pixels that hold counts, since bladder, kidneys and
    injection site can lie a hundred times above bone (``bae/method/PAPER.md``, intensity).
    The map is monotone, so a crop of the result is the result of the crop.

    Whole counts are looked up: each level is raised to the power once.

    Args:
        counts_RC: one view, uint16 or float32 counts.
        config: percentile and power.

    Returns:
        (R, C) float32 in [0, 1]; all zero for a view without counts.
    """
    if counts_RC.dtype != torch.uint16:
        return _window_numbers(counts_RC, config)
    white = _white(counts_RC, config)
    if not white:
        return torch.zeros(counts_RC.shape, device=counts_RC.device)
    grey_L = (torch.arange(white + 1, dtype=torch.float32) / white).pow_(config.power)
    if counts_RC.device.type != "cpu":
        return grey_L.to(counts_RC.device)[counts_RC.int().clamp_(max=white)]
    grey_RC = np.empty(counts_RC.shape, np.float32)
    grey, level, value = grey_RC.reshape(-1), grey_L.numpy(), counts_RC.numpy().reshape(-1)
    for at in range(0, value.size, _BLOCK):
        # levels above white are clipped to it
        level.take(value[at : at + _BLOCK], out=grey[at : at + _BLOCK], mode="clip")
    return torch.from_numpy(grey_RC)


_BLOCK = 1 << 15
"""Pixels looked up at once: numpy widens them to int64, which then stays in the CPU's cache."""


def _white(counts_RC: Tensor, config: Windowing) -> int:
    """Return the percentile of the pixels that hold counts, 0 where none does."""
    if counts_RC.device.type != "cpu":
        held_L = torch.bincount(counts_RC.int().flatten()).cpu()[1:].cumsum(0)
        held = int(held_L[-1]) if held_L.numel() else 0
        return 1 + int(torch.searchsorted(held_L, _rank(held, config))) if held else 0
    value = counts_RC.numpy()
    held = int(np.count_nonzero(value))
    brighter = held - _rank(held, config)  # so many may be above white
    low, high = min(1, held), int(value.max(initial=0))
    while low < high:  # comparing all pixels takes a tenth of counting them by level
        middle = (low + high) // 2
        if np.count_nonzero(value > middle) <= brighter:
            high = middle
        else:
            low = middle + 1
    return low


def _rank(held: int, config: Windowing) -> int:
    return max(1, round(config.percentile / 100 * held))


def _window_numbers(counts_RC: Tensor, config: Windowing) -> Tensor:
    """Window counts that are no whole numbers: a rescale slope, or values below zero."""
    held = counts_RC[counts_RC > 0]
    if held.numel() == 0:
        return torch.zeros_like(counts_RC)
    white = held.kthvalue(_rank(held.numel(), config)).values
    return (counts_RC / white).clamp_(0.0, 1.0).pow_(config.power)


def resize(grey_RC: Tensor, height: int, width: int) -> Tensor:
    """Resize one view to (height, width), bilinear, low-pass filtered where it shrinks.

    Rows first: torch begins with columns, which takes longer where both shrink.
    """
    if grey_RC.shape[1] == 1:  # torch 2.14 takes a single column for a row
        grey_RC = grey_RC.expand(-1, 2)
    tall = _interpolate(grey_RC[None, None], height, grey_RC.shape[1])
    return _interpolate(tall, height, width)[0, 0].clamp_(0.0, 1.0)


def _interpolate(grey_11RC: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(
        grey_11RC, (height, width), mode="bilinear", align_corners=False, antialias=True
    )


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

"""What there is to compute on, and how networks are moved onto it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def onto(network: N, device: str) -> N:
    """Move a network to a device, channels last: what cuDNN and oneDNN convolve fastest in."""
    # torch's stubs know device and memory_format only in separate calls
    return network.to(device).to(memory_format=torch.channels_last)


def use_cores(count: int) -> None:
    """Let torch use so many cores of this process, for good: for a process that is ours."""
    torch.set_num_threads(count)


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def has_bf16(device_type: str) -> bool:
    """Say whether bf16 matrix products are faster than float32 ones on ``cpu`` or ``cuda``."""
    return device_type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def best_device() -> str:
    """Return ``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def inference(device: str) -> Iterator[None]:
    """Run without gradients, matrix products in bf16 where the hardware has it."""
    half = has_bf16(device)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
        yield

"""What a model costs: its size, its arithmetic, its time for a scan."""

import copy
import statistics
import time
from collections.abc import Sequence

import safetensors.torch
from torch.utils.flop_counter import FlopCounterMode

from bae import storage
from bae.evaluation.pages import Row
from bae.method import hardware
from bae.method.predictor import Predictor
from bae.scan import Scan

TIMES = 3


def costs(uri: str, scans: Sequence[Scan]) -> Row:
    """Measure a model on a few scans, on one core.

    Args:
        uri: of the model folder.
        scans: as they were decoded.

    Returns:
        ``numbers``, all that its files store; ``gflop``, multiplications and additions a scan in
        convolutions and matrix products of the networks as they were trained; ``cpu_ms``,
        median milliseconds of CPU a scan, from decoded counts to the answer, at once for all
        scans; ``training_minutes`` as the card has them.
    """
    predictor = Predictor.load(uri)
    hardware.use_cores(1)
    with FlopCounterMode(display=False) as counter:
        _as_trained(predictor).predict(scans)
    predictor.predict(scans)  # warms up
    spent = []
    for _ in range(TIMES):
        start = time.process_time()
        predictor.predict(scans)
        spent.append(1000 * (time.process_time() - start) / len(scans))
    parts = predictor.card.parts
    return {
        "numbers": sum(_numbers(uri, name) for name in parts),
        "gflop": counter.get_total_flops() / len(scans) / 1e9,
        "cpu_ms": statistics.median(spent),
        "training_minutes": sum(part.fit.get("seconds", 0.0) for part in parts.values()) / 60,
    }


def _as_trained(predictor: Predictor) -> Predictor:
    """Return one whose networks are those that were trained: of rewritten ones nothing counts."""
    plain = copy.copy(predictor)
    for name in [name for name in vars(plain) if name.startswith("fast_")]:
        setattr(plain, name, getattr(plain, name.removeprefix("fast_")))
    return plain


def _numbers(uri: str, name: str) -> int:
    data = storage.read_bytes(storage.join(uri, f"{name}.safetensors"))
    return sum(tensor.numel() for tensor in safetensors.torch.load(data).values())

"""How much of the answer is the network's, and how much the linear model's: one weight.

Both are asked about training scans that they did not learn from: the network's member that the
patient was kept from, the linear model of the fold (Wolpert 1992; Breiman 1996 for weights that
are not negative). Validation patients have no part in it, so that they can calibrate.

Shape suffixes: N scans, M members.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from bae.method.regional.attention import Attention
from bae.training.fit import without_margin
from bae.training.tasks import Batch, Task

Floats = NDArray[np.float64]


def held_out(network: Attention, batches: Iterable[Batch], task: Task) -> dict[str, float]:
    """Return scan_id to the years that the member says which did not see the scan."""
    found: dict[str, float] = {}
    network.eval()
    with torch.inference_mode():
        for batch in batches:
            middle = replace(batch, grey_N1HW=without_margin(batch.grey_N1HW, task.size))
            ages_MN = network.say(middle.grey_N1HW, middle.places_NCP, middle.male_N).ages_MN
            own_N = ages_MN.gather(0, batch.fold_N[None].long())[0]
            found |= dict(zip(batch.scan_ids, own_N.tolist(), strict=True))
    return found


def share(network_N: Floats, linear_N: Floats, years_N: Floats) -> float:
    """Return the part of the answer, 0 to 1, that errs least squared if it is the network's.

    Args:
        network_N, linear_N: answers of models that did not see the patients.
        years_N: ages.
    """
    apart_N = network_N - linear_N
    size = float(apart_N @ apart_N)
    return float(np.clip(apart_N @ (years_N - linear_N) / size, 0.0, 1.0)) if size else 0.0


def settle(
    network: Attention,
    own: Mapping[str, float],
    linear: Mapping[str, float],
    ages: Mapping[str, float],
    stacked: bool,
) -> tuple[dict[str, float], dict[str, float]]:
    """Set the network's share, if it is to have one.

    Args:
        network: its ``share`` is changed.
        own, linear: answers of models that did not see the patients, by scan.
        ages: by scan, at least those of ``own``.
        stacked: whether both answer together.

    Returns:
        What errors out of fold are, and the answers out of fold by scan.
    """
    names = sorted(own)
    network_N, linear_N, years_N = (
        np.array([values[name] for name in names]) for values in (own, linear, ages)
    )
    if stacked:
        network.share.fill_(share(network_N, linear_N, years_N))
    part = float(network.share)
    both_N = part * network_N + (1 - part) * linear_N
    errors = {"network": network_N, "linear": linear_N, "held_out": both_N}
    found = {f"{n}_mae_years": float(np.abs(v - years_N).mean()) for n, v in errors.items()}
    return found | {"network_share": part}, dict(zip(names, both_N.tolist(), strict=True))

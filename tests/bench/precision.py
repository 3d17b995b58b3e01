"""What rounding does to a trained model's answers: ``python -m tests.bench.precision --help``.

Every scan of the tables is answered by the plain float32 networks, by the fused float32 ones
and by the fused bf16 ones, also where the hardware would not choose bf16 (slow there, the
rounding is the same).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from bae.method import boxes, hardware
from bae.method.fused import fast
from bae.method.prediction import Prediction
from bae.method.predictor import Predictor
from bae.pipeline import reread
from bae.tables import delta


def answering(uri: str, localizer: str, regressor: str) -> Predictor:
    """Return a predictor whose networks are ``plain``, or fused: ``float32``, ``bfloat16``."""
    one = Predictor.load(uri, "cpu")
    assert one.localizer is not None
    one.fast_localizer = one.localizer if localizer == "plain" else fast(one.localizer, localizer)
    one.fast_regressor = one.regressor if regressor == "plain" else fast(one.regressor, regressor)
    return one


def overlaps(found: Sequence[Prediction], reference: Sequence[Prediction]) -> NDArray[np.float64]:
    """Return how far the cropped boxes overlap, one number a view."""
    return np.array(
        [
            boxes.overlap(a.boxes[0], b.boxes[0])
            for one, other in zip(found, reference, strict=True)
            for a, b in zip(one.views, other.views, strict=True)
        ]
    )


def compare(found: Sequence[Prediction], reference: Sequence[Prediction]) -> str:
    """Return ages' and boxes' distances to the reference, one line."""
    pairs = zip(found, reference, strict=True)
    years = np.array([abs(one.age_years - other.age_years) for one, other in pairs])
    shares = overlaps(found, reference)
    return (
        f"{np.median(years):9.4f}{np.quantile(years, 0.99):9.4f}{np.mean(years <= 0.1):10.1%}"
        f"{np.median(shares):10.3f}{np.quantile(shares, 0.05):8.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", required=True, metavar="URI")
    parser.add_argument("--model", required=True, metavar="URI")
    parser.add_argument("--scans", type=int, default=1000, help="at most")
    options = parser.parse_args()
    ids = delta.dataset(options.tables, "restricted/scans").to_table(columns=["scan_id"])
    chosen = sorted(set(ids["scan_id"].to_pylist()))[: options.scans]
    ways = {
        "plain float32": ("plain", "plain"),
        "float32": ("float32", "float32"),
        "bf16": ("bfloat16", "bfloat16"),
        "bf16 localizer alone": ("bfloat16", "float32"),
        "bf16 regressor alone": ("float32", "bfloat16"),
    }
    # no autocast for the plain networks and the heads
    with mock.patch.object(hardware, "has_bf16", lambda device: False):
        scans = [scan for _, scan in reread.scans(options.tables, chosen)]
        answers: dict[str, list[Prediction]] = {}
        for name, (localizer, regressor) in ways.items():
            predictor = answering(options.model, localizer, regressor)
            answers[name] = [one for scan in scans for one in predictor.predict([scan])]
    print(
        f"{len(scans)} scans; years from plain float32: median, 99 %, within 0.1;"
        " overlap of boxes: median, 5 %"
    )
    for name, found in answers.items():
        print(f"{name:22}{compare(found, answers['plain float32'])}")


if __name__ == "__main__":
    main()

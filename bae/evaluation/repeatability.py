"""How far a predicted age moves when only chance moves: the counts, or the day."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bae import phantom
from bae.evaluation import metrics, scorecard
from bae.evaluation.metrics import Estimate
from bae.method.predictor import Predictor
from bae.scan import Identity, Scan

Floats = NDArray[np.float64]


def noise_sd(
    predictor: Predictor, numbers: Iterable[int], seed: int, config: phantom.PhantomConfig
) -> Estimate:
    """Return the standard deviation of the predicted age over two realisations of one phantom.

    Person, day, pose and soft tissue are the same; the camera counts twice.
    """
    pairs = []
    for number in numbers:
        scans = [
            _scan(phantom.make(number, seed=seed, config=config, noise=noise)) for noise in (0, 1)
        ]
        pairs.append([found.age_years for found in predictor.predict(scans)])
    first, second = np.array(pairs).T
    return _sd(first - second, [str(i) for i in range(len(pairs))])


def _scan(made: phantom.PhantomScan) -> Scan:
    return Scan(
        views=made.views,
        identity=Identity(patient="", study="", instance=""),
        pixel_mm=(made.pixel_mm, made.pixel_mm),
        sex=made.sex,
        age_years=made.age_years,
    )


def visits_sd(outcomes: pa.Table) -> tuple[Estimate, int] | None:
    """Return the same over two visits of one person, and how many pairs there are.

    The person ages in between, so the age gap is compared, not the predicted age: each
    visit with the person's next. None where fewer than five did.
    """
    rows = sorted(
        zip(
            outcomes["patient_key"].to_pylist(),
            outcomes["age_years"].to_pylist(),
            scorecard.gaps(outcomes).tolist(),
            strict=True,
        )
    )
    pairs = [(one[0], one[2] - two[2]) for one, two in pairwise(rows) if one[0] == two[0]]
    if len({key for key, _ in pairs}) < metrics.FEWEST:
        return None
    keys, differences = zip(*pairs, strict=True)
    return _sd(np.array(differences), list(keys)), len(pairs)


def _sd(differences: Floats, patients: list[str]) -> Estimate:
    """Return one measurement's standard deviation (Bland and Altman 1996): rms / sqrt(2)."""
    (found,) = metrics.bootstrap(
        lambda d: [float(np.sqrt(np.mean(d**2) / 2))], [differences], patients
    )
    return found

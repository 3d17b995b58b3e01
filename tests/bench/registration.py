"""What the linear model costs, on one thread: ``python -m tests.bench.registration``.

Milliseconds of CPU a view to lay, register, read features and predict; seconds to learn a
template and to fit. More threads wait for each other on a busy machine.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import threadpoolctl
import torch
from numpy.typing import NDArray

from bae.method.regional import frame, linear, template, uptake
from bae.phantom.people import PhantomConfig
from bae.phantom.scan import make


def _seconds(what: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    start = time.process_time()
    for _ in range(times):
        found = what()
    return (time.process_time() - start) / times, found


def views(world: int, scans: int) -> None:
    """Print what a view of one world costs, one by one as they come in a night."""
    people = [make(k, config=PhantomConfig(world=world)) for k in range(scans)]
    size = people[0].views[0].counts.shape

    def lay() -> list[frame.Sheet]:
        return [frame.lay(s.views[0].counts, (s.pixel_mm, s.pixel_mm)) for s in people]

    laying, sheets = _seconds(lay, 3)
    stacked = frame.stack(sheets)
    learned, (mean, _) = _seconds(lambda: template.learn(stacked))
    body = uptake.body_half(mean.mean_PYX[0])
    one_by_one = torch.split(stacked, 1)
    registering, found = _seconds(lambda: [mean.register(one) for one in one_by_one])
    together, _ = _seconds(lambda: mean.register(stacked))
    reading, columns = _seconds(
        lambda: [uptake.features(one.density_NYX, body).numpy() for one in found]
    )
    male = np.zeros(1)
    model, _ = linear.fit(
        np.vstack(columns),
        np.zeros(scans),
        np.array([s.age_years for s in people]),
        [str(s.patient) for s in people],
    )
    predicting, _ = _seconds(lambda: [model.predict(own, male) for own in columns])
    ms = 1e3 / scans
    print(
        f"world {world}, {size[1]}x{size[0]}, {scans} views: lay {ms * laying:.1f} ms, register "
        f"{ms * registering:.1f} ms alone and {ms * together:.1f} ms among many, features "
        f"{ms * reading:.1f} ms, predict {ms * predicting:.1f} ms a scan; "
        f"to learn the template {learned:.1f} s"
    )


def fit(scans: int, columns: int) -> None:
    """Print what a fit costs where half the scans lack a foot."""
    rng = np.random.default_rng(0)
    causes = rng.standard_normal((scans, 30))
    uptake_NJ = (causes @ rng.standard_normal((30, columns))).astype(np.float32)
    uptake_NJ += rng.standard_normal(uptake_NJ.shape, np.float32)
    for i in np.flatnonzero(rng.random(scans) < 0.5):
        uptake_NJ[i, columns - rng.integers(1, 400) :] = np.nan
    years: NDArray[np.float64] = 60 + 10 * causes[:, 0] + 3 * rng.standard_normal(scans)
    male = rng.integers(0, 2, scans).astype(float)
    patients = [str(i // 2) for i in range(scans)]
    took, _ = _seconds(lambda: linear.fit(uptake_NJ, male, years, patients))
    print(f"fit of {scans} scans, {columns} columns, half of them with holes: {took:.1f} s")


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--scans", type=int, nargs="*", default=[500, 1000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        views(0, options.views)
        views(3, min(options.views, 32))
        for scans in options.scans:
            fit(scans, 13_000)


if __name__ == "__main__":
    main()

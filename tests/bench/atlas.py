"""How well bodies come to lie on each other, in mm: ``python -m tests.bench.atlas [SCANS]``.

The root mean square distance of the simulation's landmarks from their mean over a cohort,
which the fit never sees. "Best affine" fits the landmarks themselves: what is left over is
pose and build, which no affine map can undo.
"""

import sys
import time

import numpy as np
from numpy.typing import NDArray

from bae.evaluation.regions import atlas
from bae.phantom.scan import make
from tests.evaluation.regions.test_atlas import by_outline, unfitted
from tests.method.regional.bodies import LIMBS, bones, landmarks_mm, spread_mm


def main(scans: int = 16) -> None:
    """Print one line per way and view."""
    people = [make(k, seed=5) for k in range(scans)]
    names = bones(people[0])
    limb = np.array([bool(LIMBS.search(name)) for name in names])

    def say(way: str, points: NDArray[np.float64]) -> None:
        spread = spread_mm(points)
        parts = {"all": limb | True, "trunk and head": ~limb, "limbs": limb}
        print(
            f"  {way:<12}",
            *(f"{n} {np.sqrt((spread[p] ** 2).mean()):5.1f}" for n, p in parts.items()),
        )

    for view, word in enumerate(("anterior", "posterior")):
        views = [(s.views[view].counts, (s.pixel_mm, s.pixel_mm)) for s in people]
        start = time.process_time()
        fitted = atlas.place(views)
        print(f"{word}, {scans} scans, {(time.process_time() - start) / scans:.2f} s of CPU a view")
        ways = {
            "none": [unfitted(counts, mm, np.eye(3)[:2]) for counts, mm in views],
            "outline": by_outline(views),
            "fit": fitted,
        }
        for way, placed in ways.items():
            pairs = zip(placed, people, strict=True)
            points = np.array(
                [where.to_frame(landmarks_mm(scan, names, view)) for where, scan in pairs]
            )
            say(way, points)
        mean = points.mean(axis=0)
        ones = np.ones((len(names), 1))
        best = [
            np.hstack([p, ones]) @ np.linalg.lstsq(np.hstack([p, ones]), mean)[0] for p in points
        ]
        say("best affine", np.array(best))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

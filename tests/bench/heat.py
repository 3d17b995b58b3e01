"""What Grad-CAM's ReLU, which the paper leaves out, changes: ``python -m tests.bench.heat``.

``--tables URI --model URI``: held-out scans through a model of the paper's two networks, once by
Eq. (2) and once with negative heat set to zero (``region.heat=gradcam_relu``).
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from bae import recipes
from bae.method import model
from bae.method.boxes import overlap
from bae.method.predictor import Predictor
from bae.pipeline import kept, reread

SCANS = 60


def main() -> None:
    """Print how boxes and ages differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--tables", "--model"):
        parser.add_argument(flag, required=True)
    options = parser.parse_args()
    card = model.load_card(options.model)
    parts = model.load_localizer(options.model, card), model.load_regressor(options.model, card)
    test = kept.training_scans(options.tables, recipes.small(), "test")
    scans = [s for _, s in reread.scans(options.tables, test["scan_id"].to_pylist()[:SCANS])]
    found = {}
    for kind in ("gradcam", "gradcam_relu"):
        region = replace(card.recipe.region, heat=kind)
        changed = replace(card, recipe=replace(card.recipe, region=region))
        found[kind] = Predictor(*parts, changed).predict(scans)
    years = np.array([scan.age_years for scan in scans])
    ages = {kind: np.array([one.age_years for one in own]) for kind, own in found.items()}
    views = [
        (a, b, v.counts.size)
        for scan, one, two in zip(scans, *found.values(), strict=True)
        for v, a, b in zip(scan.views, one.views, two.views, strict=True)
    ]
    negative = [a.heat_min / (a.heat_max - a.heat_min) for a, _, _ in views]
    print(f"{len(scans)} scans, {len(views)} views, recipe {card.recipe.name}")
    print(f"least heat over the map's span, median: {np.median(negative):.2f}")
    for which, at in (("Eq. (2)", 0), ("with ReLU", 1)):
        shares = []
        for view in views:
            box, pixels = view[at].boxes[0], view[2]
            shares.append((box.x1 - box.x0) * (box.y1 - box.y0) / pixels)
        error = np.abs(list(ages.values())[at] - years).mean()
        print(f"{which}: box {np.median(shares):.2f} of the view, error {error:.2f} years")
    same = [overlap(a.boxes[0], b.boxes[0]) for a, b, _ in views]
    print(f"overlap of the boxes, median {np.median(same):.2f}")
    moved = np.abs(np.subtract(*ages.values()))
    print(f"ages differ by {np.median(moved):.2f} years in the median, {moved.max():.2f} at most")


if __name__ == "__main__":
    main()

"""Is the region right? What the truth of simulated scans says; see ``bae.phantom.evidence``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bae import region_checks, roi, storage
from bae.figures import RegionPanel
from bae.phantom import PhantomConfig, evidence
from bae.phantom.ageing import limit_mae_years
from bae.roi import Box

ABOUT, TRUTH = ("_phantom", "phantom.json"), ("_phantom", "truth.parquet")


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """An archive of simulated scans.

    Attributes:
        root: its URI.
        seed, config: what it was made with.
        numbers: object name to number of the scan; without those that have a mistake.
    """

    root: str
    seed: int
    config: PhantomConfig
    numbers: dict[str, int]

    def evidence(self, object_uri: str) -> evidence.Evidence | None:
        """Return the evidence in one object, None if it holds no sound scan of this cohort."""
        if not object_uri.startswith(self.root + "/"):
            return None
        k = self.numbers.get(object_uri.removeprefix(self.root + "/"))
        return None if k is None else evidence.of(k, seed=self.seed, config=self.config)


def cohort_of(object_uri: str) -> Cohort | None:
    """Return the archive of simulated scans that an object lies in, None if there is none."""
    root = object_uri
    while (root := root.rpartition("/")[0]) and not root.endswith(("/", ":")):
        about = storage.read_or_none(storage.join(root, *ABOUT))
        if about is not None:
            values = json.loads(about)
            settings = values["config"] | {"ages": tuple(values["config"]["ages"])}
            data = storage.read_bytes(storage.join(root, *TRUTH))
            truth = pq.read_table(pa.BufferReader(data), columns=["scan", "objects", "mistake"])
            numbers = {
                name: row["scan"]
                for row in truth.to_pylist()
                for name in row["objects"]
                if not row["mistake"]
            }
            return Cohort(
                root=root, seed=values["seed"], config=PhantomConfig(**settings), numbers=numbers
            )
    return None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How much a region keeps of the evidence in its scan's views.

    Attributes:
        region: share of the information about latent age that the boxes keep.
        elsewhere: the same for other boxes of that size in the body, mean; NaN where none fit.
        limit_whole_years, limit_region_years: least mean absolute error of a reader of all,
            and of the boxes alone.
    """

    region: float
    elsewhere: float
    limit_whole_years: float
    limit_region_years: float


def kept(
    truth: evidence.Evidence, own: Sequence[RegionPanel], config: PhantomConfig, seed: int = 0
) -> Kept:
    """Compare the boxes of one phantom's views with the whole views."""
    whole = {p.view: Box(0, 0, p.counts.shape[1], p.counts.shape[0], 1.0) for p in own}
    everything = truth.information(truth.shares(whole))
    inside = truth.information(truth.shares({p.view: p.box for p in own}))
    rng = np.random.default_rng(seed)
    others = {p.view: roi.elsewhere(p.box, region_checks.body_mask(p.counts), rng, 1) for p in own}
    control = float("nan")
    if all(others.values()):
        boxes = {view: found[0] for view, found in others.items()}
        control = truth.information(truth.shares(boxes)) / everything

    def limit(information: float) -> float:
        reader_sd = max(information, 1e-6) ** -0.5
        return limit_mae_years(config.ages, float(np.hypot(config.latent_sd_years, reader_sd)))

    return Kept(region=inside / everything, elsewhere=control,
                limit_whole_years=limit(everything), limit_region_years=limit(inside))  # fmt: skip

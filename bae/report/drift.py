"""Is this run like the last ones? Means of runs, compared in standard errors."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bae.evaluation import metrics
from bae.tables import delta, query

EARLIER_RUNS = 5
"""Runs that this one is compared with."""
SHOWN_RUNS = 12
NOTABLE = 3.0
"""Standard errors that chance alone exceeds in one comparison of 370."""


@dataclass(frozen=True)
class Sums:
    """Count, sum and sum of squares of one measure in one run; they add up over runs."""

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        """Return the sums of both together."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Sums(*(one + two for one, two in pairs))

    @property
    def mean(self) -> float | None:
        """Return the mean, None of nothing."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One measure of the last run that has it, against the runs before.

    Attributes:
        now: its mean in that run.
        before: its mean over up to ``EARLIER_RUNS`` runs before; None where there is none.
        standard_errors: difference over its standard error if both were drawn from one
            distribution; None where that cannot be said.
    """

    name: str
    now: float
    before: float | None
    standard_errors: float | None

    @property
    def notable(self) -> bool:
        """Say whether somebody should look."""
        return self.standard_errors is not None and abs(self.standard_errors) > NOTABLE


def compare(name: str, series: Sequence[Sums]) -> Drift | None:
    """Compare the last run that has the measure with those before it.

    Args:
        series: one run each, oldest first.

    Returns:
        None where no run has it.
    """
    having = [sums for sums in series if sums.count]
    if not having:
        return None
    now, before = having[-1], sum(having[-1 - EARLIER_RUNS : -1], Sums())
    if now.mean is None or before.mean is None:
        return Drift(name=name, now=float(now.mean or 0), before=None, standard_errors=None)
    both = now + before
    variance = both.squares / both.count - (both.total / both.count) ** 2
    error = math.sqrt(max(variance, 0.0) * (1 / now.count + 1 / before.count))
    change = now.mean - before.mean
    return Drift(
        name=name,
        now=now.mean,
        before=before.mean,
        standard_errors=change / error if error > 1e-12 else None,
    )


def gap_series(nights: Sequence[Mapping[str, Any]]) -> dict[str, Sums]:
    """Return run to the age gap, years; of rows of ``counts.nights``, none of few people."""
    return {
        row["run_id"]: Sums(row["gaps"], row["gap_sum"], row["gap_squares"])
        if row["people"] >= metrics.FEWEST
        else Sums()
        for row in nights
    }


def reject_series(nights: Sequence[Mapping[str, Any]]) -> dict[str, Sums]:
    """Return run to the share of refused objects among those it read for the first time."""
    return {
        row["run_id"]: Sums(row["indexed"] + row["refused"], row["refused"], row["refused"])
        for row in nights
    }


def centroid_series(
    tables_uri: str, model_id: str, run_ids: Iterable[str]
) -> dict[str, dict[str, Sums]]:
    """Return where the heat's centre lies, run by run.

    Returns:
        ``"<view>, from the top"`` and ``"<view>, from the left"`` to run to the centre's
        place as a share of height or width, 0 to 1.
    """
    wanted = (pc.field("model_id") == model_id) & pc.field("run_id").isin(
        pa.array(run_ids, pa.string())
    )
    group = ["run_id", "view", "rows", "columns"]
    found: dict[str, dict[str, Sums]] = {}
    maps = delta.dataset(tables_uri, "cohort/heatmaps")
    for batch in maps.to_batches(columns=[*group, "heat"], filter=wanted, batch_size=16384):
        table = pa.Table.from_batches([batch])
        for key in table.select(group).group_by(group).aggregate([]).to_pylist():
            chosen = functools.reduce(operator.and_, (pc.field(k) == v for k, v in key.items()))
            for name, places in _centres(query.heat_array(table.filter(chosen))).items():
                runs = found.setdefault(f"{key['view']}, {name}", {})
                sums = Sums(len(places), float(places.sum()), float(places @ places))
                runs[key["run_id"]] = runs.get(key["run_id"], Sums()) + sums
    return found


def _centres(heat_NVU: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Return the centre of heat of each map that has any, as shares of its height and width."""
    _, rows, columns = heat_NVU.shape
    down_NV = heat_NVU.sum(axis=2, dtype=np.float64)
    right_NU = heat_NVU.sum(axis=1, dtype=np.float64)
    total_N = down_NV.sum(axis=1)
    warm = total_N > 0
    return {
        "from the top": (down_NV @ ((np.arange(rows) + 0.5) / rows))[warm] / total_N[warm],
        "from the left": (right_NU @ ((np.arange(columns) + 0.5) / columns))[warm] / total_N[warm],
    }

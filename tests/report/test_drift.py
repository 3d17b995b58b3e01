"""Means of runs against each other, and where heat lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from bae.report import counts, drift
from bae.report.drift import Sums
from bae.tables import delta
from tests.fakes import many_rows


def _sums(values: np.ndarray) -> Sums:
    return Sums(
        count=len(values), total=float(values.sum()), squares=float((values * values).sum())
    )


def test_shares_are_compared_as_the_chi_squared_test_compares_them() -> None:
    """The square of our standard errors is scipy's statistic for the two-by-two table."""
    earlier, now = np.repeat([1.0, 0.0], [12, 388]), np.repeat([1.0, 0.0], [9, 91])
    found = drift.compare("refused", [_sums(earlier), _sums(now)])
    assert found is not None and found.standard_errors is not None
    expected = stats.chi2_contingency([[12, 388], [9, 91]], correction=False).statistic
    assert found.standard_errors**2 == pytest.approx(expected)
    assert (found.now, found.before) == (pytest.approx(0.09), pytest.approx(0.03))


def test_means_without_a_change_stay_within_chance() -> None:
    """Over 2,000 pairs of runs from one distribution, our errors are standard normal."""
    noise = np.random.default_rng(0)
    found = [
        drift.compare("gap", [_sums(noise.normal(1, 5, 300)), _sums(noise.normal(1, 5, 80))])
        for _ in range(2000)
    ]
    errors = [row.standard_errors for row in found if row and row.standard_errors is not None]
    assert stats.kstest(errors, "norm").pvalue > 0.001
    assert sum(row.notable for row in found if row) < 20


def test_only_the_last_runs_before_count() -> None:
    """Runs without the measure are passed over; the sixth run back is too old."""
    old, empty = _sums(np.full(50, 99.0)), Sums()
    recent = [_sums(np.array([1.0, 3.0])) for _ in range(drift.EARLIER_RUNS)]
    found = drift.compare("gap", [old, *recent, empty, _sums(np.array([5.0, 7.0])), empty])
    assert found is not None
    assert (found.now, found.before) == (6.0, 2.0)
    assert drift.compare("gap", [empty]) is None
    first = drift.compare("gap", [_sums(np.array([5.0]))])
    assert first is not None and first.before is None and not first.notable


def test_series_of_tables_equal_a_loop(tmp_path: Path) -> None:
    """Age gap, refusals, and the centre of heat as scipy's centre of mass finds it."""
    root = str(tmp_path)
    runs = many_rows.publish_nights(root, 60, nights=3, refused=4)
    connection = counts.open_tables(root)
    counts.choose(connection)
    nights = counts.nights(connection)
    gaps, rejected = drift.gap_series(nights), drift.reject_series(nights)
    ages = delta.read(root, "cohort/ages").to_pylist()
    heats = delta.read(root, "cohort/heatmaps").to_pylist()
    centres = drift.centroid_series(root, many_rows.MODEL, runs)
    assert sorted(centres) == [
        f"{view}, from the {side}" for view in ("anterior", "posterior") for side in ("left", "top")
    ]
    for run in runs:
        mine = [row["age_gap_years"] for row in ages if row["run_id"] == run]
        assert gaps[run].mean == pytest.approx(np.mean(mine))
        assert rejected[run].mean == pytest.approx(4 / 24)
        places = [
            ndimage.center_of_mass(np.frombuffer(row["heat"], np.uint8).reshape(32, 10))
            for row in heats
            if row["run_id"] == run and row["view"] == "posterior"
        ]
        down, right = (np.mean(places, axis=0) + 0.5) / (32, 10)
        assert centres["posterior, from the top"][run].mean == pytest.approx(down)
        assert centres["posterior, from the left"][run].mean == pytest.approx(right)

"""What outcomes come to, against pandas and against what was put in."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sklearn_metrics

from bae.evaluation import scorecard
from tests.fakes.made_outcomes import EDGES, outcomes


def test_subgroups_are_pandas_groups() -> None:
    """Counts, errors, mean gaps and coverage by sex, age, vendor and view."""
    table = outcomes(60)
    frame = table.to_pandas()
    frame["gap"] = frame.predicted_age_years - frame.age_years
    frame["inside"] = frame.age_years.between(frame.age_low_years, frame.age_high_years)
    frame["age"] = frame.age_years.map(lambda a: f"{a // 10 * 10:g}-{a // 10 * 10 + 9:g}")
    frame.loc[frame.age == "70-79", "age"] = "70-80"
    frame["sex"] = frame.sex.fillna("unknown")
    frame["vendor"], frame["all"] = frame.manufacturer, "all"
    found = {(g.by, g.group): g for g in scorecard.subgroups(table, EDGES)}
    for by in ("all", "sex", "age", "vendor"):
        for group, own in frame.groupby(by):
            got = found.pop((by, group))
            assert (got.scans, got.patients) == (len(own), own.patient_key.nunique())
            assert got.mae_years.value == pytest.approx(own.gap.abs().mean())
            assert got.gap_years == pytest.approx(own.gap.mean())
            assert got.coverage is not None
            assert got.coverage.value == pytest.approx(own.inside.mean())
            assert got.width_years == pytest.approx(14.0)
    assert set(found) == {("view", "anterior"), ("view", "posterior")}
    front = found["view", "anterior"]
    answers = np.array(frame.view_ages_years.tolist())[:, 0]
    assert front.mae_years.value == pytest.approx(
        sklearn_metrics.mean_absolute_error(frame.age_years, answers)
    )
    assert front.coverage is None


def test_calibration_on_some_patients_holds_for_others() -> None:
    """90 % of 1,500 scans of patients it never saw, within sampling error; bias gone."""
    fitted = scorecard.calibrate(outcomes(400, seed=1, half=None), EDGES)
    fresh = scorecard.recalibrated(outcomes(1000, seed=2, half=None), fitted)
    hits = scorecard.inside(fresh)
    assert hits is not None
    assert hits.mean() == pytest.approx(0.9, abs=0.03)
    assert scorecard.bias(fresh).value == pytest.approx(-0.2, abs=0.03)
    assert scorecard.bias(fresh, fitted).value == pytest.approx(0, abs=0.03)
    raw, calm = (
        scorecard.reliability(t, EDGES) for t in (outcomes(1000, seed=2, half=None), fresh)
    )
    assert raw is not None
    assert calm is not None
    assert calm.ece < raw.ece / 2


def test_figures_on_validation_patients_are_not_judged_by_themselves() -> None:
    """Cross-fitted coverage lies at 90 %, not at the fit's own, and keeps every scan."""
    table = outcomes(200, half=None)
    assert scorecard.inside(table) is None, "a model without calibration promises nothing"
    crossed = scorecard.cross_calibrated(table, EDGES)
    assert sorted(crossed["scan_id"].to_pylist()) == sorted(table["scan_id"].to_pylist())
    hits = scorecard.inside(crossed)
    assert hits is not None
    assert hits.mean() == pytest.approx(0.9, abs=0.05)
    own = scorecard.recalibrated(table, scorecard.calibrate(table, EDGES))
    assert crossed["age_low_years"].to_pylist() != own["age_low_years"].to_pylist()


def test_summary_is_plain_values_with_uncorrected_errors() -> None:
    """It goes into card.json as it is."""
    import json

    table = outcomes(60, half=None)
    found = json.loads(json.dumps(scorecard.summary(table, EDGES, 58.0)))
    ages, answers = (table[n].to_numpy() for n in ("age_years", "predicted_age_years"))
    expected = sklearn_metrics.mean_absolute_error(ages, answers)
    assert found["metrics"]["mae_years"]["value"] == pytest.approx(expected)
    assert found["always_mean_mae_years"] == pytest.approx(np.abs(ages - 58).mean())
    assert found["scans"] == 90
    assert found["patients"] == 60


def test_model_without_localizer_has_no_reliability_curve_and_no_temperature() -> None:
    """Table 1's other methods know no age groups."""
    table = outcomes(20)
    index = table.schema.get_field_index("group_probabilities")
    field = table.schema.field(index)
    bare = table.set_column(index, field, pa.array([[]] * table.num_rows, field.type))
    assert scorecard.reliability(bare, EDGES) is None
    assert scorecard.calibrate(bare, EDGES).temperature == 1.0


def test_few_patients_make_no_promise_and_no_failure() -> None:
    """One patient: figures, but no interval."""
    table = outcomes(1, half=None)
    found = scorecard.summary(table, EDGES, 60.0)
    assert found["subgroups"][0]["coverage"] is None
    assert "r2" not in found["metrics"]
    assert scorecard.calibrate(table, EDGES).factor is None

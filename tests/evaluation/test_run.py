"""Table 1, its neighbours and figures from made-up outcomes; the job is in test_jobs."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sklearn_metrics

from bae import phantom, recipes
from bae.evaluation import pages, plots, repeatability, run, scorecard, table_one
from bae.evaluation.table_one import LIMIT, MEAN, RIDGE, Method
from bae.method import calibration, model
from bae.phantom import archive
from tests.fakes.made_outcomes import EDGES, outcomes


def _method(name: str, found: pa.Table, fitted: calibration.Calibration | None = None) -> Method:
    card = model.Card(recipe=recipes.small(), parts={}, calibration=fitted)
    return Method(name=name, sex=True, uri="", card=card, outcomes=found)


FITTED = scorecard.calibrate(outcomes(60, seed=9), EDGES)
GOOD, BAD = (_method("good", outcomes(40, 1, sd=3), FITTED), _method("bad", outcomes(40, 2, sd=9)))
TEST = GOOD.outcomes
PLAIN = {MEAN: [60.0] * 60, RIDGE: (TEST["age_years"].to_numpy() + 4).tolist()}


def test_table_one_begins_with_the_mean_and_ends_with_the_limit() -> None:
    """Rows in their order, each measure as scikit-learn has it; no limit for patients."""
    rows = table_one.table_one([GOOD, BAD], PLAIN, TEST, {"limit_mae_years": 1.93})
    assert [row["method"] for row in rows] == [MEAN, RIDGE, "good", "bad", LIMIT]
    ages = TEST["age_years"].to_numpy()
    answered = [m.outcomes["predicted_age_years"].to_numpy() for m in (GOOD, BAD)]
    for row, answers in zip(rows, [*PLAIN.values(), *answered], strict=False):
        assert row["mae_years"] == pytest.approx(sklearn_metrics.mean_absolute_error(ages, answers))
        assert row["r2"] == pytest.approx(sklearn_metrics.r2_score(ages, answers))
        assert row["mae_years_low"] <= row["mae_years"] <= row["mae_years_high"]
        assert (row["scans"], row["patients"]) == (60, 40)
    assert rows[-1]["mae_years"] == 1.93
    assert rows[-1]["rmse_years"] is None
    page = pages.table_one_page(rows)
    assert len(page.splitlines()) == 7
    assert table_one.table_one([GOOD], PLAIN, TEST, {})[-1]["method"] == "good"


def test_every_two_methods_are_compared_on_the_same_patients() -> None:
    """Six pairs of four; the better one's difference is negative and certain."""
    rows = table_one.paired_tests([GOOD, BAD], PLAIN, TEST)
    assert len(rows) == 6
    first = rows[0]
    assert (first["first"], first["second"], first["patients"]) == ("good", "bad", 40)
    assert first["mae_difference_years_high"] < 0
    assert first["wilcoxon_p"] < 0.01


def test_costs_and_the_difference_from_the_proposed_method_stand_beside_the_errors() -> None:
    """The same numbers whichever of a pair was named first; nothing of what is no model."""
    table = table_one.table_one([GOOD, BAD], PLAIN, TEST, {})
    tests = table_one.paired_tests([GOOD, BAD], PLAIN, TEST)
    spent = {"": {"numbers": 10, "gflop": 0.5, "cpu_ms": 3.0, "training_minutes": 2.0}}
    for proposed, other in (("good", "bad"), ("bad", "good")):
        rows = table_one.with_costs(table, tests, [GOOD, BAD], spent, proposed)
        by_name = {row["method"]: row for row in rows}
        more = by_name[other]["mae_years"] - by_name[proposed]["mae_years"]
        low, high = (by_name[other][f"mae_difference_years_{end}"] for end in ("low", "high"))
        assert by_name[other]["mae_difference_years"] == pytest.approx(more)
        assert low < more < high and by_name[other]["wilcoxon_p"] < 0.01
        assert by_name[proposed]["mae_difference_years"] is None
        assert by_name[other]["numbers"] == 10 and by_name[MEAN]["numbers"] is None
    page = pages.table_one_page(rows, pages.costs_of("good"))
    assert "| 10 |" in page and "| more than good, years (95 %) |" in page


def test_phantom_archive_is_found_above_its_objects(tmp_path: Path) -> None:
    """At any depth, with each phantom's number; nothing for an archive of patients."""
    root = tmp_path / "archive"
    uris = [f"{root}/a/b/1.dcm", f"{root}/c/2.dcm"]
    assert archive.cohort_of(uris) is None
    (root / "_phantom").mkdir(parents=True)
    about = {"limit_mae_years": 1.9, "truth": "_phantom/truth.parquet"}
    (root / "_phantom" / "phantom.json").write_text(json.dumps(about))
    truth = {
        "scan": [7, 3],
        "objects": [["a/b/1.dcm"], ["c/2.dcm", "c/3.dcm"]],
        "mistake": ["", ""],
    }
    pq.write_table(pa.table(truth), root / "_phantom" / "truth.parquet")
    found = archive.cohort_of(uris)
    assert found is not None and found.about["limit_mae_years"] == 1.9
    assert found.scans_of(uris) == [3, 7]
    assert archive.cohort_of([*uris, "/elsewhere/3.dcm"]) is None


@pytest.mark.slow
def test_one_models_pages_and_figures_are_written(tmp_path: Path) -> None:
    """Each figure as vector and PNG; the facts are those of the scorecard."""
    facts = run.describe(GOOD, EDGES, pages.Output(str(tmp_path)))
    assert facts["figures"] == [
        "figure4",
        "error_by_group",
        "bland_altman",
        "age_bias",
        "reliability",
        "coverage",
    ]
    for name in facts["figures"]:
        assert (tmp_path / "good" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "good" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    rows = pq.read_table(tmp_path / "good" / "groups.parquet").to_pylist()
    assert {row["by"] for row in rows} == {"all", "sex", "age", "vendor", "view"}
    assert facts["slope"].value < -0.1
    assert abs(facts["slope_corrected"].value) < abs(facts["slope"].value)
    assert (tmp_path / "good" / "groups.csv").read_text().count("\n") == len(rows) + 1


@pytest.mark.slow
def test_model_without_intervals_and_localizer_has_the_other_figures(tmp_path: Path) -> None:
    """Nothing is drawn of what is not there."""
    bare = outcomes(20, half=None).set_column(
        11, TEST.schema.field("group_probabilities"), pa.array([[]] * 30, pa.list_(pa.float64()))
    )
    facts = run.describe(_method("bare", bare), EDGES, pages.Output(str(tmp_path)))
    assert facts["figures"] == ["figure4", "error_by_group", "bland_altman", "age_bias"]
    assert facts["coverage"] is None


def test_same_table_gives_the_same_picture() -> None:
    """Figures are plain functions: byte for byte."""
    one, two = (plots.pdf(plots.ages_and_sex(TEST)) for _ in range(2))
    assert one == two


def test_repeatability_is_the_error_that_was_put_in() -> None:
    """Two views of error 4 each give a scan's error of 4 / sqrt(2); a person's bias is none."""
    found = repeatability.visits_sd(outcomes(4000, sd=4.0, slope=1.0))
    assert found is not None
    sd, pairs = found
    assert pairs == 2000
    assert sd.value == pytest.approx(4 / np.sqrt(2), rel=0.05)
    assert sd.low < sd.value < sd.high
    assert repeatability.visits_sd(outcomes(1)) is None


def test_phantom_can_be_counted_twice() -> None:
    """Another noise, the same person: the counts differ as Poisson counts do."""
    one, two = (phantom.make(3, seed=1, noise=noise) for noise in (0, 1))
    assert one.landmarks == two.landmarks
    assert one.age_years == two.age_years
    first, second = (scan.views[0].counts.astype(float) for scan in (one, two))
    assert (first != second).any()
    bright = (first + second) > 20
    share = ((first - second)[bright] ** 2).mean() / (first + second)[bright].mean()
    assert share == pytest.approx(1, abs=0.1)

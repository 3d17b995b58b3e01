"""A report's numbers, against loops over the rows."""

from __future__ import annotations

import random
import statistics
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bae.errors import UseError
from bae.report import counts
from bae.tables import contract, delta, publish, runs
from tests.fakes import rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An index, two nights of model "one" with replaced scans, one night of model "three"."""
    root = str(tmp_path_factory.mktemp("cohort"))
    rows.night(root, rows.listing(range(1, 90)))
    rows.night(root, rows.listing(range(1, 130)), "one")
    rows.night(root, rows.listing(range(3, 9), version="v2"), "one")
    rows.night(root, rows.listing(range(1, 60)), "three")
    return root


@pytest.fixture(scope="module")
def newest(place: str) -> list[dict[str, Any]]:
    """The newest row of each scan by model "one", found by a loop."""
    best: dict[str, dict[str, Any]] = {}
    for row in delta.read(place, "cohort/ages").to_pylist():
        old = best.get(row["scan_id"], {"object_version": 0})
        if row["model_id"] == "one" and row["object_version"] > old["object_version"]:
            best[row["scan_id"]] = row
    return list(best.values())


def test_model_that_scored_last_is_chosen(place: str) -> None:
    """And of it the last run; runs of the other model are not among the nights."""
    connection = counts.open_tables(place)
    assert counts.choose(connection).model_id == "three"
    ages = delta.read(place, "cohort/ages").to_pylist()
    other = {row["run_id"] for row in ages if row["model_id"] == "one"}
    nights = {night["run_id"] for night in counts.nights(connection)}
    assert nights.isdisjoint(other)
    assert len(nights) == 2, "the index and the night of this model"


def test_totals_and_errors_equal_a_loop(place: str, newest: list[dict[str, Any]]) -> None:
    """Scans, people, error, bias, spread, coverage, and the mean predictor's error."""
    connection = counts.open_tables(place)
    counts.choose(connection, "one")
    found = counts.totals(connection)
    assert found["scans"] == len(newest)
    assert found["patients"] == len({row["patient_key"] for row in newest})
    assert found["women"] == sum(row["sex"] == "F" for row in newest)
    held, everyone = counts.errors(connection)
    assert (held["part"], everyone["part"]) == ("held out", "all")
    for part, mine in ((held, [r for r in newest if r["split"] == "test"]), (everyone, newest)):
        gaps = [row["predicted_age_years"] - row["age_years"] for row in mine]
        mean_age = statistics.mean(row["age_years"] for row in mine)
        inside = [r["age_low_years"] <= r["age_years"] <= r["age_high_years"] for r in mine]
        assert part["scans"] == len(mine)
        assert part["mae_years"] == pytest.approx(statistics.mean(map(abs, gaps)))
        assert part["bias_years"] == pytest.approx(statistics.mean(gaps))
        assert part["sd_years"] == pytest.approx(statistics.stdev(gaps))
        assert part["inside"] == pytest.approx(statistics.mean(inside))
        assert part["mean_predictor_mae_years"] == pytest.approx(
            statistics.mean(abs(r["age_years"] - mean_age) for r in mine)
        )


def test_held_out_error_has_the_interval_of_a_plain_bootstrap(
    place: str, newest: list[dict[str, Any]]
) -> None:
    """Drawn here person by person with Python's own random numbers."""
    connection = counts.open_tables(place)
    counts.choose(connection, "one")
    found = counts.held_out_mae(connection)
    people = defaultdict(list)
    for row in newest:
        if row["split"] == "test":
            people[row["patient_key"]].append(abs(row["age_gap_years"]))
    draw = random.Random(0)
    means = [
        statistics.mean(
            gap for gaps in draw.choices(list(people.values()), k=len(people)) for gap in gaps
        )
        for _ in range(4000)
    ]
    assert found is not None
    assert found.value == pytest.approx(
        statistics.mean(g for gaps in people.values() for g in gaps)
    )
    spread = statistics.stdev(means)
    assert [found.low, found.high] == pytest.approx(
        np.quantile(means, [0.025, 0.975]).tolist(), abs=spread / 3
    )


def test_groups_cells_and_bins_equal_a_loop(place: str, newest: list[dict[str, Any]]) -> None:
    """Every scan once, quantiles as numpy has them."""
    connection = counts.open_tables(place)
    counts.choose(connection, "one")
    groups = defaultdict(list)
    for row in newest:
        groups[row["age_years"] // 10 * 10, row["sex"] or "unknown"].append(row["age_gap_years"])
    found = {(row["decade"], row["sex"]): row for row in counts.gap_groups(connection)}
    assert found.keys() == groups.keys()
    for key, gaps in groups.items():
        assert found[key]["scans"] == len(gaps)
        assert found[key]["mean"] == pytest.approx(statistics.mean(gaps))
        assert found[key]["quantiles"] == pytest.approx(
            np.quantile(gaps, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
        )
    cells = Counter((int(r["age_years"]), int(r["predicted_age_years"] // 1)) for r in newest)
    assert cells == {(c["age"], c["predicted"]): c["scans"] for c in counts.age_cells(connection)}
    bins = Counter((r["sex"] or "unknown", int(r["age_gap_years"] // 1)) for r in newest)
    assert bins == {(b["sex"], b["gap"]): b["scans"] for b in counts.gap_bins(connection)}


def test_outliers_are_the_largest_gaps_with_their_objects(
    place: str, newest: list[dict[str, Any]]
) -> None:
    """Farthest first; each with place, boxes and heat maps of the newest version."""
    connection = counts.open_tables(place)
    choice = counts.choose(connection, "one")
    found = counts.outliers(connection, choice, 7)
    expected = sorted(newest, key=lambda r: (-abs(r["age_gap_years"]), r["scan_id"]))[:7]
    assert [row["scan_id"] for row in found] == [row["scan_id"] for row in expected]
    for row in found:
        assert row["object_uri"].startswith(rows.ARCHIVE)
        assert [heat["view"] for heat in row["heatmaps"]] == ["anterior", "posterior"]
        assert {box["object_version"] for box in row["boxes"]} == {row["object_version"]}


def _mend(root: str, uri: str) -> None:
    """Publish a night in which a refused object has become a readable one."""
    like = rows.listing(range(19, 20), version="v2")
    [row] = rows.staged(like, "one").to_pylist()
    row["object_uri"] = row["source_uri"] = uri
    row["scan"]["scan_id"] = row["age"]["scan_id"] = "f" * 32
    listing = like.set_column(0, "object_uri", [[uri]])
    run = runs.open_run(root, rows.ARCHIVE, "one", listing)
    run.store(0, pa.Table.from_pylist([row], schema=contract.STAGED))
    publish.finish(run)


def test_refusals_count_objects_once_and_forget_replaced_ones(tmp_path: Any) -> None:
    """Two models refuse one object: one refusal. A readable replacement takes it back."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 61)), "one")
    connection = counts.open_tables(root)
    choice = counts.choose(connection)
    [refused] = counts.refusals(connection, choice)
    assert (refused["code"], refused["objects"], refused["in_run"]) == ("broken", 3, 3)
    _mend(root, f"{rows.ARCHIVE}/DOE^JANE/0000020.dcm")
    connection = counts.open_tables(root)
    choice = counts.choose(connection)
    [refused] = counts.refusals(connection, choice)
    assert (refused["objects"], refused["in_run"]) == (2, 0)


def test_an_earlier_run_shows_the_cohort_as_it_was(place: str) -> None:
    """Rows of later runs are left out."""
    ages = delta.read(place, "cohort/ages").to_pylist()
    first = min((r["predicted_at"], r["run_id"]) for r in ages if r["model_id"] == "one")[1]
    connection = counts.open_tables(place)
    counts.choose(connection, "one", first)
    assert counts.totals(connection)["scans"] == sum(row["run_id"] == first for row in ages)
    assert counts.nights(connection)[-1]["run_id"] == first


def test_unknown_run_and_missing_tables_are_named(place: str, tmp_path: Any) -> None:
    """One sentence each."""
    with pytest.raises(UseError, match="no run 19990101"):
        counts.choose(counts.open_tables(place), "one", "19990101")
    with pytest.raises(UseError, match="no tables at"):
        counts.open_tables(str(tmp_path / "nowhere"))

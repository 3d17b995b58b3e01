"""Every question of the analyst's page, as printed there, with its answer checked."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import bae.tables
from tests.fakes import rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "bae" / "tables" / "analyst.md").read_text()
QUESTION = re.compile(r"\*\*(\d+)\. [^*]+\*\*\n+```(?:sql|python)\n(.*?)```", re.DOTALL)
RECIPES = {int(number): code for number, code in QUESTION.findall(PAGE)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tables after two nights of one model and one of another, some scans changed."""
    root = str(tmp_path_factory.mktemp("cookbook"))
    rows.night(root, rows.listing(range(1, 100)), "one")
    rows.night(root, rows.listing(range(1, 60)), "three")
    rows.night(root, rows.listing(range(5, 8), version="v2"), "three")
    return root


@pytest.fixture
def ask(place: str) -> Any:
    """Run a recipe's SQL and return its rows."""
    connection = bae.tables.connect(place)
    return lambda number, **values: connection.sql(RECIPES[number], params=values).fetchall()


@pytest.fixture
def latest(place: str) -> list[dict[str, Any]]:
    """The newest row of each scan, found by a loop."""
    return _latest(place)


def _latest(place: str) -> list[dict[str, Any]]:
    best: dict[str, dict[str, Any]] = {}
    for row in bae.tables.read(place, "cohort/ages").to_pylist():
        rank = (row["object_version"], row["model_id"])
        old = best.get(row["scan_id"])
        if old is None or rank > (old["object_version"], old["model_id"]):
            best[row["scan_id"]] = row
    return list(best.values())


def test_the_cookbook_has_twelve_questions() -> None:
    """All of them are found on the page."""
    assert sorted(RECIPES) == list(range(1, 13))


def test_1_age_gap_by_sex_and_decade(tmp_path: Path) -> None:
    """Mean, standard deviation and mean absolute gap of each group of five people or more."""
    place = str(tmp_path)
    rows.night(place, rows.listing(range(1, 260)), "one")
    rows.night(place, rows.listing(range(1, 130)), "three")
    groups, people = defaultdict(list), defaultdict(set)
    for row in _latest(place):
        group = row["model_id"], row["sex"], row["age_years"] // 10 * 10
        groups[group].append(row["age_gap_years"])
        people[group].add(row["patient_key"])
    small = [group for group, members in people.items() if len(members) < 5]
    assert small
    for group in small:
        del groups[group]
    assert len(groups) > 10
    found = {row[:3]: row[3:] for row in bae.tables.connect(place).sql(RECIPES[1]).fetchall()}
    assert found.keys() == groups.keys()
    for key, gaps in groups.items():
        sd = statistics.stdev(gaps) if len(gaps) > 1 else None
        expected = [len(gaps), statistics.mean(gaps), sd, statistics.mean(map(abs, gaps))]
        assert list(found[key]) == pytest.approx(expected)


def test_2_own_cohort_from_csv(
    ask: Any, latest: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans of the listed patients, with the file's own columns."""
    monkeypatch.chdir(tmp_path)
    keys = [rows.key("patient", n) for n in (3, 4)]
    Path("cohort.csv").write_text("patient_key,arm\n" + "".join(f"{k},A{k[0]}\n" for k in keys))
    found = ask(2)
    mine = [row for row in latest if row["patient_key"] in keys]
    assert len(found) == len(mine) == 4
    for key, arm, age, predicted, gap in found:
        assert arm == f"A{key[0]}" and predicted - age == pytest.approx(gap)


def test_3_change_between_two_scans(ask: Any, latest: list[dict[str, Any]]) -> None:
    """One row for each pair of scans of a person, in order of age."""
    people = defaultdict(list)
    for row in sorted(latest, key=lambda r: (r["age_years"], r["scan_id"])):
        people[row["patient_key"]].append(row["predicted_age_years"])
    expected = {key: ages[1] - ages[0] for key, ages in people.items() if len(ages) == 2}
    found = ask(3)
    assert {key: change for key, _, change in found} == pytest.approx(expected)
    assert len(found) == len(expected)


def test_4_what_each_night_added(ask: Any) -> None:
    """Three nights: new scans, a second model, changed scans."""
    found = [(model_id, ages, changed) for _, model_id, _, ages, changed in ask(4)]
    assert found == [("one", 95, 0), ("three", 57, 0), ("three", 3, 3)]


def test_5_agreement_of_two_models(ask: Any) -> None:
    """Bias and limits of agreement on the scans that both scored."""
    [(scans, bias, lower, upper)] = ask(5, one="one", two="three")
    assert scans == 54, "three objects changed before the second model came"
    assert [bias, lower, upper] == pytest.approx([-0.2, -0.2, -0.2])


def _of(latest: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the rows of the latest ages."""
    names = ("scan_id", "model_id", "object_version")
    wanted = {tuple(row[name] for name in names) for row in latest}
    return [row for row in rows if tuple(row[name] for name in names) in wanted]


def test_6_mean_heat_map_of_a_group(place: str, latest: list[dict[str, Any]]) -> None:
    """Equal to averaging map by map, of each scan once."""
    names: dict[str, Any] = {"bae": bae, "tables": bae.tables.connect(place)}
    exec(RECIPES[6], names)
    maps = [
        np.frombuffer(row["heat"], np.uint8).reshape(4, 3)
        for row in _of(latest, bae.tables.read(place, "cohort/heatmaps").to_pylist())
        if row["age_group"] == 3 and row["view"] == "posterior"
    ]
    assert len(maps) > 5
    assert names["mean_map"] == pytest.approx(np.mean(maps, axis=0))


def test_7_size_of_the_regions(ask: Any, place: str, latest: list[dict[str, Any]]) -> None:
    """Medians per view, of each scan once; the made-up boxes have no size in mm."""
    boxes = len(_of(latest, bae.tables.read(place, "cohort/boxes").to_pylist()))
    assert ask(7) == [(v, None, None, 0.7, boxes // 2) for v in ("anterior", "posterior")]


def test_8_calibration_on_the_test_split(ask: Any, place: str) -> None:
    """Only patients of the test split."""
    ages = bae.tables.read(place, "cohort/ages").to_pylist()
    newest: dict[str, int] = {}
    for row in ages:
        newest[row["scan_id"]] = max(newest.get(row["scan_id"], 0), row["object_version"])
    ages = [row for row in ages if row["object_version"] == newest[row["scan_id"]]]
    for model_id, inside, error, scans in ask(8):
        mine = [r for r in ages if r["model_id"] == model_id and r["split"] == "test"]
        assert (inside, scans) == (1.0, len(mine)) and scans > 0
        assert error == pytest.approx(statistics.mean(abs(r["age_gap_years"]) for r in mine))


def test_9_what_to_look_at(place: str, latest: list[dict[str, Any]]) -> None:
    """The largest gaps with their objects; refusals by code."""
    names: dict[str, Any] = {"bae": bae, "place": place}
    exec(RECIPES[9], names)
    worst = sorted((abs(row["age_gap_years"]) for row in latest), reverse=True)[:20]
    assert [abs(gap) for _, gap, _ in names["look_at"]] == pytest.approx(worst)
    assert all("/DOE^JANE/" in uri for uri, _, _ in names["look_at"])
    assert names["refused"] == [("broken", 4)]


def test_10_to_csv_stata_and_r(
    place: str, latest: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file read back by another reader."""
    import pandas as pd

    monkeypatch.chdir(tmp_path)
    exec(RECIPES[10], {"bae": bae, "tables": bae.tables.connect(place)})
    assert len(pd.read_csv("ages.csv")) == len(latest)
    stata = pd.read_stata("ages.dta").set_index("scan_id")["predicted_age_years"].to_dict()
    assert stata == pytest.approx({r["scan_id"]: r["predicted_age_years"] for r in latest})
    assert pq.read_table("ages.parquet").num_rows == len(latest)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tables of a model of several regions, over those of a model of one."""
    root = str(tmp_path_factory.mktemp("several"))
    rows.night(root, rows.listing(range(1, 40)), "one")
    rows.night(root, rows.listing(range(1, 30)), rows.REGIONS)
    rows.night(root, rows.listing(range(5, 8), version="v2"), rows.REGIONS)
    return root


def _regions(place: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the regions of each scan's newest object, by patient and scan, found by loops."""
    ages, boxes = (
        [r for r in bae.tables.read(place, name).to_pylist() if r["model_id"] == rows.REGIONS]
        for name in ("cohort/ages", "cohort/boxes")
    )
    found = {}
    for age in sorted(ages, key=lambda row: row["object_version"]):
        found[age["patient_key"], age["scan_id"]] = [
            box | age
            for box in boxes
            if all(box[key] == age[key] for key in ("scan_id", "object_version"))
        ]
    return found


def test_11_which_regions_speak_for_older(several: str) -> None:
    """What each would say alone, less the age, by its weight; in all it is the age gap."""
    found = bae.tables.connect(several).sql(RECIPES[11]).fetchall()
    told = _regions(several)
    parts: defaultdict[str, float] = defaultdict(float)
    weights: defaultdict[str, float] = defaultdict(float)
    for boxes in told.values():
        mean = boxes[0]["predicted_age_years"] - sum(box["added_years"] for box in boxes)
        for box in boxes:
            alone = mean + box["added_years"] / box["weight"]
            parts[box["region"]] += box["weight"] * (alone - box["age_years"])
            weights[box["region"]] += box["weight"]
    assert {name: older for name, *_, older in found} == pytest.approx(
        {name: parts[name] / weights[name] for name in weights}
    )
    assert [row[3] for row in found] == sorted((row[3] for row in found), reverse=True)
    assert {row[1] for row in found} == {len(told)}
    gaps = sum(boxes[0]["age_gap_years"] for boxes in told.values())
    assert sum(parts.values()) == pytest.approx(gaps)
    everything = sum(row[2] * len(told) * 2 for row in found)
    assert everything == pytest.approx(len(told)), "weights of a scan sum to 1"


def test_12_agreement_between_visits(several: str) -> None:
    """Half the distance between the weights of two visits, taken off 1; by loops."""
    people = defaultdict(list)
    for (patient, _), boxes in _regions(several).items():
        weight: defaultdict[str, float] = defaultdict(float)
        for box in boxes:
            weight[box["region"]] += box["weight"]
        people[patient].append(weight)
    expected = [
        1 - sum(abs(one[name] - two[name]) for name, _, _ in rows.PLACES) / 2
        for one, two in (visits for visits in people.values() if len(visits) == 2)
    ]
    [(pairs, mean, least)] = bae.tables.connect(several).sql(RECIPES[12]).fetchall()
    assert pairs == len(expected) > 10
    assert [mean, least] == pytest.approx([statistics.mean(expected), min(expected)])
    assert 0.5 < least < mean < 0.999


def test_11_and_12_are_empty_without_regions(place: str) -> None:
    """A method of one region has nothing to say here."""
    assert bae.tables.connect(place).sql(RECIPES[11]).fetchall() == []
    assert bae.tables.connect(place).sql(RECIPES[12]).fetchall() == [(0, None, None)]


def test_an_older_version_answers_as_it_did(place: str) -> None:
    """What a paper reported can be asked again."""
    then = bae.tables.connect(place, version=1)
    assert then.sql("SELECT count(*), min(model_id), max(model_id) FROM ages").fetchall() == [
        (95, "one", "one")
    ]


@pytest.fixture
def desk(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An analyst's folder, where the demo's tables are the ones above."""
    (tmp_path / "demo-data").mkdir()
    (tmp_path / "demo-data" / "tables").symlink_to(place)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_of_the_page_runs_in_its_order(desk: Path) -> None:
    """From the first to the last, as somebody pastes them who reads it through."""
    (desk / "cohort.csv").write_text(f"patient_key,arm\n{rows.key('patient', 3)},A\n")
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) > len(RECIPES) and {language for language, _ in blocks} == {
        "sh",
        "python",
        "sql",
    }
    assert len(blocks) * 2 == len(re.findall("^```", PAGE, re.MULTILINE))
    for language, code in blocks:
        if language == "python":
            exec(code, names)
        elif language == "sql":
            values = {"one": "one", "two": "three"} if "$one" in code else None
            assert names["tables"].sql(code, params=values).fetchall() is not None
    assert names["then"].sql("FROM ages").fetchall() == names["tables"].sql("FROM ages").fetchall()


def test_views_that_the_page_explains_are_those_there(place: str) -> None:
    """Each is named, and none is left out."""
    table = PAGE.split("## What is there")[1].split("\n\n")[1]
    named = {n for line in table.splitlines() for n in re.findall(r"`(\w+)`", line.split("|")[1])}
    connection = bae.tables.connect(place, restricted=True)
    there = {name for (name,) in connection.sql("SHOW TABLES").fetchall()}
    assert named == there


def test_the_readmes_query_says_an_error_for_each_sex(
    desk: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pasted, where the demo left its tables."""
    shown = (ROOT / "README.md").read_text().split("## What comes out")[1].split("```")[1]
    exec(shown.split('python -c "\n')[1].rstrip().removesuffix('"'), {})
    said = capsys.readouterr().out
    tested = [row for row in _latest(place) if row["split"] == "test"]
    sexes = {row["sex"] for row in tested}
    assert len(sexes) == 3
    for sex in sexes:
        gaps = [abs(row["age_gap_years"]) for row in tested if row["sex"] == sex]
        assert re.search(rf"{sex or 'NULL'} .*\b{len(gaps)}\b", said), said

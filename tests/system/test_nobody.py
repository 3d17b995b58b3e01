"""Nobody's birthday: what cohort/ tells of time, and who may read restricted/."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bae import recipes
from bae.errors import UseError
from bae.evaluation import metrics, plots, run, scorecard
from bae.evaluation.panels import title
from bae.method import model
from bae.pipeline import kept
from bae.report import counts, drift
from bae.tables import connect, delta
from bae.training.card import markdown
from tests.fakes import rows
from tests.fakes.made_outcomes import EDGES, outcomes
from tests.fakes.place import Place

TODAY = dt.datetime.now(dt.UTC).date()
SECRET_YEARS = 60


def _born(number: int) -> dt.date:
    return TODAY - dt.timedelta(days=int(365.25 * 50) + 61 * number + number % 37)


def _dates_in_cohort(root: Path) -> set[dt.date]:
    """Return every date that columns, names, file metadata and ids of runs in cohort/ tell."""
    found: set[dt.date] = set()
    texts: list[str] = []
    for path in root.rglob("*"):
        texts.append(str(path.relative_to(root)))
        if path.suffix == ".parquet" and "_delta_log" not in path.parts:
            texts.append(str(pq.read_metadata(path).to_dict()))
            texts.append(str(pq.read_schema(path).metadata))
            for row in pq.read_table(path).to_pylist():
                texts.append(str(row.get("run_id")))
                moments = [v for v in row.values() if isinstance(v, dt.datetime)]
                found |= {moment.date() for moment in moments}
    # not within a hash or the name of a file
    dated = r"(?<![0-9a-f])(20\d\d)-?([01]\d)-?([0-3]\d)(?![0-9a-f])"
    for year, month, day in re.findall(dated, " ".join(texts)):
        try:
            found.add(dt.date(int(year), int(month), int(day)))
        except ValueError:
            continue
    months = re.findall(r"\b(20\d\d)-([01]\d)-[0-9a-f]{8}\b", " ".join(texts))
    return found | {dt.date(int(year), int(month), 1) for year, month in months}


def _dates_in_log(root: Path) -> set[dt.date]:
    """Return the dates of Delta's own log, which its writer puts there."""
    found = set()
    for path in root.rglob("_delta_log/*.json"):
        for number in re.findall(r":(1[6-9]\d{11})\b", path.read_text()):
            found.add(dt.datetime.fromtimestamp(int(number) / 1000, dt.UTC).date())
    return found


def _guessed(ages: dict[str, float], dates: set[dt.date], born: dict[str, dt.date]) -> float:
    """Return the share of people whose birth some date less their age meets within ten days."""
    hits = [
        any(abs((day - dt.timedelta(days=365.25 * years) - born[key]).days) <= 10 for day in dates)
        for key, years in ages.items()
    ]
    return sum(hits) / len(hits)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_no_birth_date_can_be_computed_from_cohort(place: Place, whole: bool) -> None:
    """Scans of yesterday: the worst case, since the night tells the day of the scan.

    By chance: a date drawn evenly from what a rounded age leaves is right within ten days
    for 21 of the days that the rounding spans.
    """
    scanned = TODAY - dt.timedelta(days=1)
    for number in range(SECRET_YEARS):
        place.scan(
            f"{number}.dcm",
            f"p{number}",
            number + 1,
            PatientBirthDate=f"{_born(number):%Y%m%d}",
            **dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate"), f"{scanned:%Y%m%d}"),
        )
    place.night("predict", *(["--whole-years"] if whole else []))
    joined = place.ask(
        "SELECT ages.age_years, scans.object_uri FROM ages JOIN scans "
        "USING (scan_id, object_version)"
    )
    ages = {uri.rsplit("/", 1)[1].removesuffix(".dcm"): years for years, uri in joined}
    born = {str(number): _born(number) for number in range(SECRET_YEARS)}
    assert set(ages) == set(born)
    cohort = Path(place.tables) / "cohort"
    dates = _dates_in_cohort(cohort)
    assert dates == {TODAY.replace(day=1)}, "the month, and nothing else"
    if whole:  # then not even the day of the night, which Delta's log keeps, tells more
        dates |= _dates_in_log(cohort)
    span = 365.25 if whole else 36.5
    chance = 21 * len(dates) / span
    allowed = min(1.0, chance + 3 * (chance * (1 - min(chance, 1)) / len(ages)) ** 0.5)
    assert _guessed(ages, dates, born) <= allowed
    # the search itself finds them where the day is known and the age is exact
    exact = place.ask("SELECT age_years, object_uri FROM scans")
    told = {uri.rsplit("/", 1)[1].removesuffix(".dcm"): years for years, uri in exact}
    assert _guessed(told, {scanned}, born) == 1.0


VISITS = 12


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_many_scans_of_a_person_narrow_nothing_down(place: Place, whole: bool) -> None:
    """Each age leaves a span of birth dates; where the days of the scans are known, they meet.

    Delta's log says the day of each commit, so the days of twelve scans are taken as known, one
    by one. What all twelve ages allow must be no less than what one of them does.
    """
    days = [dt.date(2011, 1, 15) + dt.timedelta(days=97 * number) for number in range(VISITS)]
    for number in range(SECRET_YEARS // 3):
        for visit, day in enumerate(days):
            dates = dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate"), f"{day:%Y%m%d}")
            place.scan(
                f"{number}-{visit}.dcm",
                f"p{number}",
                VISITS * number + visit + 1,
                PatientBirthDate=f"{_born(number):%Y%m%d}",
                **dates,
            )
    place.night("predict", *(["--whole-years"] if whole else []))
    joined = place.ask(
        "SELECT ages.age_years, scans.object_uri, scans.age_years FROM ages JOIN scans "
        "USING (scan_id, object_version)"
    )
    seen: dict[int, list[tuple[dt.date, float, float]]] = {}
    for told, uri, exact in joined:
        number, _, visit = uri.rsplit("/", 1)[1].removesuffix(".dcm").partition("-")
        seen.setdefault(int(number), []).append((days[int(visit)], told, exact))
    half = 0.5 if whole else 0.05
    found = {number: _middle([row[:2] for row in rows], half) for number, rows in seen.items()}
    near = sum(abs((day - _born(number)).days) <= 3 for number, day in found.items() if day)
    chance = len(seen) * 7 / (365.25 if whole else 36.5)
    assert near <= chance + 3 * chance**0.5
    # the search itself finds them by ages that are rounded alike for everybody
    plain = {
        number: _middle([(day, round(exact, 1)) for day, _, exact in rows], 0.05)
        for number, rows in seen.items()
    }
    assert sum(abs((day - _born(n)).days) <= 3 for n, day in plain.items() if day) > len(seen) / 2
    # and an age is still what it says, to one step
    assert all(
        abs(told - exact) <= 2 * half + 0.001 for rows in seen.values() for _, told, exact in rows
    )


def _middle(visits: list[tuple[dt.date, float]], half: float) -> dt.date | None:
    """Return the middle of the birth dates that all ages allow; None if there are none."""
    spans = [
        (day.toordinal() - 365.25 * (age + half), day.toordinal() - 365.25 * (age - half))
        for day, age in visits
    ]
    low, high = max(low for low, _ in spans), min(high for _, high in spans)
    return dt.date.fromordinal(round((low + high) / 2)) if low <= high + 2 else None


def test_nights_of_one_month_keep_their_order(tmp_path: Path) -> None:
    """Which model is the newest, and what each night added, though all say the first."""
    root = str(tmp_path)
    done = [
        rows.night(root, rows.listing(range(1, 9)), model)
        for model in ("zeta", "alpha", "mid", None)
    ]
    ids = [run.run_id for run in done if run]
    assert all(re.fullmatch(r"20\d\d-[01]\d-[0-9a-f]{8}", run_id) for run_id in ids)
    tables = connect(root)
    assert tables.sql("SELECT DISTINCT model_id FROM latest_ages").fetchall() == [("mid",)]
    nights = tables.sql(
        "SELECT run_id, min(predicted_at) AS night, day(min(predicted_at)), "
        "hour(min(predicted_at)) FROM ages GROUP BY 1 ORDER BY night"
    ).fetchall()
    assert [night[0] for night in nights] == ids and {night[2:] for night in nights} == {(1, 0)}
    exact = delta.read(root, "restricted/scans")["indexed_at"].to_pylist()
    assert {moment.date() for moment in exact} == {dt.datetime.now(dt.UTC).date()}


def test_who_may_read_what_is_restricted(place: Place) -> None:
    """After nights, upkeep and an erasure, under a umask that allows everything or nothing."""
    place.scan("a.dcm", "ada", 1)
    place.scan("b.dcm", "bob", 2)
    top = Path(place.tables) / "restricted"

    def look() -> None:
        assert top.stat().st_mode & 0o777 == 0o750
        for path in top.rglob("*"):
            allowed = path.stat().st_mode & 0o777
            if path.is_dir():
                assert allowed & 0o757 == 0o750, (path, oct(allowed))
            else:
                assert allowed == 0o640, (path, oct(allowed))

    for umask in (0, 0o77):
        before = os.umask(umask)
        try:
            place.night()
            look()
            (place.archive / f"{umask}.dcm").write_bytes((place.archive / "a.dcm").read_bytes())
            assert place.job("maintain", "--tables", place.tables)[0] == 0
            look()
        finally:
            os.umask(before)
    [(key,)] = place.ask("SELECT patient_key FROM scans WHERE contains(object_uri, 'b.dcm')")
    code, said = place.job("erase", "--tables", place.tables, "--patient", key)
    assert code == 0, said
    look()


def test_the_exact_start_is_in_restricted_only(tmp_path: Path) -> None:
    """run.json has it; runs with ids of older releases are listed in order and resumed."""
    from bae.tables import contract, runs

    root, objects = str(tmp_path), rows.listing(range(1, 5))
    new = runs.open_run(root, "s3://a/one", None, objects)
    old = runs.open_run(root, "s3://a/two", None, objects)
    folder = tmp_path / contract.STAGING
    facts = json.loads((folder / old.run_id / "run.json").read_text())
    assert re.fullmatch(r"\d{8}T\d{6}Z", facts.pop("begun_at"))
    older = facts | {"run_id": "20200101T000000Z-00000000"}
    (folder / old.run_id).rename(folder / older["run_id"])
    (folder / older["run_id"] / "run.json").write_text(json.dumps(older))
    assert [run.run_id for run in runs.unfinished(root)] == [older["run_id"], new.run_id]
    again = runs.open_run(root, "s3://a/two", None, objects)
    assert again.run_id == older["run_id"] and len(again.remaining()) == 1


# ---- groups of few ------------------------------------------------------------------------


def test_no_group_of_few_follows_from_what_is_shown() -> None:
    """At least two are withheld, together of five patients or more."""
    assert metrics.withheld({"a": 9, "b": 5}) == {}
    assert metrics.withheld({"a": 9, "b": 4, "c": 7}) == {"b": "<5", "c": "withheld"}
    assert metrics.withheld({"a": 2, "b": 1, "c": 30}) == {"a": "<5", "b": "<5", "c": "withheld"}
    assert metrics.withheld({"a": 3, "b": 3, "c": 30}) == {"a": "<5", "b": "<5"}


def test_no_page_shows_a_group_of_few() -> None:
    """Groups of an evaluation, the card's and their figure: numbers are gone, not only hidden."""
    found = outcomes(24)
    makers = ["Rare"] * 3 + ["Common"] * (found.num_rows - 10) + ["Other"] * 7
    index = found.schema.get_field_index("manufacturer")
    found = found.set_column(index, "manufacturer", pa.array(makers))
    groups = {g.group: g for g in scorecard.subgroups(found, EDGES) if g.by == "vendor"}
    assert groups["Rare"].withheld == "<5" and groups["Rare"].mae_years is None
    assert [g.group for g in groups.values() if not g.withheld] == ["Common"]
    told = scorecard.summary(found, EDGES, 60.0)
    for row in told["subgroups"]:
        assert row["by"] == "all" or row["patients"] is None or row["patients"] >= 5
    card = model.Card(recipe=recipes.small(), parts={}, validation=told)
    [line] = [text for text in markdown(card).splitlines() if "| Rare |" in text]
    assert line == "| vendor | Rare | <5 | <5 |  |  |  |"
    assert "Rare" not in plots.saved(plots.error_by_group(list(groups.values())), "svg").decode()


def test_a_report_shows_no_group_of_few(tmp_path: Path) -> None:
    """Few people of one sex and decade."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 60)), "one")
    connection = counts.open_tables(root)
    counts.choose(connection)
    groups = counts.gap_groups(connection)
    for row in groups:
        assert row["withheld"] or row["patients"] >= 5
    for sex in {row["sex"] for row in groups if row["withheld"]}:
        hidden = [row for row in groups if row["sex"] == sex and row["withheld"]]
        shown = [row for row in groups if row["sex"] == sex and not row["withheld"]]
        assert not shown or (len(hidden) > 1 and sum(row["patients"] for row in hidden) >= 5)
    assert any(row["withheld"] == "<5" for row in groups)


def test_a_report_sums_up_nobody(tmp_path: Path) -> None:
    """Of four people there is no mean, of all, of the held out, or of a night; nor of a decade."""
    few = str(tmp_path / "few")
    rows.night(few, rows.listing(range(1, 6)), "one")
    patients = "SELECT count(DISTINCT patient_key) FROM ages WHERE age_gap_years IS NOT NULL"
    [(people,)] = connect(few).sql(patients).fetchall()
    assert 0 < people < metrics.FEWEST
    connection = counts.open_tables(few)
    counts.choose(connection)
    assert counts.errors(connection) == []
    assert drift.compare("gap", list(drift.gap_series(counts.nights(connection)).values())) is None
    assert connect(few).sql("FROM age_gap_by_decade").fetchall() == []
    many = str(tmp_path / "many")
    rows.night(many, rows.listing(range(1, 90)), "one")
    shown = "SELECT sex, decade_years, scans FROM age_gap_by_decade"
    every = """
        SELECT sex, (floor(age_years / 10) * 10)::INTEGER, count(DISTINCT patient_key)
        FROM latest_ages WHERE age_gap_years IS NOT NULL GROUP BY ALL"""
    sizes = connect(many).sql(every).fetchall()
    large = {(sex, decade) for sex, decade, number in sizes if number >= metrics.FEWEST}
    assert {row[:2] for row in connect(many).sql(shown).fetchall()} == large
    assert 0 < len(large) < len(sizes)


def test_a_picture_of_a_person_over_89_says_so() -> None:
    """Figure 3's titles; years else."""
    told = {"sex": "F", "predicted_age_years": 80.2}
    assert title(told | {"age_years": 93.4}, "anterior") == (
        "woman, over 89 years, predicted 80 years, anterior"
    )
    assert title(told | {"age_years": 63.4}, "unknown") == "woman, 63 years, predicted 80 years"


def test_scans_whose_ages_disagree_are_neither_trained_on_nor_judged(
    place: Place,
) -> None:
    """The header says two ages that lie years apart."""
    dates = dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate"), "20110115")
    for number in range(40):
        age = "060Y" if number % 2 else "075Y"
        place.scan(
            f"{number}.dcm",
            f"p{number}",
            number + 1,
            PatientBirthDate="19500601",
            PatientAge=age,
            **dates,
        )
    place.night("index")
    disagree = {
        scan
        for (scan,) in place.ask(
            "SELECT scan_id FROM scans WHERE list_contains(flags, 'age_disagrees')"
        )
    }
    assert len(disagree) == 20
    for split in ("train", "validation", "test"):
        used = kept.training_scans(place.tables, recipes.small(), split)["scan_id"].to_pylist()
        assert used and disagree.isdisjoint(used)


def test_an_evaluation_of_few_people_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four patients in the test split, however many scans: nothing is written."""
    root = str(tmp_path / "tables")
    rows.night(root, rows.listing(range(1, 120)))
    known = kept.training_scans

    def few(tables_uri: str, recipe: recipes.Recipe, split: str) -> pa.Table:
        scans = known(tables_uri, recipe, split)
        people = sorted(set(scans["patient_key"].to_pylist()))[: metrics.FEWEST - 1]
        return scans.filter(pc.is_in(scans["patient_key"], pa.array(people)))

    monkeypatch.setattr(kept, "training_scans", few)
    monkeypatch.setattr(model, "check", lambda uri: model.Card(recipe=recipes.small(), parts={}))
    with pytest.raises(UseError, match="4 patient"):
        run.plan(root, ["nowhere"], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()

"""What the tables say of a scan stays true over nights, keys, labels and changed objects."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from bae.tables import contract, delta
from tests.fakes.place import Place

# ---- the key ------------------------------------------------------------------------------


def test_another_key_is_exit_code_2_before_anything_is_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every scan would come a second time, and training patients into the test split."""
    place.scan("a.dcm", "ada", 1)
    place.night("index")
    before = sorted((p, p.stat().st_mtime_ns) for p in Path(place.tables).rglob("*"))
    monkeypatch.setenv("BAE_PSEUDONYM_KEY", "ab" * 32)
    places = ["--archive", str(place.archive), "--tables", place.tables]
    for job, flags in (("index", []), ("predict", ["--model", place.model])):
        code, said = place.job(job, *places, *flags)
        assert code == 2 and "another pseudonym key" in said
    training = ["--tables", place.tables, "--model", place.tables + "-m", "--recipe", "small"]
    code, said = place.job("train_localizer", *training)
    assert code == 2
    assert sorted((p, p.stat().st_mtime_ns) for p in Path(place.tables).rglob("*")) == before


def test_a_key_that_bae_0_1_made_is_pointed_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it lies, and how to go on with it; then the same command does."""
    place.scan("a.dcm", "ada", 1)
    made = Path(place.tables, contract.PSEUDONYM_FILE)
    made.parent.mkdir(parents=True)
    made.write_text("11" * 32)
    places = ["--archive", str(place.archive), "--tables", place.tables]
    code, said = place.job("index", *places)
    assert code == 2 and f"set BAE_PSEUDONYM_KEY to the content of {made}" in said
    assert [path.name for path in Path(place.tables).rglob("*") if path.is_file()] == [made.name]
    made.write_text("00" * 32)  # as if it had been set
    place.night("index")


def test_no_key_at_all_is_exit_code_2(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that says how to ask for the demo key."""
    place.scan("a.dcm", "ada", 1)
    monkeypatch.delenv("BAE_PSEUDONYM_KEY")
    code, said = place.job("index", "--archive", str(place.archive), "--tables", place.tables)
    assert code == 2 and "BAE_PSEUDONYM_KEY=demo" in said and len(said.strip().splitlines()) == 1
    assert not Path(place.tables).exists()


def test_a_worker_with_another_key_fails_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pseudonyms would be of nobody; no row is published."""
    place.scan("a.dcm", "ada", 1)
    monkeypatch.setenv("BAE_PSEUDONYM_KEY", "ab" * 32)  # Ray's workers run already
    code, said = place.job("index", "--archive", str(place.archive), "--tables", place.tables)
    assert code == 1 and "has another pseudonym key than the driver" in said
    assert delta.read(place.tables, "restricted/scans").num_rows == 0


# ---- what is current ----------------------------------------------------------------------

ONE_EACH = """
    SELECT (SELECT count(*) FROM latest_ages), (SELECT count(DISTINCT scan_id) FROM latest_ages),
           (SELECT count(DISTINCT scan_id) FROM latest_boxes),
           (SELECT count(*) FROM latest_heatmaps) / 2"""


def test_views_show_each_current_scan_once(place: Place) -> None:
    """Exported anew, mistaken and put back, withdrawn, moved: over five nights."""
    for name, number in (("new", 1), ("back", 2), ("gone", 3), ("same", 4)):
        place.scan(f"{name}.dcm", name, number, PatientSex="F")
    back, kept = place.archive / "back.dcm", place.archive.parent / "kept"
    shutil.copy2(back, kept)
    place.night()
    assert place.ask(ONE_EACH) == [(4, 4, 4, 4.0)]

    place.scan("new.dcm", "new", 11)  # under another UID: of the object's two scans the newer
    place.scan("back.dcm", "back", 2, PatientSex="M")  # somebody's mistake
    (place.archive / "gone.dcm").unlink()
    place.night()
    assert place.ask("SELECT count(*), count(removed_at) FROM scans") == [(6, 3)]
    assert place.ask(ONE_EACH) == [(3, 3, 3, 3.0)]
    whose = """SELECT latest_ages.sex, object_version FROM latest_ages
               JOIN scans USING (scan_id, object_version) WHERE object_uri LIKE '%back.dcm'"""
    assert place.ask(whose) == [("M", 2)]

    shutil.copy2(kept, back)
    assert "nothing to do" in place.night()
    assert place.ask(whose) == [("F", 1)]
    assert place.ask(ONE_EACH) == [(3, 3, 3, 3.0)]

    moved = place.archive.parent / "moved"
    place.archive.rename(moved)
    place.archive = moved
    place.night()
    assert place.ask("SELECT count(*) FROM ages") == [(9,)]
    assert place.ask(ONE_EACH) == [(3, 3, 3, 3.0)]
    assert place.ask("""
        SELECT count(*) FROM current_ages JOIN current_ages AS other USING (scan_id)""") == [(3,)]


# ---- nobody's birthday --------------------------------------------------------------------


def test_whole_years_are_kept_once_asked_for(place: Place) -> None:
    """The first run decides; later ones need not say it again, and may not say otherwise."""
    place.scan("a.dcm", "ada", 1)
    place.night("index", "--whole-years")
    place.night()
    [(told, exact)] = place.ask("SELECT ages.age_years, scans.age_years FROM ages, scans")
    assert told == round(exact) and exact != told
    other = [str(place.archive), "--tables", place.tables + "-tenths"]
    place.job("index", "--archive", *other)
    code, said = place.job("index", "--archive", *other, "--whole-years")
    assert code == 2 and "a tenth of a year" in said


def test_one_person_named_with_and_without_issuer_is_one_patient(place: Place) -> None:
    """And so in one split."""
    place.scan("a.dcm", "ada", 1)
    place.scan("b.dcm", "ada", 2, IssuerOfPatientID="General Hospital")
    place.night("index")
    assert place.ask("SELECT count(*), count(DISTINCT patient_key) FROM scans") == [(2, 1)]


def test_a_birth_date_that_stands_for_none_gives_no_age(place: Place) -> None:
    """In headers and in labels; counts that were shown in colours are counts."""
    day = dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate"), "20110115")
    zero = {"PatientBirthDate": "19700101", "PhotometricInterpretation": "PALETTE COLOR"} | day
    place.scan("alone.dcm", "a", 1, **zero, PatientAge=None)
    place.scan("other.dcm", "b", 2, **zero, PatientAge="065Y")
    place.scan("same.dcm", "c", 3, **zero, PatientAge="041Y")
    for number, name in enumerate(("year", "unix", "told"), start=4):
        known = {"PatientBirthDate": None, "PatientAge": None} | day
        place.scan(f"{name}.dcm", name, number, **known)
    labels = place.labelled(
        "object,birth_date,scan_date\nyear.dcm,1900-01-01,2011-01-15\n"
        "unix.dcm,1970-01-01,2011-01-15\ntold.dcm,1950-01-01,2011-01-15\n"
    )
    place.night("index", *labels)
    found = place.ask(
        "SELECT regexp_extract(object_uri, '([a-z]+).dcm', 1), round(age_years), age_source "
        "FROM scans ORDER BY 1"
    )
    assert found == [
        ("alone", None, None),
        ("other", 65.0, "patient_age"),
        ("same", 41.0, "birth_date"),
        ("told", 61.0, "labels"),
        ("unix", None, None),
        ("year", None, None),
    ]


def test_every_table_is_there_after_any_night(place: Place) -> None:
    """Readers of other engines find all five."""
    place.scan("a.dcm", "ada", 1)
    place.night("index")
    for name in contract.SCHEMAS:
        assert delta.delta(place.tables, name) is not None
    assert duckdb.sql(f"FROM '{place.tables}/restricted/scans/*.parquet'").fetchall()


# ---- labels -------------------------------------------------------------------------------


def test_labels_that_come_later_take_effect_without_reading(place: Place) -> None:
    """Given first to the night that scores nothing, then corrected; new scans get theirs."""
    for number in range(3):
        place.scan(f"{number}.dcm", f"p{number}", number, PatientAge="", PatientBirthDate="")
    place.night()
    assert place.ask("SELECT count(age_years), count(age_gap_years) FROM ages") == [(0, 0)]
    said = place.night(
        "predict", *place.labelled("patient_id,age_years,sex\np0,50.26,F\np1,61,M\n")
    )
    assert "all of 2 rows matched" in said and "nothing to do" in said
    assert "read as    comma-separated UTF-8\n" in said
    ages = "SELECT age_years, sex, round(predicted_age_years - age_gap_years, 6) FROM ages"
    assert place.ask(f"{ages} WHERE age_years IS NOT NULL ORDER BY 1") == [
        (50.3, "F", 50.3),
        (61.0, "M", 61.0),
    ]
    place.night("predict", *place.labelled("patient_id,age_years\np0,52\n"))
    assert place.ask("SELECT age_years FROM ages WHERE age_years IS NOT NULL") == [(52.0,)]
    assert place.ask("SELECT age_source, count(*) FROM scans GROUP BY ALL ORDER BY 2") == [
        ("labels", 1),
        (None, 2),
    ]
    before = place.ask("FROM ages ORDER BY ALL")
    place.night()  # without the flag: what the labels said stays
    assert place.ask("FROM ages ORDER BY ALL") == before


def test_indexed_with_labels_and_scored_without_agree(place: Place) -> None:
    """Patient, split, sex and age of a known scan are what restricted/scans says."""
    lines = ["object,patient,age_years,sex"]
    for number in range(6):
        place.scan(f"{number}.dcm", "", number, PatientAge="", PatientBirthDate="", PatientSex="")
        lines.append(f"{number}.dcm,person {number // 2},{50 + number // 2}.04,F")
    place.night("index", *place.labelled("\n".join(lines)))
    place.night()
    assert place.ask("""
        SELECT count(*), count(DISTINCT s.patient_key) FROM ages a JOIN scans s
        USING (scan_id, object_version, patient_key, sex, split)
        WHERE abs(a.age_years - s.age_years) <= 0.1""") == [(6, 3)]
    flagged = "SELECT count(*) FROM ages WHERE list_contains(flags, 'scored_as_other_sex')"
    assert place.ask(flagged) == [(0,)]


def test_a_key_that_could_mean_two_things_is_refused(place: Place) -> None:
    """Patient 2002's file is called 1001.dcm; nothing is published, and the column can say it."""
    place.scan("1001.dcm", "2002", 1, PatientAge="", PatientBirthDate="")
    place.scan("other.dcm", "1001", 2, PatientAge="", PatientBirthDate="")
    places = ["--archive", str(place.archive), "--tables", place.tables]
    for text in ("key,age_years\n1001,50\n2002,70\n", "key,age_years\n1001,50\n"):
        code, said = place.job("index", *places, *place.labelled(text))
        assert code == 2 and "the column key matches" in said and "patient_id" in said
        assert delta.read(place.tables, "restricted/scans").num_rows == 0
    place.night("index", *place.labelled("patient_id,age_years\n1001,50\n2002,70\n"))
    found = place.ask("SELECT age_years FROM scans ORDER BY object_uri")
    assert found == [(70.0,), (50.0,)]


def test_labels_that_match_nothing_are_exit_code_2(place: Place) -> None:
    """And likely causes are named where some do match."""
    place.scan("a.dcm", "0012", 1)
    place.scan("b.dcm", "0034", 2)
    places = ["--archive", str(place.archive), "--tables", place.tables]
    code, said = place.job("index", *places, *place.labelled("patient_id,age_years\nx,50\n"))
    assert code == 2 and "none of 1 rows matches any scan (read as: comma-sep" in said
    assert delta.read(place.tables, "restricted/scans").num_rows == 0
    said = place.night("index", *place.labelled("patient_id,age_years\n12,50\n0034,60\n"))
    assert "1 of 2 rows matched" in said and "1 would match with leading zeros" in said
    assert "12" in Path(place.tables, contract.UNMATCHED_LABELS).read_text()

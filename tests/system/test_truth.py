"""What the tables say of a scan stays true over nights, keys, labels and changed objects."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch

from bae import recipes
from bae.method import model
from bae.method.networks import Localizer, Regressor
from bae.tables import connect, contract, delta
from tests.fakes import dicoms

TINY = ["localizer.width=48", "localizer.height=96", "regressor.width=48", "regressor.height=64"]


class Place:
    """An archive, a model and tables on this machine, and the jobs over them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.archive, self.model = folder / "archive", str(folder / "model")
        self.tables, self.labels = str(folder / "tables"), folder / "labels.csv"
        self.capsys = capsys
        self.archive.mkdir()

    def scan(self, name: str, patient: str, uid: int, **elements: Any) -> None:
        """Write an object; the same name again replaces it."""
        path = self.archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        uid_text = f"1.2.826.0.1.3680043.{uid}"
        path.write_bytes(dicoms.scan(PatientID=patient, SOPInstanceUID=uid_text, **elements))

    def job(self, name: str, *flags: str) -> tuple[int, str]:
        """Run a job; return its exit code and all that it printed."""
        self.capsys.readouterr()
        try:
            code = int(importlib.import_module(f"jobs.{name}").main(list(flags)))
        except SystemExit as stop:
            code = int(str(stop.code))
        return code, "".join(self.capsys.readouterr())

    def night(self, name: str = "predict", *flags: str) -> str:
        """Index or predict, which must succeed; return what it printed."""
        places = ["--archive", str(self.archive), "--tables", self.tables]
        scoring = ["--model", self.model] if name == "predict" else []
        code, said = self.job(name, *places, *scoring, *flags)
        assert code == 0, said
        return said

    def labelled(self, text: str) -> tuple[str, str]:
        """Write a labels file and return the flag for it."""
        self.labels.write_text(text)
        return "--labels", str(self.labels)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the tables as an analyst who may read restricted/."""
        return connect(self.tables, restricted=True).sql(query).fetchall()


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both networks with random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    recipe = recipes.recipe("small", TINY)
    card = model.Card(recipe=recipe, parts={})
    card = model.save_part(str(folder), card, "localizer", Localizer(recipe.localizer), {})
    model.save_part(str(folder), card, "regressor", Regressor(recipe.regressor), {})
    return folder


@pytest.fixture
def place(
    tmp_path: Path, local_ray: None, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> Place:
    """An empty archive and no tables."""
    made = Place(tmp_path, capsys)
    made.model = str(tiny_model)
    return made


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


def test_an_object_exported_again_under_another_uid_replaces_its_scan(place: Place) -> None:
    """Of the object's two scans the newer one counts, in every view."""
    place.scan("a.dcm", "ada", 1)
    place.scan("b.dcm", "bob", 2)
    place.night()
    place.scan("a.dcm", "ada", 3)
    place.night()
    assert place.ask("SELECT count(*), count(removed_at) FROM scans") == [(3, 1)]
    assert place.ask(ONE_EACH) == [(2, 2, 2, 2.0)]
    [(kept,)] = place.ask("SELECT scan_id FROM scans WHERE object_version = 1 AND removed_at "
                          "IS NULL AND contains(object_uri, 'a.dcm')")  # fmt: skip
    assert (kept,) in place.ask("SELECT scan_id FROM latest_ages")


def test_an_object_put_back_as_it_was_counts_again(place: Place) -> None:
    """A mistaken upload is overruled, not the other way round; nothing is read for it."""
    place.scan("a.dcm", "ada", 1, PatientSex="F")
    was = place.archive / "a.dcm"
    shutil.copy2(was, place.archive.parent / "kept")
    place.night()
    place.scan("a.dcm", "ada", 1, PatientSex="M")
    place.night()
    assert place.ask("SELECT sex, object_version FROM latest_ages") == [("M", 2)]
    shutil.copy2(place.archive.parent / "kept", was)
    os.utime(was, ns=((place.archive.parent / "kept").stat().st_mtime_ns,) * 2)
    assert "nothing to do" in place.night()
    assert place.ask("SELECT sex, object_version FROM latest_ages") == [("F", 1)]


def test_an_archive_that_moved_is_counted_once(place: Place) -> None:
    """The same scans at other places."""
    for number in range(3):
        place.scan(f"{number}.dcm", f"p{number}", number)
    place.night()
    moved = place.archive.parent / "moved"
    place.archive.rename(moved)
    place.archive = moved
    place.night()
    assert place.ask("SELECT count(*) FROM ages") == [(6,)]
    assert place.ask(ONE_EACH) == [(3, 3, 3, 3.0)]


def test_an_object_that_left_is_counted_no_more(place: Place) -> None:
    """Withdrawn by the hospital: not in the latest views, still in the tables."""
    place.scan("a.dcm", "ada", 1)
    place.scan("b.dcm", "bob", 2)
    place.night()
    (place.archive / "a.dcm").unlink()
    place.night()
    assert place.ask(ONE_EACH) == [(1, 1, 1, 1.0)]
    assert place.ask("SELECT count(*) FROM ages") == [(2,)]


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


def test_every_table_is_there_after_any_night(place: Place) -> None:
    """Readers of other engines find all five."""
    place.scan("a.dcm", "ada", 1)
    place.night("index")
    for name in contract.SCHEMAS:
        assert delta.delta(place.tables, name) is not None
    assert duckdb.sql(f"FROM '{place.tables}/restricted/scans/*.parquet'").fetchall()

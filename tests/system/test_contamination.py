"""A model is not evaluated on patients that it was trained on, whatever the tables call them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bae import recipes
from bae.errors import UseError
from bae.evaluation import run, trained_on
from bae.method import model
from bae.tables import delta, settings, splits
from tests.fakes import rows, tiny
from tests.fakes.place import Place

PEOPLE = 48
SETTINGS = settings.Settings(key_fingerprint="one")


def _flags(place: Place) -> list[str]:
    return ["--tables", place.tables, "--model", place.model, *tiny.FLAGS]


@pytest.mark.slow
@pytest.mark.timeout(600)  # it trains both networks
def test_tables_with_another_split_are_refused_with_a_count(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Trained on one set of tables, tested on another: what both have is counted."""
    for number in range(PEOPLE):
        born = f"{1935 + number // 2}0601"
        dates = dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate"), "20110115")
        place.scan(
            f"{number}.dcm",
            f"p{number}",
            number + 1,
            PatientBirthDate=born,
            PatientAge=None,
            **dates,
        )
    place.model = str(tmp_path / "made")
    first = place.tables
    monkeypatch.setattr(splits, "split_sql", _by_last_digit)
    place.night("index")
    for network in ("localizer", "regressor"):
        code, said = place.job(f"train_{network}", *_flags(place))
        assert code == 0, said
        record = pq.read_table(f"{place.model}/{network}_patients.parquet")
        keys = {
            key
            for (key,) in place.ask("SELECT DISTINCT patient_key FROM scans WHERE split <> 'test'")
        }
        assert set(record["digest"].to_pylist()) <= trained_on.digests(sorted(keys))
        raw = Path(f"{place.model}/{network}_patients.parquet").read_bytes()
        assert not any(key.encode() in raw for key in keys)
    out = tmp_path / "evaluation"
    flags = ["--model", place.model, "--out", str(out)]
    assert run.plan(first, [place.model], str(out)).unchecked == ()
    # the same archive and key, another split
    place.tables = str(tmp_path / "again")
    monkeypatch.setattr(splits, "split_sql", lambda key: _by_last_digit(key, shift=5))
    place.night("index")
    before = sorted((p, p.stat().st_mtime_ns) for p in Path(place.tables).rglob("*"))
    code, said = place.job("evaluate", "--tables", place.tables, *flags)
    edges = recipes.small().localizer.group_edges_years
    inside = f"age_years BETWEEN {edges[0]} AND {edges[-1]}"
    test = {
        key
        for (key,) in place.ask(f"SELECT patient_key FROM scans WHERE split = 'test' AND {inside}")
    }
    place.tables = first
    seen = {
        key
        for (key,) in place.ask(f"SELECT patient_key FROM scans WHERE split <> 'test' AND {inside}")
    }
    count = len(test & seen)
    assert count and code == 2, said
    assert f"{count} scans of {count} test patients are of patients that model" in said
    assert not out.exists()
    again = Path(tmp_path / "again")
    assert sorted((p, p.stat().st_mtime_ns) for p in again.rglob("*")) == before
    # a model of an earlier release still loads; the page says what is not known
    for record in Path(place.model).glob("*_patients.parquet"):
        record.unlink()
    place.tables = str(again)
    code, said = place.job("evaluate", "--tables", place.tables, *flags)
    assert code == 0 and "not checked" in said, said
    assert "Not checked:** whether test patients" in (out / "evaluation.md").read_text()


def _by_last_digit(key: str, shift: int = 0) -> str:
    """Return an even split by the key's last digit, or another one, shifted."""
    digit = f"((('0x' || right({key}, 1))::INTEGER + {shift}) % 16)"
    return f"CASE WHEN {digit} < 7 THEN 'train' WHEN {digit} < 11 THEN 'validation' ELSE 'test' END"


@pytest.fixture
def trained(tmp_path: Path) -> tuple[str, model.Card, pa.Table]:
    """A model's folder and card, and the scans that its localizer was trained on."""
    root = str(tmp_path / "tables")
    rows.night(root, rows.listing(range(1, 12)), None)
    scans = delta.read(root, "restricted/scans")
    part = model.Part(sha256="ab")
    card = model.Card(recipe=recipes.small(), parts={"localizer": part})
    uri = str(tmp_path / "model")
    trained_on.save(uri, "localizer", card, {"train": scans}, SETTINGS)
    return uri, card, scans


def test_either_network_counts(trained: tuple[str, model.Card, pa.Table]) -> None:
    """A localizer of other tables has seen the patients, too."""
    uri, card, scans = trained
    both = replace(card, parts=card.parts | {"regressor": model.Part(sha256="cd")})
    trained_on.save(uri, "regressor", both, {"train": scans.slice(0, 0)}, SETTINGS)
    patients = len(set(scans["patient_key"].to_pylist()))
    with pytest.raises(UseError, match=f"{scans.num_rows} scans of {patients} test patients"):
        trained_on.check([uri], [both], scans, SETTINGS)


def test_what_cannot_be_compared_is_said(trained: tuple[str, model.Card, pa.Table]) -> None:
    """Another key, other weights, no record, a record of something else."""
    uri, card, scans = trained
    other = replace(card, parts={"localizer": model.Part(sha256="ef")})
    file = Path(uri) / "localizer_patients.parquet"

    def why(card: model.Card, told: settings.Settings = SETTINGS) -> str:
        [unknown] = trained_on.check([uri], [card], scans, told)
        return unknown.text()

    assert "another pseudonym key" in why(card, replace(SETTINGS, key_fingerprint="two"))
    assert "other weights" in why(other)
    file.write_bytes(b"no parquet")
    assert "cannot be read" in why(card)
    file.unlink()
    assert "no record" in why(card)

"""What the first release wrote stays readable: ``tests/releases/<version>.zip``."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bae.archive.dicom import decode
from bae.method.predictor import Predictor
from bae.tables import delta, query
from jobs import predict
from tests.releases import make

RELEASES = sorted(Path(make.__file__).parent.glob("*.zip"))
VIEWS = ("ages", "boxes", "heatmaps", "latest_ages", "scans", "rejects")


@pytest.fixture(params=RELEASES, ids=lambda path: path.stem)
def release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The release's tables and model, and the archive they were made from."""
    monkeypatch.setenv("BAE_PSEUDONYM_KEY", make.KEY)
    shutil.rmtree(make.PLACE, ignore_errors=True)
    with zipfile.ZipFile(request.param) as files:
        files.extractall(make.PLACE)
    make.write_archive(make.PLACE / "archive", range(4))
    yield make.PLACE
    shutil.rmtree(make.PLACE)


def test_the_first_release_is_kept() -> None:
    """Small enough to stay for ever."""
    assert "0.1.0" in [path.stem for path in RELEASES]
    assert all(path.stat().st_size < 300_000 for path in RELEASES)


def test_tables_are_read_as_before(release: Path) -> None:
    """Every view has its rows; columns that came later are null."""
    connection = query.connect(str(release / "tables"), restricted=True)
    counts = {view: connection.sql(f"FROM {view}").shape[0] for view in VIEWS}
    assert counts["ages"] == counts["latest_ages"] == counts["scans"] == 4
    assert counts["rejects"] == 1
    assert counts["heatmaps"] == 4
    assert counts["boxes"] >= 4
    ages = delta.read(str(release / "tables"), "cohort/ages").to_pylist()
    assert all(10 < row["age_high_years"] - row["age_low_years"] < 30 for row in ages)
    first = query.connect(str(release / "tables"), version=0)
    assert first.sql("FROM ages").shape[0] == 3


def test_model_answers_as_it_did(release: Path) -> None:
    """An old card and its weights give the ages that its release stored."""
    predictor = Predictor.load(str(release / "model"), "cpu")
    assert (
        predictor.card.model_id
        == json.loads((release / "model" / "card.json").read_text())["model_id"]
    )
    scan = decode.decode((release / "archive" / "000.dcm").read_bytes())
    (found,) = predictor.predict([scan])
    stored = delta.read(str(release / "tables"), "cohort/ages").to_pylist()
    assert {row["model_id"] for row in stored} == {predictor.card.model_id}
    for row in stored:  # the same pixels under other names; bf16 rounds with the batch
        assert found.age_years == pytest.approx(row["predicted_age_years"], abs=0.5)
        assert found.group == row["age_group"]
    assert found.low_years is not None


@pytest.mark.slow
@pytest.mark.ray
def test_a_night_goes_on_with_old_tables(
    release: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is scored twice, what is new is added beside the old rows."""
    flags = ["--archive", str(release / "archive"), "--tables", str(release / "tables")]
    flags += ["--model", str(release / "model")]
    assert predict.main(flags) == 0
    said = capsys.readouterr().out
    assert "retried    1 objects" in said and "scored     0 scans" in said  # by a newer decoder
    assert predict.main(flags) == 0
    assert "nothing to do" in capsys.readouterr().out
    old = delta.read(str(release / "tables"), "cohort/ages").to_pylist()
    make.write_archive(release / "archive", range(4, 6))
    assert predict.main(flags) == 0
    assert "6 objects" not in capsys.readouterr().out.split("\n")[1]
    now = delta.read(str(release / "tables"), "cohort/ages").to_pylist()
    assert len(now) == 6
    assert [row for row in now if row["run_id"] in {r["run_id"] for r in old}] == old
    assert len({row["scan_id"] for row in now}) == 6
    assert len({row["patient_key"] for row in now}) == 3

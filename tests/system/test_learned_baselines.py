"""Recipes ``small_svr`` and ``atlas_nn`` as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bae.evaluation import run
from bae.method import model
from tests.fakes.place import Place

TINY = ["localizer.width=48", "localizer.height=96", "fit_localizer.epochs=1"]
CHANGES = [word for setting in TINY for word in ("--set", setting)]


@pytest.mark.slow
@pytest.mark.timeout(1500)  # minutes on one busy core
def test_jobs_train_them_and_score_with_them(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are calibrated, both stand in Table 1, a second training reads nothing."""
    monkeypatch.setattr(run, "NOISE_PAIRS", 2)
    archive, tables = tmp_path / "phantoms", str(tmp_path / "tables")
    sizes = ["--scans", "90", "--matrix", "64x256"]
    code, said = place.job("phantom", "--archive", str(archive), *sizes)
    assert code == 0, said
    assert place.job("index", "--archive", str(archive), "--tables", tables)[0] == 0
    atlas, svr = str(tmp_path / "atlas"), str(tmp_path / "svr")

    of_svr = ["--tables", tables, "--model", svr, "--recipe", "small_svr", *CHANGES]
    code, said = place.job("train_regressor", *of_svr)
    assert code == 2 and "run jobs.train_localizer first" in said, said
    assert place.job("train_localizer", *of_svr)[0] == 0
    code, said = place.job("train_regressor", *of_svr)
    assert code == 0 and "held out view rmse years" in said, said
    card = model.load_card(svr)
    assert set(card.parts) == {"localizer", "svr"} and card.calibration is not None
    code, said = place.job("train_regressor", *of_svr)
    assert code == 0 and "of the archive" not in said, said
    assert model.load_card(svr).model_id == card.model_id
    code, said = place.job("train_regressor", *of_svr, "--set", "region.views=anterior")
    assert code == 2 and "another region section" in said, said

    of_atlas = ["--tables", tables, "--model", atlas, "--recipe", "atlas_nn"]
    code, said = place.job("train", *of_atlas)
    assert code == 0 and "held out mae years" in said, said
    card = model.load_card(atlas)
    assert set(card.parts) == {"nearest"} and card.calibration is not None
    # the training scans calibrate too
    assert card.calibration.scans > card.parts["nearest"].data["validation"]["scans"]

    for folder in (atlas, svr):
        text = json.dumps(json.loads((Path(folder) / "card.json").read_text()))
        assert str(tmp_path) not in text
    flags = ["--archive", str(archive), "--tables", tables, "--model", svr]
    code, said = place.job("predict", *flags)
    assert code == 0, said
    out = tmp_path / "out"
    flags = ["--tables", tables, "--model", atlas, "--model", svr, "--out", str(out)]
    code, said = place.job("evaluate", *flags)
    assert code == 0, said
    rows = {row["method"]: row for row in pq.read_table(out / "table1.parquet").to_pylist()}
    mean = rows["always the mean age"]["mae_years"]
    for name in ("atlas_nn", "small_svr"):
        assert 0 < rows[name]["mae_years"] < 1.3 * mean
    assert not (out / "atlas_nn" / "atlas.png").exists()  # it has no regions

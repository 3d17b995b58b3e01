"""Recipe regional as its users meet it: one command trains it, nights score with it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest

from bae import phantom, recipes
from bae.body import body_mask
from bae.method import model
from bae.method.regional.places import PLACES
from bae.phantom import PhantomConfig
from bae.pipeline import reread
from bae.tables import connect
from bae.training import regional
from tests.fakes.place import Place

WORLD = PhantomConfig(world=4, columns=128, rows=512, ages=(40.0, 80.0))
SCANS = 130


def _archive(place: Place, scans: int = SCANS) -> None:
    for k in range(scans):
        for name, data in phantom.objects(k, seed=3, config=WORLD):
            path = place.archive / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _odd(place: Place) -> tuple[str, list[str]]:
    """Add a scan again without its pixel size, its sex, and its second view; return their names."""
    for number in range(SCANS):
        [(name, data), *more] = phantom.objects(number, seed=3, config=WORLD)
        if not more and pydicom.dcmread(io.BytesIO(data)).get("NumberOfFrames") == 2:
            break
    odd = []
    for what in ("pixel size", "sex", "view"):
        ds = pydicom.dcmread(io.BytesIO(data))
        if ds.file_meta.TransferSyntaxUID.is_compressed:
            ds.decompress()
        ds.SOPInstanceUID = f"1.2.826.0.1.3680043.9.{len(odd) + 1}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        if what == "pixel size":
            del ds.PixelSpacing
        elif what == "sex":
            ds.PatientSex = ""
        else:
            ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]
            ds.NumberOfFrames = ds.NumberOfDetectors = 1
            ds.DetectorInformationSequence = ds.DetectorInformationSequence[:1]
            for keyword in ("DetectorVector", "FrameIncrementPointer", "EnergyWindowVector"):
                if keyword in ds:
                    delattr(ds, keyword)
        odd.append(f"without {what}.dcm")
        ds.save_as(place.archive / odd[-1])
    return name.rpartition("/")[2], odd


@pytest.mark.slow
def test_one_command_trains_a_model_that_nights_score_with(place: Place, tmp_path: Path) -> None:
    """Ages follow, regions lie on the body and weigh one together, the air is cold."""
    _archive(place)
    place.model = str(tmp_path / "linear")
    place.night("index")
    flags = ["--tables", place.tables, "--model", place.model]
    recipe = ["--recipe", "regional"]
    code, said = place.job("train", *flags, *recipe)
    assert code == 0 and "held out mae years" in said, said
    assert {path.suffix for path in Path(place.model).iterdir()} == {
        ".json", ".md", ".safetensors", ".parquet",
    }  # fmt: skip
    first = model.load_card(place.model)
    assert first.calibration is not None and first.validation["scans"] > 5
    code, said = place.job("train", *flags, *recipe)
    assert code == 0 and model.load_card(place.model).model_id == first.model_id
    assert "of the archive" not in said  # the sheets of the first time are kept

    whole, odd = _odd(place)
    place.night("predict")
    asked = connect(place.tables, restricted=True)
    tested = asked.sql("FROM latest_ages WHERE split = 'test'").df()
    error = tested["age_gap_years"].abs().mean()
    always = (tested["age_years"] - tested["age_years"].mean()).abs().mean()
    assert error < 0.75 * always

    boxes = asked.sql("FROM latest_boxes JOIN scans USING (scan_id)").df()
    assert boxes.groupby("scan_id")["weight"].sum().round(4).eq(1).all()
    assert (boxes.groupby(["scan_id", "view_index"]).size() <= 6).all()
    known = {f"{side}{p.name}" for p in PLACES for side in ("left ", "right ", "")}
    assert set(boxes["region"]) <= known | {p.pair for p in PLACES}
    assert boxes["added_years"].notna().all()

    told = asked.sql(
        "SELECT object_uri, predicted_age_years FROM latest_ages JOIN scans USING (scan_id)"
    ).fetchall()
    ages = {uri.rpartition("/")[2]: years for uri, years in told}
    assert np.ptp([ages[name] for name in (whole, *odd)]) < 8

    scan_ids = boxes["scan_id"].drop_duplicates().tolist()[:4]
    for scan_id, scan in reread.scans(place.tables, scan_ids):
        maps = asked.execute(
            "SELECT view, heat, rows, columns FROM latest_heatmaps WHERE scan_id = ?", [scan_id]
        ).fetchall()
        for view, heat, rows, columns in maps:
            counts = next(v.counts for v in scan.views if v.name == view)
            cells = np.frombuffer(heat, np.uint8).reshape(rows, columns)
            down, right = (
                (np.arange(n) * m) // n for n, m in zip((rows, columns), counts.shape, strict=True)
            )
            body = body_mask(counts)[np.ix_(down, right)]
            assert cells[~body].astype(float).sum() < 0.1 * cells.astype(float).sum()

    code, said = place.job("evaluate", *flags, "--out", str(tmp_path / "evaluation"))
    assert code == 0 and "regional" in said, said
    assert (tmp_path / "evaluation" / "regional" / "regions.md").exists()


@pytest.mark.slow
def test_one_command_trains_both_parts_of_the_best_answer(place: Place, tmp_path: Path) -> None:
    """A network of two members on the linear model's squares, and its share of the answer."""
    _archive(place, 70)
    place.model = str(tmp_path / "both")
    place.night("index")
    flags = ["--tables", place.tables, "--model", place.model]
    few = [f"fit_regressor.{f}" for f in ("epochs=3", "least_steps=0", "average_decay=0")]
    few += ["regressor.members=2", "regressor.hidden_neurons=16", "region.count=3"]
    changes = [word for change in few for word in ("--set", change)]
    code, said = place.job("train", *flags, "--gpus", "1")
    assert code == 2 and "GPU asked for" in said and not Path(place.model).exists(), said
    code, said = place.job("train", *flags, "--most", "40", *changes)
    assert code == 0 and "network share" in said and "40 to train on" in said, said
    card = model.load_card(place.model)
    assert set(card.parts) == {"regional", "regions"} and card.calibration is not None
    told = card.parts["regions"].metrics
    assert 0 <= told["network_share"] <= 1
    # the share errs least squared, which is nearly what errs least
    assert told["held_out_mae_years"] < 1.1 * min(
        told["network_mae_years"], told["linear_mae_years"]
    )
    assert not (Path(place.model) / "checkpoints").exists()

    place.night("predict")
    asked = connect(place.tables, restricted=True)
    boxes = asked.sql("FROM latest_boxes").df()
    assert boxes.groupby("scan_id")["weight"].sum().round(4).eq(1).all()
    assert (boxes.groupby(["scan_id", "view_index"]).size() <= 3).all()
    assert boxes["region"].notna().all() and boxes["added_years"].notna().all()
    ages = asked.sql("FROM latest_ages").df()
    assert ages["predicted_age_years"].between(30, 90).all()
    assert (ages["age_high_years"] > ages["age_low_years"]).all()

    # a network that lost its linear model is not whole
    (Path(place.model) / "regional.safetensors").unlink()
    places = ["--archive", str(place.archive), "--tables", place.tables]
    code, said = place.job("predict", *places, "--model", place.model)
    assert code == 2 and "regional.safetensors" in said


def test_of_many_scans_so_many_are_taken(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 in earnest; the same ones whenever it is trained."""
    assert regional.MOST_SCANS == 3000
    monkeypatch.setattr(regional, "MOST_SCANS", 5)
    for number in range(20):
        place.scan(f"{number}.dcm", f"p{number}", number + 1)
    place.night("index")
    model_uri = str(tmp_path / "m")
    first, again = (
        regional.plan(recipes.recipe("regional"), place.tables, model_uri).scans["train"]
        for _ in range(2)
    )
    assert first.num_rows == 5 and first.equals(again)


def test_wrong_uses_are_sentences(place: Place, tmp_path: Path) -> None:
    """Each command says which one to run instead, before anything is read."""
    flags = ["--tables", place.tables, "--model", str(tmp_path / "m")]
    code, said = place.job("train_localizer", *flags, "--recipe", "regional")
    assert code == 2 and "jobs.train" in said
    code, said = place.job("train", *flags, "--recipe", "small")
    assert code == 2 and "jobs.train_localizer" in said
    code, said = place.job("train", *flags, "--set", "region.parts=all")
    assert code == 2 and "several" in said
    code, said = place.job("train", *flags, "--set", "regressor.members=1")
    assert code == 2 and "two members" in said
    code, said = place.job("train_regressor", *flags, "--set", "regressor.members=3")
    assert code == 2 and "recipes regions and best" in said
    code, said = place.job("train", *flags, "--most", "0")
    assert code == 2 and "--most" in said
    code, said = place.job("train", *flags)
    assert code == 2 and "jobs.index" in said
    assert not (tmp_path / "m").exists()

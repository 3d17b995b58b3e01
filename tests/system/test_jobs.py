"""The jobs as a user calls them."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as parquet
import pydicom
import pytest

from bae import storage
from bae.evaluation import metrics, run
from bae.evaluation.regions import examine
from bae.tables import contract, delta
from jobs import demo
from tests.fakes import tiny

ROOT = Path(__file__).parents[2]
JOBS = [
    "phantom",
    "index",
    "train_localizer",
    "train_regressor",
    "predict",
    "evaluate",
    "demo",
    "erase",
    "maintain",
    "report",
    "doctor",
]


def _job(name: str, *flags: str) -> int:
    main = importlib.import_module(f"jobs.{name}").main
    try:
        return int(main(list(flags)))
    except SystemExit as stop:  # argparse: --help and unusable flags
        return int(str(stop.code))


@pytest.mark.parametrize("name", JOBS)
def test_help_shows_an_example_that_the_parser_takes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example in --help has the flags that the job has."""
    assert _job(name, "--help") == 0
    text = capsys.readouterr().out
    example = text.split("example:\n")[1].split()
    assert example[:3] == ["python", "-m", f"jobs.{name}"]
    from jobs import command

    parsed = {}
    monkeypatch.setattr(
        command, "run", lambda parser, job, argv: parsed.update(vars(parser.parse_args(argv))) or 0
    )
    assert _job(name, *example[3:]) == 0
    assert parsed


def _wrong(name: str, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _job(name, *flags) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1, "one clear sentence"


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("train_localizer", ["--recipe", "smal"], "did you mean 'small'"),
        (
            "train_localizer",
            ["--recipe", "small", "--set", "region.gama=3"],
            "did you mean 'gamma'",
        ),
        ("train_localizer", ["--recipe", "small", "--set", "region.gamma=x"], "expected float"),
        ("train_regressor", ["--recipe", "small"], "run jobs.train_localizer first"),
        ("train_localizer", ["--recipe", "small"], "run jobs.index"),
        ("train_localizer", ["--recipies", "small"], "unrecognized arguments"),
    ],
)
def test_wrong_training_gets_one_sentence_and_writes_nothing(
    name: str, flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2; neither tables nor model folder appear."""
    places = ["--tables", str(tmp_path / "tables"), "--model", str(tmp_path / "model")]
    _wrong(name, [*places, *flags], words, capsys)
    assert not list(tmp_path.iterdir())


def test_missing_archive_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, nothing written."""
    places = ["--archive", str(tmp_path / "nowhere"), "--tables", str(tmp_path / "tables")]
    _wrong("index", places, "there is no folder", capsys)
    assert not list(tmp_path.iterdir())


def test_empty_archive_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, nothing written."""
    (tmp_path / "archive").mkdir()
    places = ["--archive", str(tmp_path / "archive"), "--tables", str(tmp_path / "tables")]
    _wrong("index", places, "holds no objects", capsys)
    assert not (tmp_path / "tables").exists()


@pytest.mark.slow
def test_model_that_is_not_there_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, nothing written."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.txt").write_text("a")
    places = ["--archive", str(tmp_path / "archive"), "--tables", str(tmp_path / "tables")]
    _wrong("predict", [*places, "--model", str(tmp_path / "m")], "no model at", capsys)
    assert not (tmp_path / "tables").exists()


# ---- the chain, once for all tests below ---------------------------------------------------


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """Phantoms, the real scan and bad objects, indexed, trained on and scored."""
    folder = tmp_path_factory.mktemp("chain")
    archive, tables_, model = (str(folder / n) for n in ("archive", "tables", "model"))
    # a seed whose few people fall into all three splits: 16, 4 and 4 scans
    people = ["--scans", "24", "--seed", "24", "--ages", "50", "70"]
    assert _job("phantom", "--archive", archive, *people) == 0
    demo.add_real_scans(archive)
    good = next(Path(archive, "real").glob("JPEG-LL.dcm")).read_bytes()
    Path(archive, "note.txt").write_text("not a scan")
    Path(archive, "cut.dcm").write_bytes(good[: len(good) // 2])
    places = ["--archive", archive, "--tables", tables_]
    assert _job("index", *places) == 0
    training = ["--tables", tables_, "--model", model, *tiny.FLAGS]
    assert _job("train_localizer", *training) == 0
    assert _job("predict", *places, "--model", model) == 2, "no regressor yet"
    assert _job("train_regressor", *training) == 0
    assert _job("predict", *places, "--model", model) == 0
    return folder


@pytest.mark.ray
@pytest.mark.slow
def test_every_object_is_scored_or_refused_once(chain: Path) -> None:
    """Listed = scored + refused; no scan twice; every age has its boxes and heat maps."""
    place = str(chain / "tables")
    listed = set(storage.list_objects(str(chain / "archive"))["object_uri"].to_pylist())
    scans, rejects = (delta.read(place, f"restricted/{n}") for n in ("scans", "rejects"))
    assert sorted(scans["object_uri"].to_pylist() + rejects["object_uri"].to_pylist()) == sorted(
        listed
    )
    ages = delta.read(place, "cohort/ages")
    assert sorted(ages["scan_id"].to_pylist()) == sorted(scans["scan_id"].to_pylist())
    viewed = {
        (row["scan_id"], i, v) for row in ages.to_pylist() for i, v in enumerate(row["views"])
    }
    for name in ("cohort/boxes", "cohort/heatmaps"):
        rows = delta.read(place, name, ["scan_id", "view_index", "view"]).to_pylist()
        assert {tuple(row.values()) for row in rows} == viewed
    assert len(delta.read(place, "cohort/heatmaps")) == len(viewed)


@pytest.mark.ray
@pytest.mark.slow
def test_export_writes_a_report_a_picture_and_a_document_of_each_scan(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing to score, all to export, in Ray tasks; the second time nothing at all."""
    archive, tables_, model, target = (
        str(place) for place in (*(chain / n for n in ("archive", "tables", "model")), tmp_path)
    )
    flags = ["--archive", archive, "--tables", tables_, "--model", model, "--export-dicom", target]
    assert _job("predict", *flags) == 0
    scans = delta.read(tables_, "restricted/scans")["scan_id"].to_pylist()
    said = capsys.readouterr().out
    assert "nothing to do" in said and f"exported   {len(scans)} scans" in said
    names = [path.name for path in tmp_path.iterdir()]
    for kind in ("sr.dcm", "sc.dcm", "pdf.dcm"):
        assert sorted(n.split("-")[0] for n in names if n.endswith(kind)) == sorted(scans)
    assert len(names) == 3 * len(scans)
    assert _job("predict", *flags) == 0
    assert "exported   0 scans" in capsys.readouterr().out


@pytest.mark.ray
def test_bad_objects_are_refused_with_their_codes(chain: Path) -> None:
    """A text file and a truncated scan, beside whatever the odd encodings give."""
    rejects = delta.read(str(chain / "tables"), "restricted/rejects").to_pylist()
    codes = {Path(row["object_uri"]).name: row["code"] for row in rejects}
    assert codes["note.txt"] == "format_unknown"
    assert codes["cut.dcm"] == "object_cut_off"
    assert all(row["message"] for row in rejects)


@pytest.mark.ray
def test_real_scan_has_its_rows_and_picture(chain: Path, tmp_path: Path) -> None:
    """Age, box and heat map of the sharp real scan; the box lies inside it."""
    place = str(chain / "tables")
    scans = delta.read(place, "restricted/scans")
    mine = scans.filter(pc.match_substring(scans["object_uri"], "JPEG-LL.dcm")).to_pylist()
    assert len(mine) == 1
    assert (mine[0]["rows"], mine[0]["columns"]) == (1024, 256)
    scan_id = mine[0]["scan_id"]
    for name in ("cohort/ages", "cohort/boxes", "cohort/heatmaps"):
        rows = [r for r in delta.read(place, name).to_pylist() if r["scan_id"] == scan_id]
        assert rows, name
    box = next(r for r in delta.read(place, "cohort/boxes").to_pylist() if r["scan_id"] == scan_id)
    assert 0 <= box["x0"] < box["x1"] <= 256
    assert 0 <= box["y0"] < box["y1"] <= 1024
    target = tmp_path / "figure.png"
    demo.draw_real_scan(str(chain / "archive"), place, target)
    assert target.stat().st_size > 50_000


@pytest.mark.ray
def test_tables_hold_what_the_predictor_says(chain: Path) -> None:
    """The job's rows equal ``Predictor.predict`` on the same bytes, without Ray."""
    from bae.archive.dicom import decode
    from bae.method import boxes as method_boxes
    from bae.method.predictor import Predictor

    place = str(chain / "tables")
    predictor = Predictor.load(str(chain / "model"))
    ages = {row["scan_id"]: row for row in delta.read(place, "cohort/ages").to_pylist()}
    heats = delta.read(place, "cohort/heatmaps").to_pylist()
    boxes = delta.read(place, "cohort/boxes").to_pylist()
    for row in delta.read(place, "restricted/scans").to_pylist()[:4]:
        scan = decode.decode(storage.read_bytes(row["object_uri"]))
        (expected,) = predictor.predict([scan])
        got = ages[row["scan_id"]]
        assert got["model_id"] == predictor.card.model_id
        # batches of other sizes round bf16 products differently
        assert got["predicted_age_years"] == pytest.approx(expected.age_years, abs=0.5)
        assert (
            got["age_gap_years"]
            == pytest.approx(got["predicted_age_years"] - got["age_years"], abs=1e-6)
            if got["age_years"] is not None
            else got["age_gap_years"] is None
        )
        assert sum(got["group_probabilities"]) == pytest.approx(1, abs=1e-4)
        for heat in (h for h in heats if h["scan_id"] == row["scan_id"]):
            stored = np.frombuffer(heat["heat"], np.uint8).reshape(heat["rows"], heat["columns"])
            again = method_boxes.find_boxes(
                stored, (row["rows"], row["columns"]), predictor.recipe.region
            )
            kept = [
                b
                for b in boxes
                if (b["scan_id"], b["view_index"]) == (row["scan_id"], heat["view_index"])
            ]
            kept.sort(key=lambda b: b["box_index"])
            assert [(b.x0, b.y0, b.x1, b.y1) for b in again] == [
                (b["x0"], b["y0"], b["x1"], b["y1"]) for b in kept
            ], "boxes can be computed again from the heat maps table"


@pytest.mark.slow
@pytest.mark.ray
def test_second_night_does_nothing(chain: Path) -> None:
    """The same command again reads nothing, adds nothing, and starts neither Ray nor torch."""
    place = str(chain / "tables")
    before = {name: delta.read(place, name).num_rows for name in contract.SCHEMAS}
    flags = ["--archive", str(chain / "archive"), "--tables", place]
    flags += ["--model", str(chain / "model")]
    code = f"import sys\nfrom jobs import predict\nassert predict.main({flags}) == 0\n"
    code += "print('heavy', {'ray', 'torch'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "nothing to do" in said.stdout
    assert "heavy set()" in said.stdout
    assert {name: delta.read(place, name).num_rows for name in contract.SCHEMAS} == before


@pytest.mark.ray
def test_too_many_refusals_fail_the_job_after_writing_them(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1; the rejects are in the table all the same."""
    archive = tmp_path / "archive"
    archive.mkdir()
    shutil.copy(chain / "archive" / "real" / "JPEG-LL.dcm", archive)
    for number in range(3):
        (archive / f"{number}.txt").write_text("no scan")
    flags = ["--archive", str(archive), "--tables", str(tmp_path / "tables")]
    assert _job("index", *flags) == 1
    assert "3 of 4 objects were refused (format_unknown 3)" in capsys.readouterr().err
    assert delta.read(str(tmp_path / "tables"), "restricted/rejects").num_rows == 3
    assert delta.read(str(tmp_path / "tables"), "restricted/scans").num_rows == 1


@pytest.mark.ray
def test_models_card_says_what_it_was_trained_on(chain: Path) -> None:
    """Recipe, digest, metrics, versions; and nothing that names a person."""
    text = (chain / "model" / "card.json").read_text()
    card = json.loads(text)
    assert card["recipe"]["localizer"]["width"] == 48
    for part in ("localizer", "regressor"):
        data = card["parts"][part]["data"]["train"]
        assert data["patients"] > 0
        assert len(data["digest"]) == 16
    assert "validation_mae_years" in card["parts"]["regressor"]["metrics"]
    found = card["validation"]
    assert found["scans"] == card["parts"]["regressor"]["data"]["validation"]["scans"]
    assert found["metrics"]["mae_years"]["low"] <= found["metrics"]["mae_years"]["value"]
    assert {group["by"] for group in found["subgroups"]} == {"all", "sex", "age", "vendor", "view"}
    assert card["calibration"]["patients"] == found["patients"]
    page = (chain / "model" / "card.md").read_text()
    for words in (
        "Intended use and limits",
        card["model_id"],
        "sha256",
        "share of women",
        "Coverage",
        "Calibration",
        '"height": 96',
    ):
        assert words in page
    assert str(chain) not in page
    assert {"bae", "torch", "ray", "pydicom"} <= set(card["versions"])
    assert str(chain) not in text
    names = sorted(p.name for p in (chain / "model").iterdir())
    assert names == [
        "card.json",
        "card.md",
        "localizer.safetensors",
        "localizer_learning_curve.png",
        "localizer_patients.parquet",
        "regressor.safetensors",
        "regressor_learning_curve.png",
        "regressor_patients.parquet",
        "tensorboard",
    ]


@pytest.mark.ray
def test_model_and_cohort_hold_no_identity_of_the_archive(chain: Path) -> None:
    """Names, ids, UIDs, dates and paths of the training archive stay out of both."""
    secrets: set[str] = set()
    for path in (chain / "archive").rglob("*.dcm"):
        secrets |= {name for name in (path.stem, path.parent.name) if len(name) >= 8}
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for element in header.iterall():
            if element.VR in ("PN", "UI", "DA", "LO", "SH") and len(str(element.value)) >= 8:
                secrets.add(str(element.value))
    assert len(secrets) > 100
    files = [*(chain / "model").rglob("*"), *(chain / "tables" / "cohort").rglob("*")]
    for path in files:
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                data += str(parquet.read_table(path).to_pydict()).encode()
            assert not {s for s in secrets if s.encode() in data}, path


@pytest.mark.slow
@pytest.mark.ray
def test_evaluation_shows_the_held_out_patients(
    chain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Table 1 as the tables have it, all links alive, and a second run that scores nothing."""
    monkeypatch.setattr(run, "NOISE_PAIRS", 3)
    monkeypatch.setattr(examine, "MOST_CHECKS", 3)
    monkeypatch.setattr(metrics, "FEWEST", 2)  # the chain has four people to test with
    place, out = str(chain / "tables"), tmp_path / "out"
    flags = ["--tables", place, "--model", str(chain / "model"), "--out", str(out)]
    assert _job("evaluate", *flags) == 0
    assert "always the mean age" in capsys.readouterr().out
    rows = parquet.read_table(out / "table1.parquet").to_pylist()
    assert rows[0]["method"] == "always the mean age"
    assert rows[-1]["method"] == "known limit of the phantoms"
    ages = [
        row
        for row in delta.read(place, "cohort/ages").to_pylist()
        if row["split"] == "test" and row["age_gap_years"] is not None
    ]
    mine = next(row for row in rows if row["model_id"])
    assert mine["scans"] == len(ages)
    mae = np.mean([abs(row["age_gap_years"]) for row in ages])
    assert mine["mae_years"] == pytest.approx(mae, abs=0.5)
    page = (out / "evaluation.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (out / link).stat().st_size > 0
    assert str(chain) not in page
    assert _job("evaluate", *flags) == 0
    assert " scans in " not in capsys.readouterr().err, "scored once"
    assert (out / "evaluation.md").read_text() == page

"""The job writes whole archives: same bytes from any number of workers, truth kept apart."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bae import storage
from bae.phantom import PhantomConfig, limit_mae_years, make, write
from jobs import phantom
from tests.fakes import s3_server

SMALL = ("--seed", "3", "--matrix", "128x512", "--mistakes", "0.2")


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.ray
def test_archive_does_not_depend_on_workers_nor_scan_k_on_n(
    local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 scans with one worker and with two are equal; the first 9 are those of 9 scans."""
    wide, narrow, few = (tmp_path / name for name in ("wide", "narrow", "few"))
    for folder, scans, workers in ((wide, "20", "2"), (narrow, "20", "1"), (few, "9", "2")):
        code = phantom.main(
            ["--archive", str(folder), "--scans", scans, "--workers", workers, *SMALL]
        )
        assert code == 0
    printed = capsys.readouterr().out
    assert "20 in" in printed and "known limit  1.93 years" in printed
    assert _digests(wide) == _digests(narrow)
    all_scans, first = _digests(wide), _digests(few)
    scans = {name: digest for name, digest in first.items() if not name.startswith("_phantom")}
    assert scans.items() <= all_scans.items()

    truth = pq.read_table(wide / "_phantom" / "truth.parquet")
    assert truth["scan"].to_pylist() == list(range(20))
    assert set(truth["mistake"].to_pylist()) != {""}
    named = {name for names in truth["objects"].to_pylist() for name in names}
    listed = storage.list_objects(str(wide))["object_uri"].to_pylist()
    assert {str(Path(uri).relative_to(wide)) for uri in listed} == named
    assert all(field.metadata[b"description"] for field in truth.schema)

    about = json.loads((wide / "_phantom" / "phantom.json").read_text())
    assert about["limit_mae_years"] == pytest.approx(limit_mae_years((40, 80)), abs=1e-4)
    assert about["scans"] == 20 and about["seed"] == 3

    scan = make(7, seed=3, config=PhantomConfig(columns=128, rows=512, mistakes=0.2))
    row = truth.slice(7, 1).to_pylist()[0]
    assert row["latent_years"] == scan.latent_years
    assert row["sex"] == scan.sex
    landmark = next(mark for mark in row["landmarks"] if mark["name"] == "L3 body")
    assert landmark["column"] == pytest.approx(scan.landmarks["L3 body"][0])


@pytest.mark.parametrize(
    "flags",
    [
        ["--scans", "0"],
        ["--scans", "3", "--matrix", "256"],
        ["--scans", "3", "--seed", "-1"],
        ["--scans", "three"],
        ["--scans", "3", "--workers", "0"],
    ],
)
def test_wrong_flags_end_with_two(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, nothing written, before Ray starts."""
    with pytest.raises(SystemExit) as end:
        phantom.main(["--archive", "/nowhere", *flags])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "flags", [["--ages", "80", "40"], ["--mistakes", "2"], ["--matrix", "256x300"]]
)
def test_wrong_values_end_with_two(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Values that parse but make no cohort."""
    assert phantom.main(["--archive", str(tmp_path / "a"), "--scans", "3", *flags]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.s3
@pytest.mark.ray
@pytest.mark.slow
def test_an_archive_on_s3_is_the_local_one(s3: s3_server.Server, tmp_path: Path) -> None:
    """The job as users start it: same names, same bytes, truth readable where it lies."""
    flags = ["--scans", "5", *SMALL]
    place = "s3://archive/phantoms"
    command = [sys.executable, "-m", "jobs.phantom", "--archive", place, *flags]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    config = PhantomConfig(columns=128, rows=512, mistakes=0.2)
    made = write.write_piece(str(tmp_path), 0, 5, 3, config)
    for names in made["objects"].to_pylist():
        for name in names:
            assert storage.read_bytes(f"{place}/{name}") == (tmp_path / name).read_bytes()
    truth = storage.read_bytes(f"{place}/_phantom/truth.parquet")
    assert pq.read_table(pa.BufferReader(truth)).equals(made)

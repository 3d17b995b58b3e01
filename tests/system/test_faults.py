"""Whatever dies in the night, the tables are those of an undisturbed night."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bae import storage
from bae.tables import delta, runs
from tests.fakes import rows, tiny

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

SCANS = 20
BROKEN = 2
"""A tenth of the objects."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty bone scans and two broken objects, then a model with random weights."""
    import io

    import pydicom
    from pydicom.data import get_testdata_file

    from bae import recipes

    folder = tmp_path_factory.mktemp("night")
    source = pydicom.dcmread(str(get_testdata_file("JPEG2000.dcm")))
    for number in range(SCANS):
        source.SOPInstanceUID = f"1.2.3.{number}"
        source.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
        source.PatientID = f"P{number // 2}"
        sink = io.BytesIO()
        source.save_as(sink)
        storage.write_bytes(f"{folder}/archive/{number:03d}.dcm", sink.getvalue())
    for number in range(BROKEN):
        storage.write_bytes(f"{folder}/archive/{number}9-broken.dcm", sink.getvalue()[:3000])
    tiny.write_model(folder / "model", recipes.small())
    return folder


@pytest.fixture(scope="module")
def undisturbed(archive: Path) -> dict[str, list[dict[str, object]]]:
    """The tables of a night in which nothing happens."""
    assert _night(archive, "calm").returncode == 0
    found = rows.content(str(archive / "calm"))
    assert len(found["cohort/ages"]) == SCANS
    assert len(found["restricted/rejects"]) == BROKEN
    return found


def test_killed_workers_cost_nothing(
    archive: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """SIGKILL to a process that decodes, then to the one with the model, mid-run."""
    done = _night(archive, "workers", "decoder", "actor")
    assert done.returncode == 0, done.stderr
    for fault in ("decoder", "actor"):
        assert f"FAULT killed {fault}" in done.stderr
    assert rows.content(str(archive / "workers")) == undisturbed


def test_a_killed_driver_goes_on_with_the_same_command(
    archive: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """Finished parts are not done again, and nothing is doubled."""
    place = str(archive / "driver")
    assert _night(archive, "driver", "driver").returncode == -9
    [run] = runs.unfinished(place)
    done = run.staged()
    assert 5 <= len(done) < len(run.parts())
    assert delta.read(place, "cohort/ages").num_rows == 0
    again = _night(archive, "driver")
    assert again.returncode == 0, again.stderr
    assert f"run {run.run_id}" in again.stdout
    assert rows.content(place) == undisturbed


@pytest.mark.cluster
def test_a_lost_node_costs_nothing(
    archive: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """One of three is removed in the middle of the run."""
    done = _night(archive, "node", "node")
    assert done.returncode == 0, done.stderr
    assert "FAULT removed a node" in done.stderr
    assert rows.content(str(archive / "node")) == undisturbed


def test_of_two_nights_at_once_one_runs_and_the_other_says_so(
    archive: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """Exit code 1 with a sentence for the second, nothing doubled."""
    first = _start(archive, "two")
    lock = archive / "two" / "restricted" / "lease" / "000001.json"
    while not lock.exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = _night(archive, "two")
    assert second.returncode == 1
    assert "holds these tables" in second.stderr
    _, errors = first.communicate(timeout=400)
    assert first.returncode == 0, errors
    assert rows.content(str(archive / "two")) == undisturbed


def test_a_full_disk_under_staging_is_said_and_the_same_command_goes_on(
    archive: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """A small file system as tables folder; more room, then the same command."""
    place = archive / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        failed = _night(archive, "full")
        assert failed.returncode in (1, 2)
        assert "disk is full" in failed.stderr
        more = ["mount", "-o", "remount,size=64m", str(place)]
        subprocess.run(more, check=True)
        again = _night(archive, "full")
        assert again.returncode == 0, again.stderr
        assert rows.content(str(place)) == undisturbed
    finally:
        subprocess.run(["umount", str(place)], check=False)


def _start(archive: Path, tables_name: str, *faults: str) -> subprocess.Popen[str]:
    flags = ["--archive", str(archive / "archive"), "--tables", str(archive / tables_name)]
    command = [sys.executable, "-m", "tests.fakes.faulty_night", *faults, "--", *flags]
    command += ["--model", str(archive / "model")]
    environment = os.environ | {"BAE_PSEUDONYM_KEY": "00" * 32, "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )


def _night(archive: Path, tables_name: str, *faults: str) -> subprocess.CompletedProcess[str]:
    process = _start(archive, tables_name, *faults)
    try:
        out, errors = process.communicate(timeout=400)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

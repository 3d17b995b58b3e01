"""Every job through ``ray job submit``, on a real head and worker with a token."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bae import storage
from bae.pipeline import monitoring
from bae.tables import delta, runs
from tests.fakes import ray_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]

SCANS = 24
TINY = [
    "--recipe",
    "small",
    "--set",
    "localizer.width=48",
    "--set",
    "localizer.height=96",
    "--set",
    "regressor.width=48",
    "--set",
    "regressor.height=64",
    "--set",
    "fit_localizer.epochs=1",
    "--set",
    "fit_regressor.epochs=1",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_cluster.Cluster]:
    """A head and a worker of one CPU each: the least with which training can work."""
    with ray_cluster.cluster(BAE_PSEUDONYM_KEY="00" * 32) as found:
        found.add(1)
        found.add(1)
        yield found


@pytest.fixture(scope="module")
def places(cluster: ray_cluster.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive, scans table and model, each made by a submitted job."""
    folder = tmp_path_factory.mktemp("submitted")
    archive, made = ["--archive", str(folder / "archive")], ["--tables", str(folder / "tables")]
    model = ["--model", str(folder / "model")]
    _ends_well(cluster, "jobs.phantom", *archive, "--scans", str(SCANS))
    storage.write_bytes(f"{folder}/archive/broken.dcm", b"no scan")
    _ends_well(cluster, "jobs.index", *archive, *made)
    _ends_well(cluster, "jobs.train_localizer", *made, *model, *TINY)
    _ends_well(cluster, "jobs.train_regressor", *made, *model, *TINY)
    return folder


def _ends_well(cluster: ray_cluster.Cluster, *words: str) -> None:
    done = cluster.submit("-m", *words)
    assert done.returncode == 0, done.stdout


def _flags(places: Path) -> list[str]:
    names = ("archive", "tables", "model")
    return [word for name in names for word in (f"--{name}", str(places / name))]


def test_without_the_token_nothing_is_taken(cluster: ray_cluster.Cluster) -> None:
    """The head's own answer to a stranger."""
    stranger = {"RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "0" * 64}
    done = cluster.submit("-c", "print('in')", environment=stranger)
    assert done.returncode != 0
    assert "in\n" not in done.stdout
    assert "authentication" in (done.stdout + done.stderr).lower()


def test_a_gpu_that_is_not_there_is_one_clear_error(
    cluster: ray_cluster.Cluster, places: Path
) -> None:
    """No hang; a non-zero exit; the reason is the last line."""
    done = cluster.submit("-m", "jobs.predict", *_flags(places), "--gpus", "1")
    assert done.returncode != 0
    reason = "error: 1 GPU asked for, the cluster can give 0; use --gpus 0"
    assert done.stdout.strip().splitlines()[-1].startswith(reason)
    assert not runs.unfinished(str(places / "tables"))


def test_a_stopped_night_goes_on_and_its_id_is_a_lock(
    cluster: ray_cluster.Cluster, places: Path
) -> None:
    """``ray job stop`` releases the tables; the next night finishes the run; ids are used once."""
    made = str(places / "tables")
    first = cluster.start(
        "-m", "jobs.predict", *_flags(places), flags=("--submission-id", "night-1")
    )
    ray_cluster.wait_for(lambda: runs.unfinished(made))
    assert cluster.job("stop", "night-1").returncode == 0
    out, _ = first.communicate(timeout=600)
    assert "Job 'night-1' was stopped" in out
    assert "interrupted: the same command goes on where this one stopped" in out
    lease = max((places / "tables" / "restricted" / "lease").iterdir())
    assert json.loads(lease.read_text())["released"]
    [begun] = runs.unfinished(made)
    assert delta.read(made, "cohort/ages").num_rows == 0

    second = cluster.start(
        "-m", "jobs.predict", *_flags(places), flags=("--submission-id", "night-2")
    )
    seen: set[str] = set()
    while second.poll() is None:
        seen |= set(re.findall(r"^ray_bae_\w+", cluster.metrics(), re.MULTILINE))
        time.sleep(0.3)
    out, errors = second.communicate()
    assert second.returncode == 0, out + errors
    ages = delta.read(made, "cohort/ages")
    assert ages.num_rows == SCANS
    assert set(ages["run_id"].to_pylist()) == {begun.run_id}
    assert delta.read(made, "cohort/boxes").num_rows >= SCANS
    assert set(delta.read(made, "restricted/rejects")["code"].to_pylist()) == {"format_unknown"}

    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"time"')]
    published = next(line for line in lines if line["message"] == "published")
    assert published["run_id"] == begun.run_id
    assert published["job"] == "predict"
    assert published["scans"] == SCANS

    ours = {f"ray_{name}_total" for name in monitoring.COUNTERS} | {f"ray_{monitoring.PARTS_LEFT}"}
    assert seen >= ours, "what the dashboard and the alerts read is exported"

    again = cluster.submit(
        "-m", "jobs.predict", *_flags(places), flags=("--submission-id", "night-2")
    )
    assert again.returncode != 0
    assert "night-2 already exists" in again.stderr


def test_a_gpu_that_is_there_is_used(cluster: ray_cluster.Cluster, places: Path) -> None:
    """Without a flag the model goes to it; this one is only said to be there."""
    cluster.add(1, "--num-gpus", "1")
    flags = [*_flags(places), "--tables", str(places / "on-a-gpu")]
    done = cluster.submit("-m", "jobs.predict", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    begun = next(line for line in done.stdout.splitlines() if "objects to read" in line)
    assert json.loads(begun)["gpus"] == 1.0
    assert delta.read(str(places / "on-a-gpu"), "cohort/ages").num_rows == SCANS

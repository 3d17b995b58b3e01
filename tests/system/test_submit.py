"""Jobs through ``ray job submit``, on a real head and worker with a token."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bae import phantom, storage
from bae.phantom import write
from bae.pipeline.cluster import monitoring
from bae.tables import delta, runs
from tests.fakes import ray_cluster, tiny

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]

SCANS = 24


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_cluster.Cluster]:
    """A head and a worker of one CPU each: the least with which training can work."""
    with ray_cluster.cluster(BAE_PSEUDONYM_KEY="00" * 32) as found:
        found.add(1)
        found.add(1)
        yield found


@pytest.fixture(scope="module")
def places(cluster: ray_cluster.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, and its scans table and a model, each made by a submitted job."""
    folder = tmp_path_factory.mktemp("submitted")
    config = phantom.PhantomConfig(columns=128, rows=512)
    write.write_piece(f"{folder}/archive", 0, SCANS, 0, config)
    storage.write_bytes(f"{folder}/archive/broken.dcm", b"no scan")
    archive, made = ["--archive", str(folder / "archive")], ["--tables", str(folder / "tables")]
    training = [*made, "--model", str(folder / "model"), *tiny.FLAGS]
    for name, flags in (
        ("index", [*archive, *made]),
        ("train_localizer", training),
        ("train_regressor", training),
    ):
        done = cluster.submit("-m", f"jobs.{name}", *flags)
        assert done.returncode == 0, done.stdout
    return folder


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


@dataclass
class Nights:
    """What came of three nights; before the second a worker with a GPU joined.

    Attributes:
        begun: the run that the first night began.
        stopped: output of the first night, which ``ray job stop`` ended.
        released: whether the first night gave the tables back.
        scored: how many ages it had published.
        second: the night that followed, under an id of its own.
        metrics: our metrics that the cluster exported meanwhile.
        again: a night under the second one's id.
    """

    begun: runs.Run
    stopped: str
    released: bool
    scored: int
    second: subprocess.CompletedProcess[str]
    metrics: set[str]
    again: subprocess.CompletedProcess[str]

    def said(self, words: str) -> dict[str, object]:
        """Return the second night's line of JSON whose message ends with some words."""
        lines = (line for line in self.second.stdout.splitlines() if line.startswith('{"time"'))
        found = (json.loads(line) for line in lines)
        return next(line for line in found if line["message"].endswith(words))


@pytest.fixture(scope="module")
def nights(cluster: ray_cluster.Cluster, places: Path) -> Nights:
    """All three."""
    made = str(places / "tables")

    def start(name: str) -> subprocess.Popen[str]:
        flags = ("--submission-id", name)
        return cluster.start("-m", "jobs.predict", *_flags(places), flags=flags)

    first = start("night-1")
    ray_cluster.wait_for(lambda: runs.unfinished(made))
    assert cluster.job("stop", "night-1").returncode == 0
    stopped, _ = first.communicate(timeout=600)
    lease = max((places / "tables" / "restricted" / "lease").iterdir())
    released = json.loads(lease.read_text())["released"]
    [begun] = runs.unfinished(made)
    scored = delta.read(made, "cohort/ages").num_rows

    cluster.add(1, "--num-gpus", "1")
    second = start("night-2")
    seen: set[str] = set()
    while second.poll() is None:
        seen |= set(re.findall(r"^ray_bae_\w+", cluster.metrics(), re.MULTILINE))
        time.sleep(0.3)
    ended = subprocess.CompletedProcess(second.args, second.returncode, *second.communicate())
    third = start("night-2")
    again = subprocess.CompletedProcess(third.args, third.wait(), *third.communicate())
    return Nights(begun, stopped, released, scored, ended, seen, again)


def test_a_stopped_night_releases_the_tables(nights: Nights) -> None:
    """``ray job stop``; nothing is published."""
    assert "Job 'night-1' was stopped" in nights.stopped
    assert "interrupted: the same command goes on where this one stopped" in nights.stopped
    assert nights.released
    assert nights.scored == 0


def test_the_next_night_finishes_the_run(nights: Nights, places: Path) -> None:
    """Under its run id; every object is scored or refused."""
    assert nights.second.returncode == 0, nights.second.stdout + nights.second.stderr
    made = str(places / "tables")
    ages = delta.read(made, "cohort/ages")
    assert ages.num_rows == SCANS
    assert set(ages["run_id"].to_pylist()) == {nights.begun.run_id}
    assert delta.read(made, "cohort/boxes").num_rows >= SCANS
    assert set(delta.read(made, "restricted/rejects")["code"].to_pylist()) == {"format_unknown"}
    published = nights.said("published")
    assert published["run_id"] == nights.begun.run_id
    assert published["job"] == "predict"
    assert published["scans"] == SCANS


def test_what_the_dashboard_and_the_alerts_read_is_exported(nights: Nights) -> None:
    """Every metric of ours, while a night runs."""
    ours = {f"ray_{name}_total" for name in monitoring.COUNTERS} | {f"ray_{monitoring.PARTS_LEFT}"}
    assert nights.metrics >= ours


def test_a_submission_id_is_taken_once(nights: Nights) -> None:
    """It is a lock for the night."""
    assert nights.again.returncode != 0
    assert "night-2 already exists" in nights.again.stderr


def test_a_gpu_that_is_there_is_used(nights: Nights) -> None:
    """Without a flag the model goes to it; this one is only said to be there."""
    assert nights.said("objects to read")["gpus"] == 1.0

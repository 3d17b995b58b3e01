"""Training through Ray Train."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import chaos
from tests.fakes import fault_proxy, ray_cluster, s3_server, train_once

ROOT = Path(__file__).parents[2]


def _process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fakes.train_once", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)  # three processes, each with a Ray of its own
def test_ended_training_goes_on_and_comes_to_the_same_as_an_undisturbed_one(
    tmp_path: Path, local_ray: None
) -> None:
    """Ctrl-C in the first epoch, SIGKILL after the second: the same losses to 1e-6."""
    undisturbed = [m["train_loss"] for m in train_once.train(tmp_path / "whole")]
    stopped = _process(tmp_path / "broken", "--end-at-epoch", "1", "--signal", "SIGINT")
    assert stopped.returncode == -signal.SIGINT
    assert stopped.stderr.splitlines()[-1] == "KeyboardInterrupt"  # not swallowed by Ray Train
    killed = _process(tmp_path / "broken", "--end-at-epoch", "2")
    assert killed.returncode == -signal.SIGKILL
    again = _process(tmp_path / "broken")
    assert again.returncode == 0, again.stderr
    losses = json.loads(again.stdout.splitlines()[-1])
    assert len(losses) == 4
    np.testing.assert_allclose(losses, undisturbed, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.ray
def test_training_learns_and_keeps_its_best_epoch(tmp_path: Path, local_ray: None) -> None:
    """The returned network belongs to the epoch with the best score."""
    from bae.training import loop

    seen: list[float] = []
    data = {split: train_once.dataset(split) for split in train_once.ROWS}
    network, history = loop.train(
        train_once.assignment(tmp_path), data, lambda metrics: seen.append(metrics["epoch"])
    )
    assert seen == [1, 2, 3, 4]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    best = min(m["score"] for m in history)
    import torch

    table = data["validation"].to_pandas()
    pictures = np.stack([np.frombuffer(b, np.uint8).reshape(1, 32, 32) for b in table["image"]])
    network.eval()
    with torch.inference_mode():
        ages = network(
            torch.tensor(pictures).float() / 255, torch.tensor(table["male"].to_numpy().copy())
        )
    mae = np.abs(ages.numpy() - table["age_years"].to_numpy()).mean()
    assert mae == pytest.approx(best, abs=1e-3)


@pytest.mark.slow
@pytest.mark.ray
def test_training_that_fails_gives_one_sentence(tmp_path: Path, local_ray: None) -> None:
    """A NaN age stops with the batch's scan ids; the error is ours and has one line."""
    import pyarrow as pa
    import ray.data

    from bae.errors import RunError
    from bae.training import loop, samples

    rows = train_once.dataset("train").take_all()
    rows[7]["age_years"] = float("nan")
    bad = ray.data.from_arrow(pa.Table.from_pylist(rows, schema=samples.SCHEMA))
    with pytest.raises(RunError, match="train7") as caught:
        loop.train(
            # were it tried again, this test would not end
            train_once.assignment(tmp_path, max_failures=1000),
            {"train": bad, "validation": train_once.dataset("validation")},
        )
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_give_the_same_model_as_one(tmp_path: Path, local_ray: None) -> None:
    """Steps over all pictures, no randomness, no batch norm: only the order of sums differs.

    Any other training shuffles differently for two workers and agrees in distribution
    only.
    """
    one, two = (
        train_once.train(tmp_path / str(i), workers=workers, settings=train_once.FULL_BATCH)
        for i, workers in enumerate((1, 2))
    )
    assert [m["train_views"] for m in two] == [m["train_views"] / 2 for m in one]
    assert [m["mae_years"] for m in two] == pytest.approx([m["mae_years"] for m in one], abs=1e-3)
    assert abs(one[0]["mae_years"] - one[-1]["mae_years"]) > 0.01  # it did learn something


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_store_is_one_error_and_the_last_checkpoint_stays_whole(
    tmp_path: Path, local_ray: None
) -> None:
    """Room for two checkpoints, then more room and the same call: it goes on, not anew."""
    from bae.errors import RunError

    mount = ["mount", "-t", "tmpfs", "-o", "size=180m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(RunError, match="No space left") as caught:
            train_once.train(tmp_path)
        assert len(str(caught.value).splitlines()) == 1
        assert "last checkpoint is whole" in str(caught.value)
        subprocess.run(["mount", "-o", "remount,size=1g", str(tmp_path)], check=True)
        seen: list[float] = []
        history = train_once.train(tmp_path, on_epoch=lambda m: seen.append(m["epoch"]))
        assert len(history) == 4
        assert seen[0] > 1  # the first epoch's checkpoint was there
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=False)


@pytest.mark.slow
@pytest.mark.ray
def test_a_lost_worker_is_replaced(tmp_path: Path, local_ray: None) -> None:
    """SIGKILL to the training worker after the first epoch: all four epochs are there."""
    killed: list[int] = []

    def kill_once(metrics: dict[str, float]) -> None:
        if not killed:
            for process in ray_cluster.workers_below(os.getpid(), "RayTrainWorker"):
                killed.append(process.pid)
                process.kill()

    history = train_once.train(tmp_path, on_epoch=kill_once)
    assert killed
    assert [m["epoch"] for m in history] == [1, 2, 3, 4]


@pytest.mark.ray
@pytest.mark.slow
def test_elastic_training_takes_what_the_cluster_has_and_says_so(
    tmp_path: Path, local_ray: None
) -> None:
    """One to four workers where fewer than five CPUs are: one CPU stays with Ray Data."""
    from bae.pipeline import resources

    fits = min(4, resources.cpus() - 1)
    settings = [*train_once.SETTINGS, "fit_regressor.epochs=1"]
    history = train_once.train(tmp_path, workers=(1, 4), settings=settings)
    assert [m["workers"] for m in history] == [fits]


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_store_that_stays_away_is_one_error_and_training_goes_on_when_it_is_back(
    s3: s3_server.Server, proxy: fault_proxy.Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer from S3 after the first checkpoint: exit, one sentence, checkpoint whole."""
    place = "s3://tables/away"
    command = [sys.executable, "-m", "tests.fakes.train_once", place, "--epochs", "6"]
    environment = os.environ | s3_server.environment(proxy.endpoint)
    process = subprocess.Popen(
        [*command, "--max-failures", "0"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for name, value in s3.environment().items():  # we look past the proxy
        monkeypatch.setenv(name, value)
    while not chaos.epochs_stored(place):
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    proxy.outage(3600)
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert "the last checkpoint is whole, the same command goes on from it" in last
    before = chaos.epochs_stored(place)
    assert 1 <= before < 6
    again = subprocess.run(
        command, cwd=ROOT, env=os.environ | s3.environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert len(json.loads(again.stdout.splitlines()[-1])) == 6

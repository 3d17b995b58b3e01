"""Training through Ray Train."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests import chaos
from tests.fakes import fault_proxy, ray_cluster, s3_server, train_once

ROOT = Path(__file__).parents[2]


def _process(folder: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fakes.train_once", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@dataclass
class Trained:
    """A training that nothing happened to.

    Attributes:
        network: what it returned.
        history: and the metrics of its epochs.
        seen: epochs in the order in which the caller was told of them.
        validation: the rows that it was scored on.
    """

    network: nn.Module
    history: list[dict[str, float]]
    seen: list[float]
    validation: pd.DataFrame


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Trained:
    """The training that all others are compared with."""
    from bae.training import loop

    seen: list[float] = []
    data = {split: train_once.dataset(split) for split in train_once.ROWS}
    assigned = train_once.assignment(tmp_path_factory.mktemp("whole"))
    network, history = loop.train(assigned, data, lambda m: seen.append(m["epoch"]))
    return Trained(network, history, seen, data["validation"].to_pandas())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)  # two processes, each with a Ray of its own
def test_ended_training_goes_on_and_comes_to_the_same_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Trained
) -> None:
    """Ctrl-C and SIGKILL to the job, SIGKILL to its worker: the same losses to 1e-6."""
    stopped = _process(tmp_path, "--end-at-epoch", "1", "--signal", "SIGINT")
    assert stopped.returncode == -signal.SIGINT
    assert stopped.stderr.splitlines()[-1] == "KeyboardInterrupt"  # not swallowed by Ray Train
    killed = _process(tmp_path, "--end-at-epoch", "2")
    assert killed.returncode == -signal.SIGKILL

    seen: list[float] = []
    lost: list[int] = []

    def kill_the_worker_once(metrics: dict[str, float]) -> None:
        seen.append(metrics["epoch"])
        if not lost:
            for process in ray_cluster.workers_below(os.getpid(), "RayTrainWorker"):
                lost.append(process.pid)
                process.kill()

    history = train_once.train(tmp_path, on_epoch=kill_the_worker_once)
    assert lost
    assert seen[0] > 1, "it went on"
    assert [m["epoch"] for m in history] == [1, 2, 3, 4]
    losses, expected = ([m["train_loss"] for m in h] for h in (history, undisturbed.history))
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-6)


def _orders(config: dict[str, str]) -> None:
    """Run on a training worker: write an epoch's rows, with batches made at once and haltingly."""
    import ray.train
    from ray.data._internal.block_batching import util

    made = util.format_batches
    waits = np.random.default_rng(0)

    def haltingly(*args: object, **named: object) -> Iterator[object]:
        for batch in made(*args, **named):  # type: ignore[arg-type]
            time.sleep(waits.uniform(0, 0.2))
            yield batch

    found = {}
    for name, making in (("at once", made), ("haltingly", haltingly)):
        with mock.patch.object(util, "format_batches", making):
            rows = ray.train.get_dataset_shard("train").iter_batches(
                batch_size=4, local_shuffle_buffer_size=64, local_shuffle_seed=1, prefetch_batches=4
            )
            found[name] = [scan_id for batch in rows for scan_id in batch["scan_id"]]
    Path(config["out"]).write_text(json.dumps(found))


@pytest.mark.slow
@pytest.mark.ray
def test_rows_come_in_one_order_however_busy_the_machine_is(
    tmp_path: Path, local_ray: None
) -> None:
    """Ray Data's threads finish batches in any order; they are handed over in one."""
    import ray.train.torch

    from bae.training import loop

    out = tmp_path / "orders.json"
    ray.train.torch.TorchTrainer(
        _orders,
        train_loop_config={"out": str(out)},
        datasets={"train": train_once.dataset("train")},
        dataset_config=loop.in_order(),
    ).fit()
    found = json.loads(out.read_text())
    assert len(set(found["at once"])) == 48
    assert found["at once"] == found["haltingly"]


@pytest.mark.slow
@pytest.mark.ray
def test_training_learns_and_keeps_its_best_epoch(undisturbed: Trained) -> None:
    """The returned network belongs to the epoch with the best score."""
    assert undisturbed.seen == [1, 2, 3, 4]
    history, table, network = undisturbed.history, undisturbed.validation, undisturbed.network
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    best = min(m["score"] for m in history)
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


@dataclass
class InStep:
    """Two trainings whose steps go over all pictures, without randomness and batch norm.

    Attributes:
        elastic: history of one to four workers, as many as there is room for.
        fixed: and of one worker, or of two where the elastic training was one.
    """

    elastic: list[dict[str, float]]
    fixed: list[dict[str, float]]


@pytest.fixture(scope="module")
def in_step(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> InStep:
    """Both trainings."""

    def history(workers: int | tuple[int, int]) -> list[dict[str, float]]:
        folder = tmp_path_factory.mktemp("in-step")
        settings = train_once.FULL_BATCH
        return train_once.train(folder, workers=workers, settings=settings, batch_norm=False)

    elastic = history((1, 4))
    return InStep(elastic, history(2 if elastic[0]["workers"] == 1 else 1))


@pytest.mark.ray
@pytest.mark.slow
def test_several_workers_give_the_same_model_as_one(in_step: InStep) -> None:
    """Only the order of sums differs.

    Any other training shuffles differently for two workers and agrees in distribution
    only.
    """
    one, several = sorted((in_step.elastic, in_step.fixed), key=lambda h: h[0]["workers"])
    count = several[0]["workers"]
    assert one[0]["workers"] == 1 < count
    assert [m["train_views"] for m in several] == [m["train_views"] / count for m in one]
    assert [m["mae_years"] for m in several] == pytest.approx(
        [m["mae_years"] for m in one], abs=1e-3
    )
    assert abs(one[0]["mae_years"] - one[-1]["mae_years"]) > 0.01  # it did learn something


@pytest.mark.ray
@pytest.mark.slow
def test_elastic_training_takes_what_the_cluster_has_and_says_so(in_step: InStep) -> None:
    """One to four workers where fewer than five CPUs are: one CPU stays with Ray Data."""
    from bae.pipeline.cluster import resources

    fits = min(4, resources.cpus() - 1)
    assert {m["workers"] for m in in_step.elastic} == {fits}


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_store_is_one_error_and_the_last_checkpoint_stays_whole(
    tmp_path: Path, local_ray: None
) -> None:
    """Room for two checkpoints, then more room and the same call: it goes on, not anew."""
    from bae.errors import RunError

    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(RunError, match="No space left") as caught:
            train_once.train(tmp_path, max_failures=0)
        assert len(str(caught.value).splitlines()) == 1
        assert "last checkpoint is whole" in str(caught.value)
        subprocess.run(["mount", "-o", "remount,size=1g", str(tmp_path)], check=True)
        seen: list[float] = []
        history = train_once.train(tmp_path, on_epoch=lambda m: seen.append(m["epoch"]))
        assert len(history) == 4
        assert seen[0] > 1  # the first epoch's checkpoint was there
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=False)


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
        [*command, "--max-failures", "0"],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
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
    again = _process(place, "--epochs", "6")
    assert again.returncode == 0, again.stderr
    assert len(json.loads(again.stdout.splitlines()[-1])) == 6


def test_every_member_of_several_regions_starts_from_imagenet() -> None:
    """Each has a trunk of its own, all with the same weights; what follows them is random."""
    from bae import recipes
    from bae.method.trunks import weights
    from bae.training import loop, tasks

    words = ["regressor.trunk=efficientnet_lite0", "regressor.weights=imagenet"]
    recipe = recipes.recipe("small_regions", words)
    state = weights.imagenet(recipe.regressor.trunk, recipe.regressor.weights)
    assert state is not None
    task = tasks.regions(recipe)
    assigned = loop.Assignment(task=task, rows=1, checkpoints_uri="", run_name="", imagenet=state)
    first, *others = loop._network(assigned, "cpu").members
    assert len(others) == 2
    for name, value in first.trunk.body.state_dict().items():
        assert torch.equal(value, state[name])
        assert all(torch.equal(value, one.trunk.body.state_dict()[name]) for one in others)
    assert not any(torch.equal(first.mixed[0].weight, one.mixed[0].weight) for one in others)


def test_every_reader_of_regions_of_the_body_starts_from_the_cohort() -> None:
    """An answer of its own lies near the mean age from the first step."""
    from bae import recipes
    from bae.training import loop, tasks

    task = tasks.regressor(recipes.recipe("small_caffenet_regions"))
    ages = (50.0, 5.0)
    network = loop._network(
        loop.Assignment(task=task, rows=1, checkpoints_uri="", run_name="", ages=ages), "cpu"
    )
    readers = [network, *network.readers]
    assert [(float(r.mean_years), float(r.spread_years)) for r in readers] == [ages] * 4
    assert not torch.equal(*(r.head[0].weight for r in readers[1:3]))

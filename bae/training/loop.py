"""Ray Train round ``bae.training.fit``: workers, data shards, checkpoints, resuming.

Ray Train 2.60's version 2: there is no ``restore``; the same run name and storage
path bring back the last checkpoint (``train.get_checkpoint`` inside the worker).
"""

import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
import ray.data
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Empty, Queue
from torch import nn

from bae import storage
from bae.errors import RunError
from bae.method import hardware, networks
from bae.method.regional.attention import Attention
from bae.method.trunks import Trunk, weights
from bae.pipeline.cluster import resources, session
from bae.training import fit, samples
from bae.training.tasks import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """What to train, from what, where; it travels to every worker.

    Attributes:
        rows: training samples.
        checkpoints_uri: where checkpoints go; the same URI and name resume a broken run.
        run_name: names the run; must change when recipe or data do.
        workers: training processes; the least and the most make it elastic.
        use_gpu: one GPU for each worker.
        max_failures: how often lost workers are replaced before training fails.
        imagenet: what the trunk starts from, see ``bae.method.trunks.weights``; None: random.
        ages: mean and standard deviation of the training ages in years.
    """

    task: Task
    rows: int
    checkpoints_uri: str
    run_name: str
    workers: int | tuple[int, int] = 1
    use_gpu: bool = False
    max_failures: int = 3
    imagenet: dict[str, torch.Tensor] | None = None
    ages: tuple[float, float] = (60.0, 10.0)


def train(
    assignment: Assignment,
    datasets: Mapping[str, ray.data.Dataset],
    on_epoch: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train one network and return its best epoch.

    Args:
        datasets: ``train`` and ``validation``; columns of ``bae.training.samples.SCHEMA``.

    Returns:
        The network with the best epoch's weights, and the history of metrics.

    Raises:
        RunError: training failed; the last checkpoint is whole and the same call resumes.
    """
    task = assignment.task
    queue, ruined = Queue(), Queue()
    done = threading.Event()
    listener = threading.Thread(target=_relay, args=(queue, done, on_epoch), daemon=True)
    listener.start()
    filesystem, path = storage.pyarrow_filesystem(assignment.checkpoints_uri)
    workers, cpus_each = resources.fitted_workers(assignment.workers)
    trainer = ray.train.torch.TorchTrainer(
        partial(_work, ray.put(assignment), queue, ruined),
        datasets=dict(datasets),
        dataset_config=in_order(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=assignment.use_gpu,
            resources_per_worker={"CPU": cpus_each, **({"GPU": 1} if assignment.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=assignment.run_name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=1,  # the best; the latest is kept beside it for resuming
                checkpoint_score_attribute="score",
                checkpoint_score_order="min",
            ),
            failure_config=ray.train.FailureConfig(max_failures=assignment.max_failures),
        ),
    )
    try:
        # Ray's own handler of Ctrl-C would end the process with no word and exit code 1, and
        # stay in place when the training is done; in a thread it is not installed
        result = session.in_thread(trainer.fit)
        if not ruined.empty():
            raise RunError(ruined.get())
    except ray.train.TrainingFailedError as error:
        raise RunError(
            f"training the {task.name} failed: {session.root_cause(error)}; the last checkpoint "
            "is whole, the same command goes on from it"
        ) from error
    finally:
        done.set()
        listener.join()
        queue.shutdown()
        ruined.shutdown()
    if not result.best_checkpoints:
        raise RunError(f"training the {task.name} ended without a checkpoint")
    best, _ = min(result.best_checkpoints, key=lambda pair: pair[1]["score"])
    training = fit.Training.start(task.build(), task.fit)
    with best.as_directory() as folder:
        training.load(Path(folder))
    with result.checkpoint.as_directory() as folder:
        history = json.loads((Path(folder) / "progress.json").read_text())["history"]
    return training.answering, history


def in_order() -> ray.train.DataConfig:
    """Share the training rows out, and hand batches over in one order.

    Without ``preserve_order`` Ray Data hands over whichever of the prefetched batches its
    threads have ready first, so that a run's losses depend on how busy the machine is.
    """
    options = ray.train.DataConfig.default_ingest_options()
    options.preserve_order = True
    return ray.train.DataConfig(datasets_to_split=["train"], execution_options=options)


def _relay(
    queue: Queue, done: threading.Event, on_epoch: Callable[[dict[str, float]], None]
) -> None:
    while True:
        try:
            on_epoch(queue.get(timeout=0.5))
        except Empty:
            if done.is_set():
                return


def _work(assigned: ray.ObjectRef, queue: Queue, ruined: Queue) -> None:
    """Run on every training worker: resume if there is a checkpoint, then epoch by epoch.

    Ray Train replaces a worker that raises. A loss that is not finite would come again,
    so its message goes to the queue ``ruined`` and the replacements end at once.
    """
    if not ruined.empty():
        return
    assignment: Assignment = ray.get(assigned)
    task, how = assignment.task, assignment.task.fit
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu" and world == 1:
        # a bag's pictures are small: two threads of one layer would wait for each other, by ten
        # times on a busy machine
        hardware.use_cores(1 if task.bag else hardware.cores())

    network = _network(assignment, str(device))
    training = fit.Training.start(network, how)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            training.load(Path(folder))
    wrapped = ray.train.torch.prepare_model(network, move_to_device=False) if world > 1 else network

    share = max(1, how.batch_size // world)
    steps = math.ceil(assignment.rows / world / share)
    train_shard = ray.train.get_dataset_shard("train")
    validation_shard = ray.train.get_dataset_shard("validation")
    while training.progress.epoch < how.epochs and training.progress.stale_epochs < how.patience:
        start = time.monotonic()
        epoch = training.progress.epoch
        rows = train_shard.iter_batches(
            batch_size=share,
            batch_format="pyarrow",
            local_shuffle_buffer_size=max(64, 16 * share),
            local_shuffle_seed=how.seed + epoch,
            prefetch_batches=4,
        )
        batches = samples.batches(rows, task, device)
        try:
            metrics = fit.train_epoch(training, wrapped, batches, steps, task, rank)
        except RunError as error:
            ruined.put(str(error))
            raise
        metrics["train_seconds"] = time.monotonic() - start
        rows = validation_shard.iter_batches(batch_size=2 * share, batch_format="pyarrow")
        metrics |= fit.evaluate(training.answering, samples.batches(rows, task, device), task)
        metrics |= {"epoch": epoch + 1.0, "epochs": float(how.epochs), "workers": float(world)}
        if how.keep == "last":
            metrics["score"] = -metrics["epoch"]
        metrics["seconds"] = time.monotonic() - start
        if device.type == "cuda":
            metrics["gpu_memory_bytes"] = float(torch.cuda.max_memory_allocated(device))
        training.progress.note(metrics)
        if rank == 0:
            queue.put(metrics)
            with tempfile.TemporaryDirectory() as folder:
                training.save(Path(folder))
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        else:
            ray.train.report(metrics)


def _network(assignment: Assignment, device: str) -> nn.Module:
    """Build the network to start from, on the device."""
    task = assignment.task
    torch.manual_seed(task.fit.seed)
    network = task.build()
    if assignment.imagenet is not None:
        for trunk in network.modules():
            if isinstance(trunk, Trunk):
                weights.fill(trunk, task.section.trunk, assignment.imagenet)
    for regressor in network.modules():  # one may be made of several
        if isinstance(regressor, networks.Regressor | Attention):
            regressor.mean_years.fill_(assignment.ages[0])
            regressor.spread_years.fill_(assignment.ages[1])
    return hardware.onto(network, device)

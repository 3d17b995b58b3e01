"""Ray Train round ``bae.training.fit``: workers, data shards, checkpoints, resuming.

Ray Train 2.60's version 2: there is no ``restore``; the same run name and storage
path bring back the last checkpoint (``train.get_checkpoint`` inside the worker).
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Empty, Queue
from torch import nn

from bae import recipes, storage
from bae.errors import RunError
from bae.method import hardware, networks, weights
from bae.pipeline import resources, session
from bae.recipes import age_group
from bae.tables import query
from bae.training import fit, samples


def train(
    part: str,
    recipe: recipes.Recipe,
    datasets: dict[str, ray.data.Dataset],
    counts: dict[str, int],
    checkpoints_uri: str,
    run_name: str,
    *,
    workers: int | tuple[int, int] = 1,
    use_gpu: bool = False,
    max_failures: int = 3,
    imagenet: dict[str, torch.Tensor] | None = None,
    ages: tuple[float, float] = (60.0, 10.0),
    on_epoch: Callable[[dict[str, float]], None] = lambda metrics: None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train one network of a recipe and return its best epoch.

    Args:
        part: ``localizer`` or ``regressor``.
        recipe: what to build and how to train it.
        datasets: ``train`` and ``validation``; columns of ``bae.training.samples.SCHEMA``.
        counts: rows of both.
        checkpoints_uri: where checkpoints go; the same URI and name resume a broken run.
        run_name: names the run; must change when recipe or data do.
        workers: training processes; the least and the most make it elastic.
        use_gpu: one GPU for each worker.
        max_failures: how often lost workers are replaced before training fails.
        imagenet: what the trunk starts from, see ``bae.method.weights``; None: random.
        ages: mean and standard deviation of the training ages in years.
        on_epoch: called here with each epoch's metrics.

    Returns:
        The network with the best epoch's weights, and the history of metrics.

    Raises:
        RunError: training failed; the last checkpoint is whole and the same call resumes.
    """
    queue, ruined = Queue(), Queue()
    done = threading.Event()
    listener = threading.Thread(target=_relay, args=(queue, done, on_epoch), daemon=True)
    listener.start()
    filesystem, path = storage.pyarrow_filesystem(checkpoints_uri)
    workers, cpus_each = resources.fitted_workers(workers)
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={
            "part": part,
            "recipe": recipes.to_json(recipe),
            "rows": counts["train"],
            "imagenet": ray.put(imagenet),
            "ages": ages,
            "queue": queue,
            "ruined": ruined,
        },
        datasets=dict(datasets),
        dataset_config=ray.train.DataConfig(datasets_to_split=["train"]),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=use_gpu,
            resources_per_worker={
                "CPU": cpus_each,
                **({"GPU": 1} if use_gpu else {}),
            },
        ),
        run_config=ray.train.RunConfig(
            name=run_name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=1,  # the best; the latest is kept beside it for resuming
                checkpoint_score_attribute="score",
                checkpoint_score_order="min",
            ),
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
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
            f"training the {part} failed: {session.root_cause(error)}; the last checkpoint "
            "is whole, the same command goes on from it"
        ) from error
    finally:
        done.set()
        listener.join()
        queue.shutdown()
        ruined.shutdown()
    if not result.best_checkpoints:
        raise RunError(f"training the {part} ended without a checkpoint")
    best, _ = min(result.best_checkpoints, key=lambda pair: pair[1]["score"])
    network = _build(part, recipe)
    with best.as_directory() as folder:
        training = fit.Training.start(network, _fit_config(part, recipe))
        training.load(Path(folder))
    with result.checkpoint.as_directory() as folder:
        history = json.loads((Path(folder) / "progress.json").read_text())["history"]
    return training.answering, history


def _relay(
    queue: Queue, done: threading.Event, on_epoch: Callable[[dict[str, float]], None]
) -> None:
    while True:
        try:
            on_epoch(queue.get(timeout=0.5))
        except Empty:
            if done.is_set():
                return


def _build(part: str, recipe: recipes.Recipe) -> networks.Localizer | networks.Regressor:
    if part == "localizer":
        return networks.Localizer(recipe.localizer)
    return networks.Regressor(recipe.regressor)


def _fit_config(part: str, recipe: recipes.Recipe) -> recipes.Fit:
    if part == "localizer":
        return replace(recipe.fit_localizer, box_jitter=0.0)  # whole views have no box
    return recipe.fit_regressor


def _work(config: dict[str, Any]) -> None:
    """Run on every training worker: resume if there is a checkpoint, then epoch by epoch.

    Ray Train replaces a worker that raises. A loss that is not finite would come again,
    so its message goes to the queue ``ruined`` and the replacements end at once.
    """
    if not config["ruined"].empty():
        return
    part, recipe = config["part"], recipes.from_json(config["recipe"])
    how, task = _fit_config(part, recipe), fit.task(part, recipe)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu" and world == 1:
        hardware.use_every_core()

    torch.manual_seed(how.seed)
    network = _build(part, recipe)
    section = getattr(recipe, part)
    imagenet = ray.get(config["imagenet"])
    if imagenet is not None:
        weights.fill(network.trunk, section.trunk, imagenet)
    if isinstance(network, networks.Regressor):
        network.mean_years.fill_(config["ages"][0])
        network.spread_years.fill_(config["ages"][1])
    network = hardware.onto(network, str(device))
    training = fit.Training.start(network, how)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            training.load(Path(folder))
    wrapped = ray.train.torch.prepare_model(network, move_to_device=False) if world > 1 else network

    share = max(1, how.batch_size // world)
    steps = math.ceil(config["rows"] / world / share)
    size = (section.height, section.width)
    shape, edges = samples.shape(recipe, part), recipe.localizer.group_edges_years
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
        batches = _batches(rows, shape, edges, device)
        try:
            metrics = fit.train_epoch(training, wrapped, batches, steps, task, how, rank, size)
        except RunError as error:
            config["ruined"].put(str(error))
            raise
        metrics["train_seconds"] = time.monotonic() - start
        rows = validation_shard.iter_batches(batch_size=2 * share, batch_format="pyarrow")
        batches = (
            replace(batch, grey_N1HW=fit.without_margin(batch.grey_N1HW, size))
            for batch in _batches(rows, shape, edges, device)
        )
        metrics |= fit.evaluate(training.answering, batches, task, how.mixed)
        metrics |= {"epoch": epoch + 1.0, "epochs": float(how.epochs), "workers": float(world)}
        metrics["seconds"] = time.monotonic() - start
        if device.type == "cuda":
            metrics["gpu_memory_bytes"] = float(torch.cuda.max_memory_allocated(device))
        training.progress.note(metrics)
        if rank == 0:
            config["queue"].put(metrics)
            with tempfile.TemporaryDirectory() as folder:
                training.save(Path(folder))
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        else:
            ray.train.report(metrics)


def _batches(
    rows: Iterator[pa.Table],
    shape: tuple[int, int, int],
    edges: tuple[float, ...],
    device: torch.device,
) -> Iterator[fit.Batch]:
    """Turn Arrow rows into batches on the device."""
    for table in rows:
        pictures = table["image"].cast(pa.binary())  # Ray Data may make it large_binary
        pixels = np.concatenate([query.bytes_of(chunk) for chunk in pictures.chunks])
        grey_N1HW = torch.from_numpy(pixels.reshape(-1, *shape)).to(device).float() / 255
        # to_numpy: Ray Data may turn NaN (sex unknown) into null, this turns it back
        ages, males = (table[name].to_numpy() for name in ("age_years", "male"))
        # an age that is NaN has no group; it stops training at the loss, with its scan id
        groups = [age_group(age, edges) or 0 for age in ages]
        yield fit.Batch(
            grey_N1HW=grey_N1HW.contiguous(memory_format=torch.channels_last),
            male_N=torch.tensor(males, dtype=torch.float32, device=device),
            age_N=torch.tensor(ages, dtype=torch.float32, device=device),
            group_N=torch.tensor(groups, device=device),
            scan_ids=table["scan_id"].to_pylist(),
        )

"""Views per second of training against a bare loop: ``python -m tests.bench.training``.

The bare loop takes the same steps (loss, gradients, clipping, Adam, moving average) on one
batch that already lies on the device: no files, no Ray, no augmentation. Both run in turn,
``--rounds`` times; the medians and their ratio are printed. With a GPU, ``--recipe paper
--weights none`` measures the paper's networks there, and the memory they take.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import ray.data
import torch

from bae import recipes
from bae.method import hardware
from bae.pipeline.cluster import resources, session
from bae.training import fit, loop, samples, tasks


def _dataset(shape: tuple[int, int, int], views: int) -> ray.data.Dataset:
    """Random pictures in the form of a training cache, in the object store."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "scan_id": str(i),
            "view": "anterior",
            "male": float(i % 2),
            "age_years": 40 + i % 40,
            "image": rng.integers(0, 255, np.prod(shape), np.uint8).tobytes(),
        }
        for i in range(views)
    ]
    return ray.data.from_arrow(pa.Table.from_pylist(rows, schema=samples.SCHEMA)).materialize()


def _bare(task: tasks.Task, steps: int, device: str) -> float:
    """Return views per second of the bare loop, warm-up not counted."""
    network = hardware.onto(task.build(), device)
    training = fit.Training.start(network, task.fit)
    n = task.fit.batch_size
    grey = torch.rand(n, task.sample_shape[0], *task.size, device=device)
    batch = tasks.Batch(
        grey_N1HW=grey.contiguous(memory_format=torch.channels_last),
        male_N=torch.zeros(n, device=device),
        age_N=torch.full((n,), 60.0, device=device),
        group_N=torch.zeros(n, dtype=torch.int64, device=device),
        scan_ids=[""] * n,
    )
    still = replace(task, fit=replace(task.fit, mirror=0.0))
    augment, fit.augment = fit.augment, lambda grey, *_: grey
    try:
        fit.train_epoch(training, network, [batch] * 3, 3, still)
        start = time.monotonic()
        fit.train_epoch(training, network, [batch] * steps, steps, still)
        return steps * n / (time.monotonic() - start)
    finally:
        fit.augment = augment


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--views", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    recipe = recipes.recipe(options.recipe)
    with session.session():
        gpu = resources.gpus_for_training(1, None)
        device = "cuda" if gpu else "cpu"
        hardware.use_cores(hardware.cores())
        for made in (tasks.localizer, tasks.regressor):
            task = made(recipe)
            task = replace(task, fit=replace(task.fit, epochs=3, patience=9))
            rows = {"train": options.views, "validation": 2 * task.fit.batch_size}
            data = {split: _dataset(task.sample_shape, count) for split, count in rows.items()}
            bare, job, memory = [], [], 0.0
            for _ in range(options.rounds):
                steps = options.views // task.fit.batch_size
                bare.append(_bare(task, steps, device))
                with tempfile.TemporaryDirectory() as folder:
                    assignment = loop.Assignment(
                        task=task,
                        rows=options.views,
                        checkpoints_uri=folder,
                        run_name="bench",
                        use_gpu=bool(gpu),
                    )
                    _, history = loop.train(assignment, data)
                # the first epoch warms up
                job += [m["train_views"] / m["train_seconds"] for m in history[1:]]
                memory = max(m.get("gpu_memory_bytes", 0.0) for m in history)
            print(
                f"{options.recipe} {task.name}, {device}, bf16 {hardware.has_bf16(device)}: "
                f"bare {statistics.median(bare):.1f} ({min(bare):.1f}-{max(bare):.1f}) views/s, "
                f"job {statistics.median(job):.1f} ({min(job):.1f}-{max(job):.1f}), "
                f"job / bare {statistics.median(job) / statistics.median(bare):.2f}"
                + (f", {memory / 2**30:.1f} GiB of GPU memory" if memory else "")
            )


if __name__ == "__main__":
    main()

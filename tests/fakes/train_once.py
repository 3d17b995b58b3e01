"""Train a tiny regressor once: ``python -m tests.fakes.train_once PLACE``; prints its losses.

A process of its own, so that a test can kill it.
"""

import argparse
import json
import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data
from torch import nn

from bae import recipes
from bae.pipeline.cluster import session
from bae.training import loop, samples, tasks

ROWS = {"train": 48, "validation": 16}
TRUNK = "small_vgg16"
"""Its checkpoints are 4 MB, those of recipe ``small`` 79 MB."""
SMALL = "regressor.width=32 regressor.height=32 regressor.hidden_neurons=16"
SETTINGS = [
    f"regressor.trunk={TRUNK}",
    *SMALL.split(),
    *["fit_regressor.epochs=4", "fit_regressor.batch_size=16", "fit_regressor.box_jitter=0"],
    "fit_regressor.average_decay=0.8",
]
UNSTIRRED = ("average_decay", "mirror", "rotate_degrees", "scale", "shift", "intensity")
FULL_BATCH = [
    *SETTINGS,
    *["regressor.dropout=0", "fit_regressor.epochs=2", "fit_regressor.batch_size=48"],
    *(f"fit_regressor.{name}=0" for name in UNSTIRRED),
    *["fit_regressor.warmup_epochs=0", "fit_regressor.mixed=false"],
]
"""Each epoch is one step over all pictures, without random numbers and bf16."""


def dataset(split: str) -> ray.data.Dataset:
    """Pictures whose brightness is the age."""
    rng = np.random.default_rng(len(split))
    ages = rng.uniform(40, 80, ROWS[split])
    noise = rng.uniform(0, 2, (ROWS[split], 32 * 32))
    pictures = np.clip(ages[:, None] * noise, 0, 255).astype(np.uint8)
    rows = [
        {
            "scan_id": f"{split}{i}",
            "view": "anterior",
            "male": (0.0, 1.0, math.nan)[i % 3],
            "age_years": age,
            "image": picture.tobytes(),
        }
        for i, (age, picture) in enumerate(zip(ages, pictures, strict=True))
    ]
    return ray.data.from_arrow(pa.Table.from_pylist(rows, schema=samples.SCHEMA))


def train(
    folder: Path | str,
    on_epoch: Callable[[dict[str, float]], None] = lambda metrics: None,
    workers: int | tuple[int, int] = 1,
    settings: Sequence[str] = SETTINGS,
    max_failures: int = 3,
    batch_norm: bool = True,
) -> list[dict[str, float]]:
    """Train with checkpoints in ``folder``."""
    assigned = assignment(folder, settings, workers, max_failures)
    if not batch_norm:
        build = partial(_without_batch_norm, assigned.task.build)
        assigned = replace(assigned, task=replace(assigned.task, build=build))
    _, history = loop.train(assigned, {split: dataset(split) for split in ROWS}, on_epoch)
    return history


def assignment(
    folder: Path | str,
    settings: Sequence[str] = SETTINGS,
    workers: int | tuple[int, int] = 1,
    max_failures: int = 3,
) -> loop.Assignment:
    """Return what to train, with checkpoints in ``folder``."""
    return loop.Assignment(
        task=tasks.regressor(recipes.recipe("small", settings)),
        rows=ROWS["train"],
        checkpoints_uri=str(folder),
        run_name="run",
        workers=workers,
        max_failures=max_failures,
    )


def _without_batch_norm(build: Callable[[], nn.Module]) -> nn.Module:
    network = build()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return network


def _end_at(epoch: float, by: signal.Signals) -> Callable[[dict[str, float]], None]:
    def on_epoch(metrics: dict[str, float]) -> None:
        if metrics["epoch"] == epoch:
            os.kill(os.getpid(), by)

    return on_epoch


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("place")
    parser.add_argument("--end-at-epoch", type=float, default=0)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--trunk", default=TRUNK)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--max-failures", type=int, default=3)
    options = parser.parse_args()
    # a shell's background processes ignore Ctrl-C, and what they start inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with session.session():
        history = train(
            options.place,
            _end_at(options.end_at_epoch, signal.Signals[options.signal]),
            settings=[
                *SETTINGS,
                f"regressor.trunk={options.trunk}",
                f"fit_regressor.epochs={options.epochs}",
            ],
            max_failures=options.max_failures,
        )
    print(json.dumps([metrics["train_loss"] for metrics in history]))

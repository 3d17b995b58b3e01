"""Every method that is trained as a network goes on after a kill as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bae import recipes
from bae.training import fit, tasks

METHODS = [
    name
    for name in recipes.compared(True)
    if recipes.recipe(name).method == "networks" and recipes.recipe(name).region.whole
]
SMALLER = ["regressor.width=64", "regressor.height=96", "fit_regressor.epochs=2"]


def _task(name: str) -> tasks.Task:
    """Return the task at a size for a test; LeNet-5 has one size."""
    return tasks.regressor(recipes.recipe(name, [] if "lenet5" in name else SMALLER))


def _epoch(training: fit.Training, task: tasks.Task) -> None:
    generator = torch.Generator().manual_seed(training.progress.epoch)
    n = 4
    batch = tasks.Batch(
        grey_N1HW=torch.rand(n, *task.sample_shape, generator=generator),
        male_N=torch.tensor([0.0, 1.0, torch.nan, 1.0]),
        age_N=torch.tensor([45.0, 55.0, 65.0, 75.0]),
        group_N=torch.zeros(n, dtype=torch.int64),
        scan_ids=[str(i) for i in range(n)],
    )
    metrics = fit.train_epoch(training, training.network, [batch], 1, task)
    training.progress.note(metrics | {"score": metrics["train_loss"]})


@pytest.mark.parametrize("name", METHODS)
def test_training_goes_on_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    """Two epochs, or one, a checkpoint, and another by a process that has just begun."""
    task = _task(name)
    torch.manual_seed(0)
    whole = fit.Training.start(task.build(), task.fit)
    _epoch(whole, task)
    whole.save(tmp_path)
    _epoch(whole, task)
    torch.manual_seed(1)
    again = fit.Training.start(task.build(), task.fit)
    again.load(tmp_path)
    _epoch(again, task)
    assert again.progress.history == whole.progress.history
    for (key, one), two in zip(
        whole.answering.state_dict().items(), again.answering.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), key

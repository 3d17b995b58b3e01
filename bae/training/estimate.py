"""How long a training will take, from a step or two of it: for those who have to wait."""

import math
import time

import torch

from bae import recipes
from bae.method import hardware
from bae.method.regional.bag import PLACE
from bae.training import fit, tasks

STEPS = 2
READ_SECONDS, LINEAR_SECONDS = 0.1, 0.3
"""A scan for every network: decoding, cutting, scoring; and for the linear model, laying it on the
frame and all that follows. Two cores of an AMD EPYC; measured once, roughly."""


def seconds(recipe: recipes.Recipe, scans: int, cores: int) -> float:
    """Return about how long a recipe takes to train.

    Args:
        scans: to learn from, of two views each.
        cores: that will be at work.
    """
    own = _tasks(recipe)
    reading = scans * READ_SECONDS * (len(own) + 1)
    linear = 0.0 if recipe.in_two_steps else scans * LINEAR_SECONDS
    return reading + linear + sum(_network(task, scans, cores) for task in own)


def _tasks(recipe: recipes.Recipe) -> list[tasks.Task]:
    if recipe.reads_squares:
        return [tasks.regions(recipe)]
    if recipe.method == "svr":
        return [tasks.localizer(recipe)]
    if recipe.method != "networks":
        return []
    last = tasks.regressor(recipe)
    return [last] if recipe.region.whole else [tasks.localizer(recipe), last]


def _network(task: tasks.Task, scans: int, cores: int) -> float:
    """Time steps of a batch of noise."""
    samples = scans if task.pictures > 1 else 2 * scans
    how = task.fit.for_samples(samples)
    n = how.batch_size
    torch.manual_seed(0)
    places = torch.rand(n, task.pictures, len(PLACE)) if task.bag else torch.empty(0)
    batch = tasks.Batch(
        grey_N1HW=torch.rand(n, *task.sample_shape),
        male_N=torch.zeros(n),
        age_N=torch.full((n,), 60.0),
        group_N=torch.zeros(n, dtype=torch.int64),
        places_NCP=places,
        fold_N=torch.full((n,), -1),
        scan_ids=[""] * n,
    )
    hardware.use_cores(1 if task.bag else cores)
    training = fit.Training.start(task.build(), how)
    fit.train_epoch(training, training.network, [batch], 1, task)  # warms up
    start = time.monotonic()
    fit.train_epoch(training, training.network, [batch] * STEPS, STEPS, task)
    each = (time.monotonic() - start) / STEPS
    return each * math.ceil(samples / n) * how.epochs

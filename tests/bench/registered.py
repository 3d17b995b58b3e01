"""What registered bodies are worth to a small network: other inputs, other losses, a stack.

``python -m tests.bench.registered --worlds 1,4,5 --scans 400`` simulates people of each world,
keeps every fourth patient to be tested on, and prints a table: the mean absolute error in years
on these, in brackets how much more that is than the linear model's, with its standard error over
patients. First a network on each input, all of as many pixels; then the best way with each loss;
then the best of these in a stack with the linear model, weighted by what both say of training
patients that they did not see. What is best is chosen on the test scans: that flatters networks.

Shape suffixes: N scans, C channels (two views, of one band or three), H, W of the input, F, V, U
of a feature map, B one-year bins.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bae import recipes
from bae.method.networks import BINS, Regressor
from bae.method.regional import linear
from bae.training import tasks
from bae.training.fit import Training, train_epoch
from bae.training.stack import share
from tests.bench.choosing import Floats, some
from tests.bench.registered_inputs import COLUMNS, INPUTS, SIZE, World, simulated

PLACES = (6, 3)
"""Parts of the last feature map, each averaged by itself: the head knows where it is."""
BELL_YEARS = 2.5
"""Standard deviation of the ages that one age is spread over."""


class Way(NamedTuple):
    """What a network reads, into how many parts its feature map is averaged, and its loss."""

    source: str
    places: tuple[int, int] = PLACES
    loss: str = "squared"


class Placed(Regressor):
    """A regressor of a pair of views whose pooling keeps some of the place."""

    def __init__(self, config: recipes.Regressor, places: tuple[int, int]) -> None:
        super().__init__(config)
        more = 2 * self.trunk.channels * (places[0] * places[1] - 1)
        inputs = 2 * self.trunk.channels + config.sex_neurons + more
        self.head[0], self.places = nn.Linear(inputs, config.hidden_neurons), places

    def pooled(self, crop_N1HW: Tensor) -> Tensor:
        """Return (N, 2F times places) of (N, C, H, W): one trunk reads both views."""
        n, channels, *size = crop_N1HW.shape
        features_NFVU = self.trunk(crop_N1HW.view(2 * n, channels // 2, *size))
        return F.adaptive_avg_pool2d(features_NFVU, self.places).reshape(n, -1)


def _away(of: Callable[[Tensor, Tensor], Tensor], network: nn.Module, batch: tasks.Batch) -> Tensor:
    spread = network.get_buffer("spread_years")
    return of(network(batch.grey_N1HW, batch.male_N) / spread, batch.age_N / spread)


def _distribution(network: nn.Module, batch: tasks.Batch) -> Tensor:
    """Cross entropy with a bell round the age; the answer is the expected age."""
    away_NB = (torch.arange(BINS) - batch.age_N[:, None]) / BELL_YEARS
    scores_NB = network(batch.grey_N1HW, batch.male_N, scores=True)
    return F.cross_entropy(scores_NB, (-(away_NB**2) / 2).softmax(dim=1))


LOSSES: dict[str, Callable[[nn.Module, tasks.Batch], Tensor]] = {
    "squared": partial(_away, F.mse_loss),
    "absolute": partial(_away, F.l1_loss),
    "Huber": partial(_away, partial(F.smooth_l1_loss, beta=tasks.HUBER)),
    "distribution": _distribution,
}


def learn(way: Way, world: World, from_N: NDArray[np.int64], steps: int) -> Floats:
    """Let a network learn from some scans, and return (N,) years of all."""
    changes = [
        "regressor.trunk=small_resnet10", "regressor.hidden_neurons=64",
        f"regressor.height={SIZE[0]}", f"regressor.width={SIZE[1]}",
        f"regressor.loss={'mean_variance' if way.loss == 'distribution' else 'squared'}",
        f"fit_regressor.epochs={-(-steps // -(-len(from_N) // 16))}",
        "fit_regressor.learning_rate=2e-3", "fit_regressor.average_decay=0.98",
    ]  # fmt: skip
    if way.source == COLUMNS:  # half a body has no other side, and a column no light
        changes += ["fit_regressor.mirror=0.0", "fit_regressor.intensity=0.0"]
    task = tasks.regressor(recipes.recipe("small_multi_input_vgg16", changes))
    task = replace(task, loss=LOSSES[way.loss])
    count, own_N = len(world.ages), torch.from_numpy(from_N)
    every = tasks.Batch(
        grey_N1HW=world.inputs[way.source],
        male_N=torch.tensor(world.male, dtype=torch.float32),
        age_N=torch.tensor(world.ages, dtype=torch.float32),
        group_N=torch.zeros(count, dtype=torch.int64),
        places_NCP=torch.zeros(count, 0),
        fold_N=torch.zeros(count),
        scan_ids=world.patients,
    )
    torch.manual_seed(task.fit.seed)
    network = Placed(task.recipe.regressor, way.places)
    network.mean_years.fill_(every.age_N[own_N].mean())
    network.spread_years.fill_(every.age_N[own_N].std())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1/5 faster
    training = Training.start(network, task.fit)
    for _ in range(task.fit.epochs):
        order = torch.split(own_N[torch.randperm(len(own_N))], task.fit.batch_size)
        batches = [some(every, rows) for rows in order if len(rows) > 1]  # batch norm needs two
        train_epoch(training, network, batches, len(batches), task)
        training.progress.note({"score": 0.0})
    answering = training.answering.eval()
    with torch.inference_mode():
        parts = torch.split(torch.arange(count), 32)
        said = [task.answer(answering, some(every, rows)) for rows in parts]
    return torch.cat(said).double().numpy()


def stacked(way: Way, world: World, folds: int, steps: int) -> tuple[str, str, str]:
    """Return weight and errors out of fold, then what the networks and the stack come to."""
    years, known = world.ages[: world.seen], np.arange(world.seen)
    fold_N = linear.folds(world.patients[: world.seen], folds)
    said = np.stack([learn(way, world, known[fold_N != fold], steps) for fold in range(folds)])
    own, network = said[fold_N, known], said[:, world.seen :].mean(axis=0)
    part = share(own, world.held_out, years)
    off = [np.abs(answers - years).mean() for answers in (world.held_out, own)]
    both = part * network + (1 - part) * world.linear
    return f"{part:.2f} ({off[0]:.2f}, {off[1]:.2f})", world.cell(network), world.cell(both)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", default="1,4,5")
    parser.add_argument("--scans", type=int, default=400)
    parser.add_argument("--steps", type=int, default=256, help="of 16 scans, a network")
    parser.add_argument("--folds", type=int, default=3, help="of patients, for the stack")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=0, help="of a smaller matrix")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start, steps = time.process_time(), options.steps
    numbers = [int(one) for one in options.worlds.split(",")]
    worlds = [simulated(one, options.scans, options.seed, options.rows) for one in numbers]
    errors: dict[Way, float] = {}

    def row(name: str, cells: Sequence[str]) -> None:
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    def best(ways: Sequence[Way]) -> Way:
        for way in (one for one in ways if one not in errors):
            said = [learn(way, w, np.arange(w.seen), steps)[w.seen :] for w in worlds]
            both = list(zip(worlds, said, strict=True))
            place = "mean of the map" if way.places == (1, 1) else "places kept"
            row(f"{way.source}, {place}, {way.loss} loss", [w.cell(own) for w, own in both])
            errors[way] = float(np.mean([w.off(own).mean() for w, own in both]))
        return min(ways, key=errors.__getitem__)

    row("what", [f"world {one}" for one in numbers])
    print("|---" * (1 + len(numbers)) + "|")
    row("scans to learn from, to test on", [f"{w.seen}, {len(w.linear)}" for w in worlds])
    row("linear model", [f"{w.off(w.linear).mean():.2f}" for w in worlds])
    every = ((source, places) for places in ((1, 1), PLACES) for source in INPUTS)
    first = best([Way(*one) for one in every])
    last = best([first._replace(loss=loss) for loss in LOSSES])
    found = [stacked(last, w, options.folds, steps) for w in worlds]
    row(
        "the best network's weight (errors out of fold: linear, network)", [one[0] for one in found]
    )
    row(f"its {options.folds} networks' mean", [one[1] for one in found])
    row("stack of these and the linear model", [one[2] for one in found])
    print(f"\n{steps} steps a network; {(time.process_time() - start) / 60:.1f} minutes of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())

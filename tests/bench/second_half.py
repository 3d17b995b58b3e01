"""Would a network of whole views earn a share beside the linear model?

``python -m tests.bench.second_half --worlds 1,4 --scans 667 --recipes small_vgg19`` simulates scans
in memory, keeps every fourth patient for testing, and trains the linear model and, for each
recipe, three networks, each without a third of the patients. Printed: errors in years out of fold
and on the test people, of network, linear model and both by the share that out of fold errs least
squared. One process, as many threads as ``OMP_NUM_THREADS`` says.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae import recipes
from bae.method import hardware, predictor
from bae.method.networks import Regressor
from bae.method.regional.frame import lay
from bae.method.regional.reader import KINDS, fit
from bae.scan import Scan
from bae.training import fit as fitting
from bae.training import stack, tasks
from bae.training.samples import folds
from tests.bench.choosing import ages_of, people, sexes_of

MEMBERS = 3
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Views:
    """Whole views as the network sees them, V of N scans: whose each is, grey, sex, age."""

    owner_V: Tensor
    grey_V1HW: Tensor
    male_N: Tensor
    age_N: Tensor

    def batch(self, rows_V: Tensor) -> tasks.Batch:
        """Return some views as training takes them."""
        own = self.owner_V[rows_V]
        return tasks.Batch(
            grey_N1HW=(self.grey_V1HW[rows_V].float() / 255).contiguous(
                memory_format=torch.channels_last
            ),
            male_N=self.male_N[own],
            age_N=self.age_N[own],
            group_N=torch.zeros(len(own), dtype=torch.int64),
            scan_ids=[str(int(one)) for one in own],
        )


def views_of(scans: Sequence[Scan], recipe: recipes.Recipe) -> Views:
    """Window and shrink every view."""
    size = (recipe.regressor.height, recipe.regressor.width)
    owner, grey = [], []
    for n, scan in enumerate(scans):
        found = predictor.localize(None, recipe, scan.views, "cpu")
        shown = predictor.network_inputs(found, size, False)
        owner += [n] * len(shown)
        grey += [(picture * 255).round().to(torch.uint8) for picture in shown]
    sexes, ages = (torch.tensor(of(scans), dtype=torch.float32) for of in (sexes_of, ages_of))
    return Views(owner_V=torch.tensor(owner), grey_V1HW=torch.stack(grey), male_N=sexes, age_N=ages)


def learned(task: tasks.Task, views: Views, scans_N: Floats, seed: int) -> torch.nn.Module:
    """Train one network on some of the scans, as ``training.loop`` would."""
    rows = np.flatnonzero(scans_N[views.owner_V.numpy()])
    task = replace(task, fit=task.fit.for_samples(len(rows)))
    torch.manual_seed(seed)
    network = hardware.onto(task.build(), "cpu")
    assert isinstance(network, Regressor)
    ages = views.age_N.numpy()[scans_N.astype(bool)]
    network.mean_years.fill_(float(ages.mean()))
    network.spread_years.fill_(float(ages.std()))
    training = fitting.Training.start(network, task.fit)
    rng, size = np.random.default_rng(seed), task.fit.batch_size
    for _ in range(task.fit.epochs):
        order = torch.from_numpy(rng.permutation(rows)).split(size)
        batches = [views.batch(some) for some in order if len(some) > 1]
        fitting.train_epoch(training, network, batches, len(batches), task)
        training.progress.note({"score": 0.0})
    return training.answering.eval()


def said(network: torch.nn.Module, task: tasks.Task, views: Views) -> Floats:
    """Return (N,) years: the mean of a scan's views."""

    def chunks() -> Iterator[Tensor]:
        for rows in torch.arange(len(views.owner_V)).split(64):
            yield task.answer(network, views.batch(rows))

    with torch.inference_mode():
        years = torch.cat([*chunks()]).double().numpy()
    owner = views.owner_V.numpy()
    return np.bincount(owner, years) / np.bincount(owner)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", default="1,4")
    parser.add_argument("--scans", type=int, default=667)
    parser.add_argument("--recipes", default="small_vgg19")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    options = parser.parse_args(argv)
    for world in map(int, options.worlds.split(",")):
        every = people(world, options.scans, 1)
        train, test = (
            [scan for scan in every if (int(scan.identity.patient) % 4 == 0) == held]
            for held in (False, True)
        )
        patients, ages = [scan.identity.patient for scan in train], ages_of(train)
        sheets = {
            kind: [lay(scan.views[i].counts, scan.pixel_mm).density_VU for scan in train]
            for i, kind in enumerate(KINDS)
        }
        linear, linear_N = fit(sheets, sexes_of(train), ages, patients)
        region = recipes.recipe("regional").region
        told = np.array([linear.read(scan, scan.views, region).years for scan in test])
        fold_N = np.asarray(folds(patients, MEMBERS))
        for name in options.recipes.split(","):
            start = time.process_time()
            changes = [] if options.epochs is None else [f"fit_regressor.epochs={options.epochs}"]
            recipe = recipes.recipe(name, changes)
            task, own_N, tested = tasks.regressor(recipe), np.zeros(len(train)), []
            shown, asked = views_of(train, recipe), views_of(test, recipe)
            for m in range(MEMBERS):
                network = learned(task, shown, (fold_N != m).astype(float), m)
                own_N[fold_N == m] = said(network, task, shown)[fold_N == m]
                tested.append(said(network, task, asked))
            part = stack.share(own_N, linear_N, ages)
            for where, net, line, truth in (
                ("out of fold", own_N, linear_N, ages),
                ("test", np.mean(tested, axis=0), told, ages_of(test)),
            ):
                answers = {"network": net, "linear": line, "both": part * net + (1 - part) * line}
                errors = {n: f"{np.abs(v - truth).mean():.2f}" for n, v in answers.items()}
                print(f"world {world}, {name}, {len(truth)} scans {where}: {errors}", flush=True)
            print(f"  share {part:.2f}, {time.process_time() - start:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()

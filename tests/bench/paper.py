"""What the paper's networks cost on this machine: ``python -m tests.bench.paper``.

Random weights, simulated scans of two views at 256 x 1024. Wall-clock and CPU time: on a machine
that does nothing else, wall times cores is CPU.
"""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from bae import recipes
from bae.method import model, networks
from bae.method.predictor import Predictor
from bae.phantom import scan
from bae.scan import Identity, Scan
from bae.training import fit, tasks

SCANS, TRAINING_VIEWS, TRAINING_BATCH, TIMES = 8, 8, 4, 2


def scans() -> list[Scan]:
    """Simulate a few people."""
    made = []
    for number in range(SCANS):
        phantom = scan.make(number)
        who = Identity(patient=str(number), study="1", instance=str(number))
        made.append(Scan(views=phantom.views, identity=who, sex=phantom.sex))
    return made


def per_second(what: str, count: int, call: Callable[[], object]) -> None:
    """Run once to warm up, then a few times; print the best."""
    call()
    wall, cpu = [], []
    for _ in range(TIMES):
        start, spent = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - spent)
    print(f"{what:<28}{count / min(wall):>8.2f} per second {min(cpu) / count:>8.2f} s CPU each")


def main() -> None:
    """Print scans scored and views trained on per second."""
    recipe = recipes.paper()
    torch.manual_seed(0)
    localizer, regressor = (
        networks.Localizer(recipe.localizer),
        networks.Regressor(recipe.regressor),
    )
    card = model.Card(recipe=recipe, parts={"regressor": model.Part(sha256="")})
    predictor = Predictor(localizer, regressor, card)
    people = scans()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.0f}")
    per_second("scans scored", SCANS, lambda: predictor.predict(people))
    how = replace(recipe.fit_localizer, batch_size=TRAINING_BATCH)
    for made, network in ((tasks.localizer, localizer), (tasks.regressor, regressor)):
        task = replace(made(recipe), fit=how)
        batches = [
            tasks.Batch(
                grey_N1HW=torch.rand(TRAINING_BATCH, 1, *task.size),
                male_N=torch.zeros(TRAINING_BATCH),
                age_N=torch.full((TRAINING_BATCH,), 60.0),
                group_N=torch.zeros(TRAINING_BATCH, dtype=torch.int64),
                scan_ids=[""] * TRAINING_BATCH,
            )
        ] * (TRAINING_VIEWS // TRAINING_BATCH)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        training = fit.Training.start(network, how)
        epoch = functools.partial(fit.train_epoch, training, network, batches, len(batches), task)
        per_second(f"views to train the {task.name}", TRAINING_VIEWS, epoch)


if __name__ == "__main__":
    main()

"""How the squares are chosen, measured: one network learns from the squares of each choice.

``python -m tests.bench.choosing --world 0 --scans 400`` simulates people, keeps every fourth
patient to be tested on, and prints a table. All choices have as many squares of the same size,
and networks of the same size that learn for as many epochs; ``--squares 4x180,9x110`` adds other
numbers and sizes for the choice that the recipes make. ``--model FOLDER`` keeps the model of that
choice, for ``tests.bench.borders``.

Shape suffixes: N scans, C pictures of a bag, J columns of a view, G age groups.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae import recipes
from bae.method import model
from bae.method.regional import linear, uptake
from bae.method.regional.attention import Attention
from bae.method.regional.bag import fill, own_of
from bae.method.regional.frame import lay, stack
from bae.method.regional.reader import KINDS, Reader, fit, read
from bae.phantom import PhantomConfig, make
from bae.recipes import Recipe
from bae.scan import SEX_CODE, Identity, Scan
from bae.training import tasks
from bae.training.fit import Training, train_epoch, without_margin

Floats = NDArray[np.float64]
COVER = 16
"""Squares a view that cover the body."""
GROUPS = 4
"""Of age, of equally many people."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Told(Reader):
    """A reader that is told where to look, in place of its slopes."""

    heat: Mapping[str, Tensor]

    def importance(self, kind: str, male: float) -> Tensor:
        """Return what it was told."""
        return self.heat[kind]


def told(reader: Reader, heat: Mapping[str, Tensor]) -> Told:
    """Return the reader with another heat."""
    return Told(templates=reader.templates, bodies=reader.bodies, models=reader.models, heat=heat)


def people(world: int, scans: int, seed: int, rows: int = 0) -> list[Scan]:
    """Simulate scans as an archive has them; ``rows`` of a small matrix, 0 for the world's."""
    size = {"rows": rows, "columns": rows // 4} if rows else {}
    made = (make(k, seed=seed, config=PhantomConfig(world=world, **size)) for k in range(scans))
    return [
        Scan(
            views=one.views,
            identity=Identity(patient=str(one.patient), study="", instance=str(one.index)),
            pixel_mm=(one.pixel_mm, one.pixel_mm),
            sex=one.sex,
            age_years=one.age_years,
        )
        for one in made
    ]


def ages_of(scans: Sequence[Scan]) -> Floats:
    """Return (N,) years."""
    return np.array([scan.age_years for scan in scans])


def sexes_of(scans: Sequence[Scan]) -> Floats:
    """Return (N,) codes."""
    return np.array([SEX_CODE[scan.sex] for scan in scans])


def cut(scans: Sequence[Scan], readers: Sequence[Reader], recipe: Recipe) -> tasks.Batch:
    """Cut the squares of all scans, of each by a reader of its own, as one batch."""
    margin = recipe.fit_regressor.box_jitter
    seen = [read(own, s, s.views, recipe.region) for own, s in zip(readers, scans, strict=True)]
    bags = [fill(s.views, one, recipe, margin) for s, one in zip(scans, seen, strict=True)]
    return tasks.Batch(
        grey_N1HW=torch.stack([bag.pictures_CHW for bag in bags]),
        male_N=torch.tensor(sexes_of(scans), dtype=torch.float32),
        age_N=torch.tensor(ages_of(scans), dtype=torch.float32),
        group_N=torch.zeros(len(scans), dtype=torch.int64),
        places_NCP=torch.stack([bag.places_CP for bag in bags]),
        fold_N=torch.full((len(scans),), -1),
        scan_ids=[scan.identity.instance for scan in scans],
    )


def some(whole: tasks.Batch, rows_N: Tensor) -> tasks.Batch:
    """Return some scans of a batch."""
    names = ("grey_N1HW", "male_N", "age_N", "group_N", "places_NCP", "fold_N")
    own = {name: getattr(whole, name)[rows_N] for name in names}
    return replace(whole, **own, scan_ids=[whole.scan_ids[i] for i in rows_N.tolist()])


def learn(whole: tasks.Batch, task: tasks.Task) -> Attention:
    """Train a network on all scans of a batch, without Ray."""
    torch.manual_seed(task.fit.seed)
    network = task.build()
    assert isinstance(network, Attention)
    network.mean_years.fill_(whole.age_N.mean())
    network.spread_years.fill_(whole.age_N.std())
    training = Training.start(network, task.fit)
    for _ in range(task.fit.epochs):
        order = torch.randperm(len(whole.scan_ids)).split(task.fit.batch_size)
        batches = [some(whole, rows) for rows in order if len(rows) > 1]  # batch norm needs two
        train_epoch(training, network, batches, len(batches), task)
        training.progress.note({"score": 0.0})
    answering = training.answering.eval()
    assert isinstance(answering, Attention)
    return answering


def say(network: Attention, whole: tasks.Batch, task: tasks.Task) -> tuple[Floats, Floats]:
    """Return (N,) years and (N, C) attention."""
    years, weights = [], []
    with torch.inference_mode():
        for rows in torch.arange(len(whole.scan_ids)).split(32):
            own = some(whole, rows)
            middle = without_margin(own.grey_N1HW, task.size)
            said = network.say(middle, own.places_NCP, own.male_N)
            years.append(said.ages_MN.mean(dim=0))
            weights.append(said.weight_MNC.mean(dim=0))
    return torch.cat(years).double().numpy(), torch.cat(weights).double().numpy()


def by_attention(
    reader: Reader, train: Sequence[Scan], test: Sequence[Scan], recipe: Recipe
) -> tuple[tasks.Batch, tasks.Batch]:
    """Let a network read squares that cover the body, and keep those to which it gives most."""
    cover = replace(recipe, region=replace(recipe.region, count=COVER))
    everywhere = {
        k: uptake.onto_body(torch.ones(uptake.size(b)), b) for k, b in reader.bodies.items()
    }
    one, two = (cut(s, [told(reader, everywhere)] * len(s), cover) for s in (train, test))
    task = tasks.regions(cover)
    weight_C = say(learn(one, task), one, task)[1].mean(axis=0)
    kept = []
    for kind in KINDS:
        whole, *squares = range(own_of(kind, cover).start, own_of(kind, cover).stop)
        kept += [whole, *sorted(squares, key=lambda c: -weight_C[c])[: recipe.region.count]]
    return tuple(  # type: ignore[return-value]
        replace(b, grey_N1HW=b.grey_N1HW[:, kept], places_NCP=b.places_NCP[:, kept])
        for b in (one, two)
    )


def by_class(reader: Reader, train: Sequence[Scan], test: Sequence[Scan]) -> list[Reader]:
    """Return of each scan a reader that looks where it looks like its age group, Eqs. (1), (2).

    One linear model a group says how much a scan looks like it; what each place adds to the
    group that the scan looks like most is its heat, what speaks against it is none.
    """
    both = [*train, *test]
    male_N, ages, seen = sexes_of(both), ages_of(train), len(train)
    group_N = np.digitize(ages, np.quantile(ages, np.arange(1, GROUPS) / GROUPS))
    patients = [scan.identity.patient for scan in train]
    columns: dict[str, NDArray[np.float32]] = {}
    models: dict[str, list[linear.Linear]] = {}
    for i, kind in enumerate(KINDS):
        sheets = stack([lay(scan.views[i].counts, scan.pixel_mm) for scan in both])
        on_frame = reader.templates[kind].register(sheets).density_NYX
        sides_2NJ = uptake.sides(on_frame, reader.bodies[kind])
        columns[kind] = sides_2NJ.nanmean(dim=0).numpy()
        trust_J = uptake.agreement(*sides_2NJ[:, :seen].numpy())
        own = columns[kind][:seen], male_N[:seen]
        models[kind] = [
            linear.fit(*own, (group_N == g).astype(float), patients, trust_J)[0]
            for g in range(GROUPS)
        ]
    alike_GN = sum(
        np.stack([one.predict(columns[kind], male_N) for one in models[kind]]) for kind in KINDS
    )
    found: list[Reader] = []
    for n, g in enumerate(np.asarray(alike_GN).argmax(axis=0)):
        heat = {}
        for kind in KINDS:
            adds_J = models[kind][g].account(columns[kind][n : n + 1], male_N[n : n + 1])[0]
            at_YX = uptake.onto_body(torch.from_numpy(adds_J), reader.bodies[kind])
            heat[kind] = at_YX.clamp_min(0)
        found.append(told(reader, heat))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--scans", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=0, help="of a smaller matrix")
    parser.add_argument("--squares", default="", help="also COUNTxMM,COUNTxMM, by slopes")
    parser.add_argument("--model", help="folder to keep the model of the first choice in")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start = time.process_time()
    changes = [
        "regressor.members=1", f"fit_regressor.epochs={options.epochs}",
        "fit_regressor.least_steps=0",
    ]  # fmt: skip
    recipe = recipes.recipe("small_regions", changes)
    every = people(options.world, options.scans, options.seed, options.rows)
    held = [int(scan.identity.patient) % 4 == 0 for scan in every]
    train = [scan for scan, out in zip(every, held, strict=True) if not out]
    test = [scan for scan, out in zip(every, held, strict=True) if out]
    sheets = {
        kind: [lay(scan.views[i].counts, scan.pixel_mm).density_VU for scan in train]
        for i, kind in enumerate(KINDS)
    }
    patients = [scan.identity.patient for scan in train]
    reader, _ = fit(sheets, sexes_of(train), ages_of(train), patients)
    alone = np.array([read(reader, s, s.views, recipe.region).years for s in test])
    print(f"World {options.world}, {len(train)} scans to learn from, {len(test)} to test on.\n")
    print("| choice | network | more than by slopes | half and half |\n|---|---|---|---|")
    print(f"| linear model alone | {np.abs(alone - ages_of(test)).mean():.2f} | | |", flush=True)
    first: list[Floats] = []

    def row(name: str, one: tasks.Batch, two: tasks.Batch, how: Recipe = recipe) -> Attention:
        task = tasks.regions(how)
        network = learn(one, task)
        years, _ = say(network, two, task)
        off, half = (np.abs(said - ages_of(test)) for said in (years, (years + alone) / 2))
        first.append(off)
        more = off - first[0]
        error = more.std(ddof=1) / np.sqrt(len(more))
        apart = f"{more.mean():.2f} ± {error:.2f}" if more.any() else ""
        print(f"| {name} | {off.mean():.2f} | {apart} | {half.mean():.2f} |", flush=True)
        return network

    def both(readers: Sequence[Reader], how: Recipe = recipe) -> tuple[tasks.Batch, tasks.Batch]:
        return cut(train, readers[: len(train)], how), cut(test, readers[len(train) :], how)

    network = row("heat of the age, by slopes", *both([reader] * len(every)))
    if options.model:
        card = model.Card(recipe=recipe, parts={})
        parts = {"regional": reader.tensors(), "regions": network.state_dict()}
        for name, tensors in parts.items():
            card = model.save_part(options.model, card, name, tensors, {})
    row("learned attention", *by_attention(reader, train, test, recipe))
    row("class heat of the person's age group", *both(by_class(reader, train, test)))
    row("random squares on the body", *both([reader.randomised(0)] * len(every)))
    for words in filter(None, options.squares.split(",")):
        count, size_mm = words.split("x")
        region = replace(recipe.region, count=int(count), size_mm=float(size_mm))
        other = replace(recipe, region=region)
        row(f"by slopes, {count} of {size_mm} mm", *both([reader] * len(every), other), other)
    print(f"\n{(time.process_time() - start) / 60:.0f} minutes of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())

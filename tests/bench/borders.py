"""What borders, padding and blank pictures do to the network that reads squares: a measurement.

``python -m tests.bench.borders --model FOLDER`` asks a model of recipe ``small_regions`` or
``best`` (``tests.bench.choosing --model`` makes one) about simulated people, each as stored and
changed in ways that touch no bone. A picture that begins elsewhere, or has a frame round it,
shows the same body: answer and attention should stay. Blank pictures and noise are refused by
the archive's check; the model is asked all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bae.archive.body import examine
from bae.errors import ScanError
from bae.method.predictor import Predictor, Regional
from bae.method.regional.bag import fill
from bae.method.regional.places import place_name
from bae.method.regional.reader import KINDS, read
from bae.scan import SEX_CODE, Scan
from tests.bench.choosing import people

Counts = NDArray[np.uint16]


def _framed(counts: Counts, inset: int) -> Counts:
    """Return a picture with a frame of two pixels, as bright as its brightest, from an edge on."""
    made = counts.copy()
    for side in (made, made.T):
        for at in (inset, inset + 1):
            side[at, inset : side.shape[1] - inset] = counts.max()
            side[-1 - at, inset : side.shape[1] - inset] = counts.max()
    return made


CHANGES: dict[str, Callable[[Counts], Counts]] = {
    "moved 40 pixels down and right, in a larger field": lambda c: np.pad(c, ((40, 0), (40, 0))),
    "moved 13 down, 9 right, in a larger field": lambda c: np.pad(c, ((13, 27), (9, 31))),
    "moved 40 down, 40 rows of air lost": lambda c: np.pad(c, ((40, 0), (0, 0)))[: len(c)],
    "100 blank rows above and below": lambda c: np.pad(c, ((100, 100), (0, 0))),
    "bright frame at the edge": lambda c: _framed(c, 0),
    "bright frame, 3 pixels from the edge": lambda c: _framed(c, 3),
}
BLANK: dict[str, Callable[[Counts], Counts]] = {
    "blank": np.zeros_like,
    "noise, one count a pixel": lambda c: (
        np.random.default_rng(0).poisson(1.0, c.shape).astype(np.uint16)
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a model says of one scan: network and linear model, years; attention by picture."""

    network: float
    linear: float
    weight_C: NDArray[np.float64]
    places_CP: NDArray[np.float64]


def ask(model: Regional, scan: Scan) -> Answer:
    """Ask both parts of a model, in float32."""
    assert model.network is not None
    with torch.inference_mode():
        seen = read(model.reader, scan, scan.views, model.recipe.region)
        bag = fill(scan.views, seen, model.recipe)
        male = torch.tensor([SEX_CODE[scan.sex]])
        said = model.network.say(bag.pictures_CHW[None], bag.places_CP[None], male)
    return Answer(
        network=float(said.ages_MN.mean()),
        linear=seen.years,
        weight_C=said.weight_MNC[:, 0].mean(dim=0).double().numpy(),
        places_CP=bag.places_CP.double().numpy(),
    )


def changed(scan: Scan, how: Callable[[Counts], Counts]) -> Scan:
    """Return the scan with each view changed."""
    views = tuple(replace(view, counts=how(view.counts)) for view in scan.views)
    return replace(scan, views=views)


def let_in(scan: Scan) -> Scan | None:
    """Return what the archive's own check makes of a scan; None where it refuses it."""
    try:
        return replace(scan, views=tuple(examine(scan.views, scan.pixel_mm)[0]))
    except ScanError:
        return None


def _most(answers: Sequence[Answer]) -> str:
    """Name the pictures that have most weight, on average."""
    weight_C = np.mean([one.weight_C for one in answers], axis=0)
    names = []
    for c in np.argsort(-weight_C)[:3]:
        posterior, whole, down, right = answers[0].places_CP[c]
        what = "whole view" if whole else place_name(down, right)
        names.append(f"{KINDS[int(posterior)]} {what} {weight_C[c]:.2f}")
    return ", ".join(names)


def main(argv: Sequence[str] | None = None) -> int:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--scans", type=int, default=16)
    parser.add_argument("--seed", type=int, default=2, help="other people than the model knows")
    parser.add_argument("--rows", type=int, default=0, help="of a smaller matrix")
    parser.add_argument("--raw", action="store_true", help="past the archive's own check")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = Predictor.load(options.model)
    assert isinstance(model, Regional) and model.network is not None
    scans = people(options.world, options.scans, options.seed, options.rows)
    plain = [ask(model, scan) for scan in scans]
    print("| change | read | network, years: median, most | linear model | attention that moves |")
    print("|---|---|---|---|---|")
    for name, how in CHANGES.items():
        others = [changed(scan, how) for scan in scans]
        read_as = others if options.raw else [let_in(other) for other in others]
        pairs = [
            (one, ask(model, other))
            for one, other in zip(plain, read_as, strict=True)
            if other is not None
        ]
        apart = (
            [abs(a.network - b.network) for a, b in pairs],
            [abs(a.linear - b.linear) for a, b in pairs],
            [float(np.abs(a.weight_C - b.weight_C).sum()) / 2 for a, b in pairs],
        )
        told = " | ".join(f"{np.median(own):.2f}, {max(own):.2f}" if own else "" for own in apart)
        print(f"| {name} | {len(pairs)} of {len(scans)} | {told} |", flush=True)
    print(f"\nMean age {float(model.network.mean_years):.1f}, {len(plain[0].weight_C)} pictures.\n")
    print("| picture | let in | network, years | linear model | most attention |")
    print("|---|---|---|---|---|")
    for name, how in {"as stored": np.copy, **BLANK}.items():
        others = [changed(scan, how) for scan in scans]
        answers = [ask(model, other) for other in others]
        inside = sum(let_in(other) is not None for other in others)
        both = [one.network for one in answers], [one.linear for one in answers]
        years = " | ".join(f"{min(own):.1f} to {max(own):.1f}" for own in both)
        print(f"| {name} | {inside} of {len(scans)} | {years} | {_most(answers)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How well intervals hold, by decade and sex: ``python -m tests.bench.intervals``.

Made of the true uptake of simulated people with a little noise, read by ridge regression, so that
thousands of people in many worlds can be asked; pictures would take days. How far such a reader is
from the limit says what a cohort of that size allows a linear model that sees every bone.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bae.method import calibration
from bae.phantom import PhantomConfig, ageing
from bae.phantom.limits import limits
from bae.phantom.people import age_at, generator
from bae.phantom.world import world
from bae.scan import FEMALE, MALE

Floats = NDArray[np.float64]
Bounds = tuple[Floats, Floats]

READING_SD = 0.05
"""Noise of a bone's log uptake in a picture."""
LEAST = 60
"""Test scans of a group that is judged."""


def people(number: int, count: int) -> tuple[Floats, Floats, Floats]:
    """Return ages, sexes (0 women, 1 men), and what is read of them: log uptakes, sex, both."""
    config, assumed, rng = PhantomConfig(world=number), world(number), generator(5, number)
    ages, males, uptakes = [], [], []
    for _ in range(count):
        sex = FEMALE if rng.random() < assumed.women_share else MALE
        age = float(age_at(rng.uniform(*config.ages), sex, config.ages, assumed))
        latent = age + config.latent_sd_years * rng.standard_normal()
        factors, _ = ageing.uptake(latent, sex, rng, rng, assumed.effects)
        ages.append(age)
        males.append(float(sex == MALE))
        uptakes.append(np.log(factors) + READING_SD * rng.standard_normal(len(factors)))
    log_NP, male_N = np.array(uptakes), np.array(males)
    sign_N1 = 2 * male_N[:, None] - 1
    return np.array(ages), male_N, np.hstack([log_NP, 0.3 * sign_N1 * log_NP, sign_N1])


def bounds(
    learned: tuple[Floats, Floats, Floats], future: tuple[Floats, Floats, Floats], kept: int
) -> tuple[Floats, dict[str, Bounds]]:
    """Return ages for future people, and intervals by each way of making them.

    Args:
        learned: ages, sexes and uptakes of those to learn from; the last are for validation.
        future: the same of others.
        kept: how many are for validation.
    """
    age, male, told = learned
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(1, 4, 7)))
    own = slice(0, -kept)
    out_of_fold = cross_val_predict(ridge, told[own], age[own], cv=5)
    ridge.fit(told[own], age[own])
    said, asked = ridge.predict(told[-kept:]), ridge.predict(future[2])
    every = np.concatenate([out_of_fold, said])

    def alike(ages: Floats, answers: Floats) -> Bounds:
        keys = [str(i) for i in range(len(ages))]
        half = calibration.conformal_quantile(np.abs(ages - answers), keys, calibration.LEVEL)
        return asked - half, asked + half

    none = np.full(len(age), np.nan)
    fitted = calibration.fit(age, every, none, male, [str(i) for i in range(len(age))])
    shaped = fitted.interval(asked, np.full(len(asked), np.nan), future[1])
    assert shaped is not None
    return asked, {
        "one width, validation patients": alike(age[-kept:], said),
        "one width, all": alike(age, every),
        "with a shape, all (taken)": shaped,
    }


def main() -> None:
    """Print one row for each way and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", default="0,1,2,3,4,5,9,10")
    parser.add_argument("--sizes", default="150,500")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--people", type=int, default=6000)
    options = parser.parse_args()
    print("| scans | intervals | all inside | within 0.90 ± 0.02 | groups within ± 0.05 | width |")
    print("|---|---|---|---|---|---|")
    numbers = [int(number) for number in options.worlds.split(",")]
    cohorts = [people(number, options.people) for number in numbers]
    errors = {
        size: _row(size, cohorts, options.repeats)
        for size in (int(text) for text in options.sizes.split(","))
    }
    print("\nError of the reader over the limit of regional uptake, by world:")
    for size, by_world in errors.items():
        over = [
            f"{number}: {error / limits(PhantomConfig(world=number)).regional:.2f}"
            for number, error in zip(numbers, by_world, strict=True)
        ]
        print(f"{size} scans: {', '.join(over)}")


def _row(size: int, cohorts: list[tuple[Floats, Floats, Floats]], repeats: int) -> list[float]:
    """Print a size's rows; return each world's mean absolute error, years."""
    errors: list[float] = []
    found: dict[str, list[tuple[float, float, float]]] = {}
    for number, cohort in enumerate(cohorts):
        rng = np.random.default_rng(number)
        kept, own = size // 7, []
        for _ in range(repeats):
            order = rng.permutation(len(cohort[0]))
            learned, future = (
                (cohort[0][some], cohort[1][some], cohort[2][some])
                for some in (order[: size + kept], order[size + kept :])
            )
            answers, made = bounds(learned, future, kept)
            own.append(float(np.abs(answers - future[0]).mean()))
            for name, (low, high) in made.items():
                inside = (low <= future[0]) & (future[0] <= high)
                good = _groups(future, lambda some, inside=inside: float(inside[some].mean()))
                width = float((high - low).mean())
                found.setdefault(name, []).append((float(inside.mean()), good, width))
        errors.append(float(np.mean(own)))
    usual = np.array(found["one width, all"])[:, 2]
    for name, rows in found.items():
        share, good, width = np.array(rows).T
        near = float(np.mean(np.abs(share - 0.9) <= 0.02))
        print(
            f"| {size} | {name} | {share.mean():.3f} | {near:.2f} | {good.mean():.2f} | "
            f"{(width / usual).mean():.3f} |",
            flush=True,
        )
    return errors


def _groups(
    future: tuple[Floats, Floats, Floats], covered: Callable[[NDArray[np.bool_]], float]
) -> float:
    """Return the share of groups by actual decade and sex whose coverage is 0.85 to 0.95."""
    decade, male = future[0] // 10, future[1]
    groups = [(decade == d) & (male == s) for d in np.unique(decade) for s in (0, 1)]
    shares = [covered(group) for group in groups if group.sum() >= LEAST]
    return float(np.mean([abs(share - 0.9) <= 0.05 for share in shares]))


if __name__ == "__main__":
    main()

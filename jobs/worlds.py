"""Recipes over simulated worlds and sizes of cohorts: which of them can be believed anywhere."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bae import recipes, storage
from bae.archive import privacy
from bae.errors import UseError
from jobs import _training, command, index, phantom
from jobs._trained import step, trained

if TYPE_CHECKING:
    from bae.evaluation.pages import Row

SPLIT = 0.55
"""At least this share of a world's scans is there to learn from; so many more are made. Seven
patients in ten are, but not everybody's age is known."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "worlds",
        "Train and evaluate recipes in several simulated worlds, with cohorts of several sizes; "
        "write one table and one figure. The same command goes on where it stopped.",
        "python -m jobs.worlds --out worlds --worlds 1,2,3 --sizes 150,500 --recipes regional,best",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="of everything that is made")
    parser.add_argument("--worlds", required=True, type=_numbers, help="their numbers")
    parser.add_argument(
        "--unseen",
        type=_numbers,
        default=[],
        help="those of them on which no default was chosen; told apart in table and figure",
    )
    parser.add_argument(
        "--sizes", type=_numbers, default=[150, 500], help="scans to learn from (150,500)"
    )
    parser.add_argument(
        "--scans",
        type=int,
        help="of each archive (default: so many that there are enough for the largest size)",
    )
    parser.add_argument("--recipes", default="regional,best", help="(default regional,best)")
    parser.add_argument("--seed", type=int, default=0, help="of the cohorts (default 0)")
    return command.run(parser, job, argv)


def job(options: argparse.Namespace) -> None:
    """Go through worlds, sizes and recipes."""
    from bae.evaluation import worlds
    from bae.pipeline.cluster import session

    names = options.recipes.split(",")
    for name in names:
        recipes.recipe(name)
    if extra := sorted(set(options.unseen) - set(options.worlds)):
        raise UseError(f"--unseen names worlds that --worlds does not: {extra}")
    os.environ.setdefault(privacy.KEY_VARIABLE, privacy.DEMO)  # phantoms have no secrets
    storage.check_writable(options.out)
    found: list[Row] = []
    with session.session():
        for world in options.worlds:
            home = storage.join(options.out, f"world-{world}-seed-{options.seed}")
            for size in options.sizes:
                done = storage.join(home, f"rows-{size}-{'-'.join(names)}.json")
                if not storage.exists(done):
                    rows = _measured(options, home, world, size, names)
                    storage.write_bytes(done, json.dumps(rows).encode())
                found += json.loads(storage.read_bytes(done))
                _write(options.out, found)
    print(worlds.page(found))
    print(f"written to {options.out}: worlds.md .csv .parquet .png .pdf")


def _write(out: str, rows: "Sequence[Row]") -> None:
    from bae.evaluation import worlds
    from bae.evaluation.pages import Output

    output = Output(out)
    output.table("worlds", rows, worlds.page(rows))
    output.figure("worlds", worlds.learning_curves(rows))


def _measured(
    options: argparse.Namespace, home: str, world: int, size: int, names: Iterable[str]
) -> "list[Row]":
    """Make the world's archive if it is not there, train what is not trained, and evaluate."""
    from bae.evaluation import run, worlds
    from bae.phantom.archive import cohort_of
    from bae.pipeline import kept

    archive, tables = storage.join(home, "archive"), storage.join(home, "tables")
    if not storage.exists(storage.join(tables, "indexed")):
        scans = str(options.scans or round(max(options.sizes) / SPLIT))
        numbers = ("--world", str(world), "--seed", str(options.seed))
        step(phantom.main, "--archive", archive, "--scans", scans, *numbers)
        step(index.main, "--archive", archive, "--tables", tables)
        storage.write_bytes(storage.join(tables, "indexed"), b"")
    known = kept.training_scans(tables, recipes.recipe("regional"), "train").num_rows
    if known < size:
        raise UseError(f"{known} scans to learn from in world {world}, not {size}: more --scans")
    models = [trained(name, tables, home, f"{name}-{size}", size) for name in names]
    planned = run.plan(tables, models, home)
    methods = run.score(planned, _training.counter("scored", "the held-out scans"))
    cohort = cohort_of(planned.scans["test"]["object_uri"].to_pylist())
    assert cohort is not None  # its archive was made above
    unseen = world in options.unseen
    return worlds.rows_of(world, size, unseen, methods, cohort.latent_years)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())

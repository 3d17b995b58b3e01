"""Every method that the paper stands on, trained and tested on the same scans, in one table."""

import argparse
import sys
from collections.abc import Sequence

from bae import environment, recipes, storage
from bae.errors import BaeError, RunError
from jobs import _archive, _training, command, index
from jobs._trained import step, trained

TIMED = 8
"""Held-out scans on which a model is timed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "table_one",
        "Index an archive, train and evaluate every method on the same scans, and write Table 1 "
        "with what each costs. The same command goes on where it stopped.",
        "python -m jobs.table_one --archive s3://hospital/bone-scans --out table-one --small",
    )
    parser.add_argument("--archive", required=True, metavar="URI", help="where the objects are")
    parser.add_argument("--out", required=True, metavar="URI", help="of everything that is made")
    parser.add_argument(
        "--methods",
        metavar="NAME,NAME",
        help="recipes (default: all of the size); the others are compared with the first",
    )
    parser.add_argument(
        "--small", action="store_true", help="the forms that two CPU cores train, not the full size"
    )
    parser.add_argument(
        "--without-sex", action="store_true", help="each method a second time, without sex"
    )
    _archive.add_labels(parser)
    parser.add_argument("--most", type=int, metavar="N", help="learn from at most so many scans")
    return command.run(parser, job, argv)


def job(options: argparse.Namespace) -> None:
    """Go through the methods."""
    from bae.pipeline import kept
    from bae.pipeline.cluster import session

    names = options.methods.split(",") if options.methods else recipes.compared(options.small)
    if options.without_sex:
        names = [twin for name in names for twin in (name, f"{name}_without_sex")]
        names = [name for name in names if name in recipes.RECIPES]
    for name in names:
        recipes.recipe(name)
    environment.check()
    storage.check_writable(options.out)
    tables = storage.join(options.out, "tables")
    with session.session():
        step(
            index.main,
            "--archive",
            options.archive,
            "--tables",
            tables,
            *_archive.labels_argv(options),
        )
        train = kept.training_scans(tables, recipes.recipe(names[0]), "train")
        _estimate(names, min(options.most or train.num_rows, train.num_rows))
        models, failed = [], {}
        for name in names:
            try:
                models.append(trained(name, tables, options.out, name, options.most))
            except BaeError as error:  # the others are wanted all the same
                failed[name] = str(error)
                command.say(f"{name} is left out: {error}")
        if models:
            _write(options.out, tables, models, names[0])
    if failed:
        raise RunError(f"not trained: {', '.join(failed)}; the same command tries them again")


def _estimate(names: Sequence[str], scans: int) -> None:
    """Say how long it will take, before hours of it."""
    from bae.method import hardware
    from bae.training import estimate

    cores = hardware.cores()
    total = 0.0
    print(f"\nabout so many minutes of training, {scans} scans to learn from, {cores} cores:")
    for name in names:
        needed = estimate.seconds(recipes.recipe(name), scans, cores) / 60
        total += needed
        print(f"  {name:<28}{needed:7.1f}", flush=True)
    print(f"  {'together':<28}{total:7.1f}", flush=True)


def _write(out: str, tables: str, models: Sequence[str], proposed: str) -> None:
    """Evaluate and write the table."""
    from bae.evaluation import costs, pages, run, table_one
    from bae.phantom.archive import cohort_of
    from bae.pipeline import reread

    planned = run.plan(tables, models, out)
    say = _training.counter("scored", "the held-out scans")
    methods = run.score(planned, say)
    plain = run.plain_methods(planned, say)
    test = planned.scans["test"]
    cohort = cohort_of(test["object_uri"].to_pylist())
    rows = table_one.table_one(methods, plain, test, cohort.about if cohort else {})
    tests = table_one.paired_tests(methods, plain, test)
    few = [scan for _, scan in reread.scans(tables, test["scan_id"].to_pylist()[:TIMED])]
    spent = {method.uri: costs.costs(method.uri, few) for method in methods}
    rows = table_one.with_costs(rows, tests, methods, spent, proposed)
    output = pages.Output(out)
    page = pages.table_one_page(rows, pages.costs_of(proposed))
    output.table("table_one", rows, page)
    output.table("tests", tests, pages.page_of(tests))
    print(
        f"\n{page}\nheld out {rows[0]['scans']} scans of {rows[0]['patients']} patients; "
        f"written to {out}: table_one.md .csv .parquet, tests.md"
    )


if __name__ == "__main__":
    sys.exit(main())

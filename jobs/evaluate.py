"""Held-out patients and models to Table 1, figures, intervals, repeatability."""

import argparse
import sys
from collections.abc import Sequence

from bae import environment, storage
from bae.errors import after_writing
from bae.pipeline.step import PartDone
from jobs import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "evaluate",
        "Score the held-out patients with each model and write Table 1 and the figures.",
        "python -m jobs.evaluate --tables s3://research/tables"
        " --model s3://research/models/one --out evaluation",
    )
    parser.add_argument("--tables", required=True, metavar="URI", help="root of the tables")
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        metavar="URI",
        dest="models",
        help="model folder; may be repeated",
    )
    parser.add_argument("--out", required=True, metavar="URI", help="folder to write")
    return command.run(parser, _job, argv)


def _job(options: argparse.Namespace) -> None:
    from bae.evaluation import run
    from bae.pipeline.cluster import session

    environment.check()
    storage.check_writable(options.out)
    planned = run.plan(options.tables, options.models, options.out)
    with session.session(), after_writing():
        table = run.evaluate(planned, _progress)
    for unknown in planned.unchecked:
        print(f"not checked: {unknown.text()}")
    print(f"held out   {table[0]['scans']} scans of {table[0]['patients']} patients")
    for row in table:
        interval = (
            ""
            if row["mae_years_low"] is None
            else (f" ({row['mae_years_low']:.2f} to {row['mae_years_high']:.2f})")
        )
        name = f"{row['method']}, {row['sex']} sex"
        print(f"  {name:<44} MAE {row['mae_years']:.2f}{interval} years")
    print(f"written    {storage.join(options.out, 'evaluation.md')}")


def _progress(parts: int, done: PartDone) -> None:
    command.say(f"part {done.number} of {parts}: {done.scans} scans in {done.seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())

"""Keep tables fast and small: put small files together, delete what nobody needs any more."""

import argparse
import sys
from collections.abc import Sequence

from bae.errors import UseError, after_writing
from bae.tables import contract
from jobs import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "maintain",
        "Put small files together and delete files that no recent version needs; weekly will do.",
        "python -m jobs.maintain --tables s3://research/tables",
    )
    parser.add_argument("--tables", required=True, metavar="URI", help="root of the tables")
    parser.add_argument(
        "--keep-days",
        type=int,
        default=contract.KEEP_DAYS,
        metavar="DAYS",
        help=f"days for which old versions stay readable (default {contract.KEEP_DAYS}, "
        "at least 1)",
    )
    parser.add_argument(
        "--give-up",
        metavar="RUN",
        help="also drop this unfinished run for good; a later run reads its objects again",
    )
    return command.run(parser, _job, argv)


def _job(options: argparse.Namespace) -> None:
    from bae.tables import delta, lease, maintain, runs

    if options.keep_days < 1:
        raise UseError("--keep-days must be at least 1: readers of today need today's files")
    if not any(delta.delta(options.tables, name) for name in contract.SCHEMAS):
        raise UseError(f"there are no tables at {options.tables}; check the place")
    if options.give_up:
        maintain.unfinished(options.tables, options.give_up)
    with lease.hold(options.tables, "maintain") as held, after_writing():
        if options.give_up:
            maintain.give_up(options.tables, options.give_up)
            print(f"gave up run {options.give_up}")
        for name, (before, after) in maintain.compact(options.tables, held.check).items():
            print(f"{name:<24} {before} files put together into {after}")
        held.check()
        print(
            f"deleted {maintain.vacuum(options.tables, options.keep_days)} files no longer needed"
        )
        dropped = maintain.drop_abandoned(options.tables, options.keep_days)
        print(f"deleted {dropped} abandoned staging folders")
        for run in runs.unfinished(options.tables):
            aim = "to index" if run.model_id is None else f"for model {run.model_id}"
            left, all_parts = len(run.remaining()), len(run.parts())
            print(f"unfinished run {run.run_id} {aim}: {left} of {all_parts} parts left")


if __name__ == "__main__":
    sys.exit(main())

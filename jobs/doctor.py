"""Would tonight's run work? One line for each thing it needs, with what to do."""

import argparse
import logging
import sys
from collections.abc import Sequence

from bae import storage
from bae.errors import RunError
from jobs import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "doctor",
        "Say in seconds what would make tonight's run fail: places, clock, key, model, memory, "
        "disk, what\nlast night left. Give it the night's flags and environment. Writes nothing "
        "that stays: a probe\nobject below the tables is removed again. Exit code 0: it would "
        "work; 1: something says FAIL.",
        "python -m jobs.doctor --archive s3://hospital/bone-scans --tables s3://research/tables"
        " --model s3://research/models/2026-11",
    )
    parser.add_argument("--archive", required=True, metavar="URI", help="where the objects are")
    parser.add_argument("--tables", required=True, metavar="URI", help="root of the tables")
    parser.add_argument("--model", metavar="URI", help="model folder, where the night scores")
    return command.run(parser, _job, argv)


def _job(options: argparse.Namespace) -> None:
    from bae.doctor import examine, finding
    from bae.tables import delta

    delta.uri(options.tables, delta.LAST)
    for place in (options.archive, options.model):
        if place is not None:
            storage.normal(place)
    ours = logging.getLogger("bae")
    usual = ours.level
    ours.setLevel(logging.ERROR)  # what it would warn of stands in a line
    try:
        found = examine.examine(options.archive, options.tables, options.model)
    finally:
        ours.setLevel(usual)
    print(finding.text(found))
    bad = sum(line.state == finding.FAIL for line in found)
    if bad:
        raise RunError(f"{bad} of {len(found)} lines say FAIL: tonight's run would fail")


if __name__ == "__main__":
    sys.exit(main())

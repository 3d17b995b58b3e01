"""Tables to one HTML page on a cohort and a run."""

import argparse
import sys
from collections.abc import Sequence

from bae import storage
from jobs import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "report",
        "Write one page on a cohort and a run: ages, age gaps, refusals, outliers, drift.",
        "python -m jobs.report --tables s3://research/tables --model s3://research/models/2026-11"
        " --out report.html",
    )
    parser.add_argument("--tables", required=True, metavar="URI", help="root of the tables")
    parser.add_argument("--out", required=True, metavar="URI", help="the page to write")
    parser.add_argument(
        "--model", metavar="URI", help="model folder; default: the model that scored last"
    )
    parser.add_argument("--run", metavar="ID", help="report as of this run (default the last)")
    return command.run(parser, _job, argv)


def _job(options: argparse.Namespace) -> None:
    from bae.report.page import build

    storage.check_writable(options.out)
    page = build(options.tables, options.model, options.run).encode()
    storage.write_bytes(options.out, page)
    print(f"report     {options.out}, {len(page) / 1e6:.1f} MB: open it in any browser")


if __name__ == "__main__":
    sys.exit(main())

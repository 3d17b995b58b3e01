"""Archive to scans table: what is there, whose ages are known, who is in which split."""

import sys
from collections.abc import Sequence

from jobs import _archive, command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "index",
        "Read every new object of an archive and list the scans, without any network.",
        "python -m jobs.index --archive s3://hospital/bone-scans --tables s3://research/tables",
    )
    return _archive.main(parser, argv)


if __name__ == "__main__":
    sys.exit(main())

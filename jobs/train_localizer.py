"""Scans table to localizer: which age group, and where it shows."""

import sys
from collections.abc import Sequence

from jobs import training_job


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    return training_job.main("localizer", argv)


if __name__ == "__main__":
    sys.exit(main())

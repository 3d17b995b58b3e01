"""Scans table to localizer: which age group, and where it shows."""

import sys
from collections.abc import Sequence

from jobs import _training


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    return _training.main("localizer", argv)


if __name__ == "__main__":
    sys.exit(main())

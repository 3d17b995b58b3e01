"""Scans table and localizer to regressor: age from crop and sex."""

import sys
from collections.abc import Sequence

from jobs import _training


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    return _training.main("regressor", argv)


if __name__ == "__main__":
    sys.exit(main())

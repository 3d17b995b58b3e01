"""What the report costs at size: ``python -m tests.bench.report --scans 100000``."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes import many_rows


def main() -> None:
    """Publish made-up scans in eight nights, write the report in a process of its own, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bae-bench-") as root:
        many_rows.publish_nights(root, options.scans, nights=8, refused=options.scans // 800)
        page = Path(root) / "report.html"
        start = time.monotonic()
        command = [sys.executable, "-m", "jobs.report", "--tables", root, "--out", str(page)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = page.stat().st_size / 1e6
    print(f"{options.scans:,} scans: {took:.1f} s, {peak:.0f} MB at most, a page of {size:.2f} MB")


if __name__ == "__main__":
    main()

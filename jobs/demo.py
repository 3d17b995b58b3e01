"""The whole story on one machine: an archive, both trainings, the nightly job, the tables."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bae import command, demo, privacy, ray_session
from bae.errors import RunError
from jobs import index as index_job
from jobs import phantom, predict, train_localizer, train_regressor


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "demo",
        "Run every job once on a local archive: phantoms and the one real scan packages carry.",
        "python -m jobs.demo --folder demo-data",
    )
    parser.add_argument("--folder", default="demo-data", help="made anew (default demo-data)")
    parser.add_argument("--scans", type=int, default=140, help="phantom scans (default 140)")
    return command.run(parser, job, argv)


def job(options: argparse.Namespace) -> None:
    """Chain the jobs as a user would on a command line."""
    # phantoms need no secret, and one key gives one split: every demo tells the same story
    os.environ.setdefault(privacy.KEY_VARIABLE, "every demo has the same people")
    folder = Path(options.folder)
    start = time.monotonic()
    archive, tables, model = (str(folder / name) for name in ("archive", "tables", "model"))
    for name in (archive, tables, model):
        shutil.rmtree(name, ignore_errors=True)
    with ray_session.session():
        _step("phantom", phantom.main, "--archive", archive, "--scans", str(options.scans))
        demo.add_real_scans(archive)
        places = ("--archive", archive, "--tables", tables)
        _step("index", index_job.main, *places)
        # the paper's threshold: small's own is lower and takes nearly the whole body
        gamma = ("--set", "region.gamma=150")
        training = ("--tables", tables, "--model", model, "--recipe", "small", *gamma)
        _step("train_localizer", train_localizer.main, *training)
        _step("train_regressor", train_regressor.main, *training)
        _step("predict", predict.main, *places, "--model", model)
    print()
    print(demo.first_rows(tables))
    picture = folder / "real-scan.png"
    demo.draw_real_scan(archive, tables, picture)
    print(demo.query(tables))
    print(f"\npicture: {picture}\n{time.monotonic() - start:.0f} s in all")


def _step(name: str, step: object, *flags: str) -> None:
    """Run one job as its command line would, and stop if it fails."""
    print(f"\n$ python -m jobs.{name} {' '.join(flags)}", flush=True)
    assert callable(step)
    if step(list(flags)) != 0:
        raise RunError(f"the demo stopped because jobs.{name} failed")


if __name__ == "__main__":
    sys.exit(main())

"""Write a simulated archive of bone scans."""

import argparse
import sys
import time
from collections.abc import Sequence

from bae.pipeline.cluster import monitoring
from jobs import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "phantom",
        "Write an archive of simulated bone scans; what only the simulation knows goes to "
        "_phantom/truth.parquet in it.",
        "python -m jobs.phantom --archive s3://phantoms/bone-scans --scans 4000",
    )
    parser.add_argument("--archive", required=True, help="where to write: a path or s3:// URI")
    parser.add_argument("--scans", required=True, type=_count, help="how many scans")
    parser.add_argument("--seed", type=_seed, default=0, help="which cohort (default 0)")
    parser.add_argument(
        "--world",
        type=_seed,
        default=0,
        help="what is assumed of ageing, people, camera and storage (default 0); every other "
        "number draws all of it anew",
    )
    parser.add_argument(
        "--ages",
        nargs=2,
        type=float,
        metavar=("FROM", "TO"),
        help="youngest and oldest age in years (default: the world's; 40 80 in world 0)",
    )
    parser.add_argument(
        "--matrix",
        type=_matrix,
        metavar="COLUMNSxROWS",
        help="256x1024 as cameras store, 900x3000 as the paper exported (default: the world's; "
        "256x1024 in world 0)",
    )
    parser.add_argument(
        "--mistakes", type=float, default=0.0, help="share of scans with a mistake (default 0)"
    )
    parser.add_argument("--workers", type=_count, help="tasks at once (default: all CPUs)")
    return command.run(parser, monitoring.counted(parser, _write, "bae.phantom.write"), argv)


def _write(options: argparse.Namespace) -> None:
    from bae.phantom import PhantomConfig, limits, write
    from bae.phantom.people import OF_WORLD
    from bae.pipeline.cluster import session

    config = PhantomConfig(
        ages=tuple(options.ages) if options.ages else OF_WORLD,
        columns=options.matrix[0] if options.matrix else OF_WORLD,
        rows=options.matrix[1] if options.matrix else OF_WORLD,
        mistakes=options.mistakes,
        world=options.world,
    )
    known = limits.limits(config)
    with session.session():
        start = time.monotonic()
        bar = command.Progress(options.scans, "phantom", "scans")
        write.write(
            options.archive,
            options.scans,
            seed=options.seed,
            config=config,
            workers=options.workers,
            progress=bar.add,
        )
        bar.close()
        seconds = time.monotonic() - start
    print(
        f"scans        {options.scans} in {seconds:.1f} s, {options.scans / seconds:.1f} per second"
    )
    print(f"archive      {options.archive}")
    print(f"known limit  {known.latent:.2f} years mean absolute error: no method can do better")
    print(f"from uptake  {known.regional:.2f} years: who sees every bone's true uptake, at best")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 1 or more")
    return number


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return number


def _matrix(text: str) -> tuple[int, int]:
    columns, cross, rows = text.partition("x")
    if not (cross and columns.isdecimal() and rows.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} does not look like 256x1024 (columns x rows)")
    return int(columns), int(rows)


if __name__ == "__main__":
    sys.exit(main())

"""Archive and model to ages, boxes, heat maps and rejects. This is the nightly job."""

import sys
from collections.abc import Sequence

from bae import command
from jobs import archive_job


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "predict",
        "Score every scan of an archive that this model has not scored yet.",
        "python -m jobs.predict --archive s3://hospital/bone-scans --tables s3://research/tables"
        " --model s3://research/models/2026-11",
    )
    parser.add_argument("--model", required=True, metavar="URI", help="model folder")
    parser.add_argument(
        "--actors", type=int, metavar="N",
        help="model processes (default: one for each GPU, one where there is none)",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", type=float, metavar="N",
        help="GPUs for each, a share such as 0.5 too (default: 1 where the cluster has any)",
    )  # fmt: skip
    return archive_job.main(parser, argv)


if __name__ == "__main__":
    sys.exit(main())

"""A hospital's archive (PACS) to ours: bone scans over DICOMweb."""

import argparse
import sys
from collections.abc import Sequence
from datetime import date

from bae.dicomweb import address
from bae.errors import RunError
from jobs import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "pull",
        "Fetch the objects of modality NM that an archive does not have yet from a DICOMweb server"
        " (QIDO-RS, WADO-RS);\nwhat is a bone scan is decided when they are read. The same command"
        " goes on where it stopped.\n"
        f"Who asks, from the environment: {address.VARIABLES}.",
        "python -m jobs.pull --dicomweb dicomweb://pacs.hospital/dicom-web"
        " --archive s3://hospital/bone-scans --since 2026-11-01",
    )
    parser.add_argument(
        "--dicomweb",
        required=True,
        metavar="URL",
        help="the server's root: dicomweb://host/path or https://..., without encryption "
        "dicomweb+http://host/path or http://...",
    )
    parser.add_argument("--archive", required=True, metavar="URI", help="where the objects go")
    parser.add_argument(
        "--since",
        type=_day,
        metavar="DATE",
        help="only studies of this day and later, as 2026-11-01",
    )
    parser.add_argument(
        "--description",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only studies whose Study Description matches, as '*bone*', or is not told; repeat "
        "for several (default: all; what a hospital calls them is free text)",
    )
    parser.add_argument(
        "--connections",
        type=int,
        choices=range(1, 17),
        default=address.CONNECTIONS,
        metavar="N",
        help="studies fetched at a time, 1 to 16 (default %(default)s)",
    )
    return command.run(parser, _job, argv)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2026-11-01") from None


def _job(options: argparse.Namespace) -> None:
    from bae.dicomweb import pull
    from bae.dicomweb.server import Server

    source = Server(options.dicomweb)
    bars: list[command.Progress] = []
    done = pull.run(
        source,
        options.archive,
        options.since,
        options.description,
        options.connections,
        lambda studies: bars.append(command.Progress(studies, "pulling", "studies")),
        lambda: bars[0].add(1),
    )
    bars[0].close()
    print(f"fetched    {done[pull.FETCHED]} objects to {options.archive}")
    for kind in (pull.THERE, pull.LEFT):
        if done[kind]:
            print(f"           {done[kind]} {kind}")
    failed = pull.failures(done)
    if failed:
        print(f"failed     {failed.total()}")
        for reason, count in failed.most_common():
            print(f"             {reason:<41} {count}")
        raise RunError(f"{failed.total()} objects could not be had; run again")


if __name__ == "__main__":
    sys.exit(main())

"""Remove one patient from all tables and all files, and prove it."""

import argparse
import sys
from collections.abc import Sequence

from bae.tables import contract
from jobs import command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; see ``--help``."""
    parser = command.Parser(
        "erase",
        "Remove one patient from all tables and all files, old versions included, and prove it.",
        "python -m jobs.erase --tables s3://research/tables"
        " --patient 5f0c2a9e4b7d11d2a3c4e5f60718293a",
    )
    parser.add_argument("--tables", required=True, metavar="URI", help="root of the tables")
    parser.add_argument(
        "--patient", required=True, metavar="KEY", help="the patient's key, as in cohort/ages"
    )
    return command.run(parser, _job, argv)


def _job(options: argparse.Namespace) -> None:
    from bae.tables import erase, lease

    erase.require(options.tables, options.patient)
    with lease.hold(options.tables, "erase") as held:
        erased = erase.erase(options.tables, options.patient, held.check)
    for name, rows in erased.rows.items():
        print(f"{name:<24} {rows} rows removed")
    print(f"{'unfinished runs':<24} {erased.staged} files removed below {contract.STAGING}")
    print(f"{'DICOM exports':<24} {erased.exports} objects removed below {contract.EXPORTS}")
    print(f"searched {erased.files_searched} files: the patient is in none")
    if erased.still_in_archive is None:
        print(
            "the archive is out of reach: if it still holds the patient's objects, delete them "
            "there, or the next run reads them again"
        )
    elif erased.still_in_archive:
        print(
            f"the archive still holds {erased.still_in_archive} of the patient's objects: "
            "delete them there, or the next run reads them again"
        )


if __name__ == "__main__":
    sys.exit(main())

"""Archive and model to ages, boxes, heat maps and rejects. This is the nightly job."""

import argparse
import sys
from collections.abc import Sequence

from bae import storage
from bae.dicomweb import address
from bae.errors import RunError, after_writing
from bae.tables import contract
from jobs import _archive, command


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
        "--actors",
        type=int,
        metavar="N",
        help="model processes (default: one for each GPU, one where there is none)",
    )
    parser.add_argument(
        "--gpus",
        type=float,
        metavar="N",
        help="GPUs for each, a share such as 0.5 too (default: 1 where the cluster has any)",
    )
    parser.add_argument(
        "--export-dicom",
        nargs="?",
        const="",
        metavar="URI",
        help="also write a DICOM report, picture and PDF of each scan, with the patient's name, to "
        f"a place, or to a PACS: dicomweb://host/path; without a place: below {contract.EXPORTS} "
        "of the tables",
    )
    return _archive.main(parser, argv, _export, _check_export)


def _check_export(options: argparse.Namespace) -> None:
    if not options.export_dicom:
        return
    if address.is_one(options.export_dicom):
        from bae.dicomweb.server import Server

        Server(options.export_dicom)
    else:
        storage.check_writable(options.export_dicom)


def _export(options: argparse.Namespace) -> None:
    if options.export_dicom is None:
        return
    # matplotlib and highdicom, which a night without reports does without
    from bae.method import card
    from bae.report.dicom import exports

    target = options.export_dicom or exports.folder(options.tables)
    model_id = card.load_card(options.model).model_id
    bars: list[command.Progress] = []
    with after_writing():
        done = exports.run(
            options.tables,
            options.archive,
            model_id,
            target,
            lambda scans: bars.append(command.Progress(scans, "exporting", "scans")),
            lambda scans: bars[0].add(scans),
        )
    bars[0].close()
    print(f"exported   {done.pop(exports.WRITTEN, 0)} scans to {target}")
    for reason, count in done.most_common():
        print(f"             {reason:<41} {count}")
    refused = sum(n for reason, n in done.items() if reason.startswith(exports.REFUSED))
    if refused:
        raise RunError(f"the server does not take the exports of {refused} scans; ask who runs it")


if __name__ == "__main__":
    sys.exit(main())

"""What ``index`` and ``predict`` share: flags, progress, summary."""

import argparse
import contextlib
import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bae import environment
from bae.archive import refusals
from bae.archive.label_words import DAY_FIRST, MONTH_FIRST, Habits
from bae.pipeline.cluster import monitoring
from bae.pipeline.step import PART_GB, PATIENCE_S, PartDone, Resources
from jobs import command

if TYPE_CHECKING:
    from bae.pipeline import night

LABEL_FLAGS = ("labels", "label_dates", "label_sex", "label_encoding")
"""What ``add_labels`` adds."""


def main(
    parser: command.Parser,
    argv: Sequence[str] | None,
    after: Callable[[argparse.Namespace], None] = lambda options: None,
    before: Callable[[argparse.Namespace], None] = lambda options: None,
) -> int:
    """Run over an archive; with ``--model`` among the flags, score it.

    Args:
        after: what else to do once that is done.
        before: what else to check before anything is written.
    """
    parser.add_argument("--archive", required=True, metavar="URI", help="where the objects are")
    parser.add_argument("--tables", required=True, metavar="URI", help="root of the tables")
    parser.add_argument(
        "--inventory", metavar="URI", help="manifest.json of an S3 Inventory instead of a listing"
    )
    add_labels(parser)
    parser.add_argument(
        "--whole-years",
        action="store_true",
        help="round ages in cohort/ to whole years, not to a tenth; the first run decides",
    )
    parser.add_argument(
        "--max-rejected",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of refused objects above which the job fails (default 0.5)",
    )
    parser.add_argument(
        "--retry-rejected",
        type=_codes,
        action="extend",
        default=[],
        metavar="CODE",
        help="also try again what was refused with this code; comma, or repeat, for several",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="only say what a run would read and about how long it would take; write nothing",
    )
    parser.add_argument(
        "--decode-cpus", type=int, metavar="N", help="CPUs that decode (default: all free ones)"
    )
    parser.add_argument(
        "--object-store-gb",
        type=float,
        metavar="GB",
        help=f"how much of Ray's object store to use (default: {PART_GB:g} for each "
        f"CPU, {4 * PART_GB:g} for each model process, and no more than half of it)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_S / 60,
        metavar="MINUTES",
        help="fail when no part was finished for so long (default %(default)g)",
    )

    def job(options: argparse.Namespace) -> None:
        from bae.pipeline import night

        request = night.Request(
            archive_uri=options.archive,
            tables_uri=options.tables,
            model_uri=getattr(options, "model", None),
            inventory_uri=options.inventory,
            labels_uri=options.labels,
            label_habits=Habits.of(options.label_dates, options.label_sex, options.label_encoding),
            age_decimals=0 if options.whole_years else None,
            max_rejected=options.max_rejected,
            retry_rejected=tuple(options.retry_rejected),
            resources=Resources(
                actors=getattr(options, "actors", 1),
                gpus=getattr(options, "gpus", 0.0),
                decode_cpus=options.decode_cpus,
                object_store_gb=options.object_store_gb,
            ),
            patience_s=60 * options.patience,
        )
        before(options)
        environment.check()
        bars: list[command.Progress] = []

        def on_start(objects: int) -> None:
            what = "scoring" if request.model_uri else "indexing"
            bars.append(command.Progress(objects, what, "objects"))

        def on_part(done: PartDone) -> None:
            bars[0].add(done.scans + done.refused)

        with contextlib.ExitStack() as held:
            asked = request.resources
            if asked.gpus or asked.decode_cpus or (asked.actors or 1) > 1:
                # more than any cluster has: whether it is there must be known before all else
                from bae.pipeline.cluster import resources, session

                held.enter_context(session.session())
                resources.fitted(asked)
            summary = night.run(request, on_start, on_part)
        for bar in bars:
            bar.close()
        _print(request, summary)
        after(options)

    counted = monitoring.counted(parser, job, "bae.pipeline.night", "bae.pipeline.parts")

    def asked(options: argparse.Namespace) -> None:
        # a plan is no job that anybody counts, and needs no Ray
        if options.plan:
            from jobs import _plan

            _plan.show(options)
        else:
            counted(options)

    return command.run(parser, asked, argv)


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a labels file."""
    parser.add_argument("--labels", metavar="FILE", help="CSV or Parquet with ages and sexes")
    parser.add_argument(
        "--label-dates",
        choices=(DAY_FIRST, MONTH_FIRST),
        help="what its dates such as 12/11/1950 mean, where none of them tells",
    )
    parser.add_argument(
        "--label-sex",
        metavar="VALUE=M,VALUE=F",
        help="what numbers and single letters in its column sex mean, such as 1=M,2=F",
    )
    parser.add_argument(
        "--label-encoding",
        metavar="NAME",
        help="of its letters, such as cp850, where it is neither UTF-8, UTF-16 nor Windows-1252",
    )


def labels_argv(options: argparse.Namespace) -> list[str]:
    """Return the flags of a labels file as they were given, for another job."""
    given = {name: getattr(options, name) for name in LABEL_FLAGS}
    flags = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    return [word for flag, value in flags.items() if value is not None for word in (flag, value)]


def _codes(text: str) -> list[str]:
    codes = [code.strip() for code in text.split(",")]
    for code in codes:
        if code not in refusals.REJECT_CODES:
            near = difflib.get_close_matches(code, refusals.REJECT_CODES, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise argparse.ArgumentTypeError(f"there is no code of refusal {code!r}{meant}")
    return codes


def _print(request: "night.Request", summary: "night.Summary") -> None:
    print(
        f"archive    {request.archive_uri}: {summary.listed} objects, "
        f"{summary.done_before} done before"
    )
    if summary.labels:
        print(f"labels     {summary.labels}")
        print(f"read as    {summary.labels_read_as}")
    if summary.corrected:
        print(f"corrected  {summary.corrected} rows of ages")
    if summary.run_id is None:
        print("nothing to do: the tables are up to date")
        return
    if summary.retried:
        print(f"retried    {summary.retried} objects refused before")
    verb = "scored" if request.model_uri else "indexed"
    rate = summary.scans / summary.seconds
    print(f"{verb:<10} {summary.scans} scans in {summary.seconds:.1f} s, {rate:.1f} per second")
    print(f"refused    {summary.refused.total()}")
    for code, count in summary.refused.most_common():
        print(f"             {code:<24} {count}")
    print(f"tables     {request.tables_uri}, run {summary.run_id}")
    for name, rows in summary.rows.items():
        print(f"             {name:<24} {rows} rows added")

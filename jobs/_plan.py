"""``--plan`` of ``index`` and ``predict``: what a run would do, without doing it."""

import argparse

from bae.method import card
from bae.pipeline import plan
from bae.tables.nights import Estimate
from jobs import command


def show(options: argparse.Namespace) -> None:
    """Print what the same command without ``--plan`` will read, and about how long it takes."""
    model = getattr(options, "model", None)
    model_id = None if model is None else card.load_card(model).model_id
    plan.agreed(options.tables, 0 if options.whole_years else None)
    found = plan.plan(
        options.archive,
        options.tables,
        model_id,
        inventory_uri=options.inventory,
        retry_rejected=tuple(options.retry_rejected),
    )
    print(f"archive    {options.archive}: {found.listed} objects, {found.done} done before")
    print(f"new        {found.new}")
    print(f"changed    {found.changed}")
    print(f"retried    {found.retried} objects refused before")
    if model_id is not None:
        print(f"unscored   {found.unscored} objects read before, for model {model_id}")
    print(f"gone       {found.gone} objects that the archive has no more")
    if found.unfinished:
        print(f"run        {found.unfinished} goes on where it stopped")
    print(f"to read    {found.to_read} objects{_time(found)}")
    print("this was a plan: no object was read and nothing was written")


def _time(found: plan.Plan) -> str:
    if not found.to_read:
        return "" if found.unfinished else ": the tables are up to date"
    if found.takes is None:
        return "; how long is not known before a first night has read some"
    return f", {_about(found.takes)}"


def _about(takes: Estimate) -> str:
    nights = "the last night" if takes.nights == 1 else f"the last {takes.nights} nights"
    long = command.duration(takes.seconds)
    if takes.at_most:
        return f"at most about {long}: {nights} read few objects, so mostly started"
    return f"about {long} by {nights}"

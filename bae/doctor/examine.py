"""All checks in one call, each kept from breaking the others."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bae import environment, s3
from bae.doctor import machine, nodes, places, upkeep, weights
from bae.doctor.finding import FAIL, Check, Finding, findings, ok
from bae.method import card

PATIENCE_S = 5.0
"""How long a server that is away is waited for; a night waits longer."""
_PLACE = "check the place, its rights, and AWS_* where it is on S3"
_TABLES = "look at the folder; if a job fails with the same sentence, restore it from a backup"
_KEY = "see README, pseudonyms"


def examine(archive_uri: str, tables_uri: str, model_uri: str | None = None) -> list[Finding]:
    """Return what would make tonight's run fail, what somebody should look at, and what is well.

    Leaves nothing behind: a probe object below the tables is removed again.

    Args:
        archive_uri: listed and read.
        tables_uri: listed, read and written.
        model_uri: read; None where tonight's run only indexes.
    """
    with _impatient(), ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(findings, "archive read", _PLACE, lambda: places.archive(archive_uri)),
            pool.submit(findings, "tables written", _PLACE, lambda: places.tables(tables_uri)),
        ]
        if model_uri is not None:
            checked = lambda: weights.model(model_uri, machine.versions())  # noqa: E731
            asked.append(pool.submit(findings, "model", _PLACE, checked))
        archive, tables, *model = (one.result() for one in asked)
        found = [*archive, *tables, *(line for lines in model for line in lines)]
        if not any(line.state == FAIL for line in tables):
            found += _tables(archive_uri, tables_uri, model_uri)
    return [*found, *_computer()]


def _tables(archive_uri: str, tables_uri: str, model_uri: str | None) -> list[Finding]:
    """Look at tables that can be reached."""

    def unfinished() -> list[Finding]:
        model_id = None if model_uri is None else card.load_card(model_uri).model_id
        return upkeep.unfinished(tables_uri, archive_uri, model_id)

    checks: list[tuple[str, str, Check]] = [
        ("pseudonym key", _KEY, lambda: upkeep.key(tables_uri)),
        ("tables", _TABLES, lambda: upkeep.opened(tables_uri)),
        ("last night", _TABLES, lambda: upkeep.last_night(tables_uri)),
        ("lease", _TABLES, lambda: upkeep.held(tables_uri)),
        ("unfinished runs", _TABLES, unfinished),
        ("staging", _TABLES, lambda: upkeep.abandoned(tables_uri)),
        ("old files", _TABLES, lambda: upkeep.orphans(tables_uri)),
        ("erasures", _TABLES, lambda: upkeep.erasures(tables_uri)),
    ]
    return [line for about, remedy, check in checks for line in findings(about, remedy, check)]


def _computer() -> list[Finding]:
    """Look at this machine, and at the cluster where one is named."""
    about, remedy = "cluster", f"start it, or unset {environment.ADDRESS} to run on this machine"

    def asked() -> list[Finding]:
        if environment.address() in (None, "local"):
            return [ok(about, "none named: Ray starts on this machine")]
        return nodes.cluster()

    here = findings("machine", "look at /proc and /dev", lambda: machine.judged(machine.here()))
    return [*here, *findings(about, remedy, asked)]


@contextmanager
def _impatient() -> Iterator[None]:
    usual = s3.PATIENCE_S
    s3.PATIENCE_S = PATIENCE_S
    try:
        yield
    finally:
        s3.PATIENCE_S = usual

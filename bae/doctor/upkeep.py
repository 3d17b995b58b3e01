"""The tables: their key, who holds them, what was left lying, how the last night ended."""

from datetime import UTC, datetime

from bae import storage
from bae.archive import privacy
from bae.doctor.finding import Finding, ok, warn
from bae.pipeline import plan
from bae.tables import contract, delta, lease, maintain, nights, runs, settings

MAINTAIN = "run jobs.maintain"
_FEW_DAYS = 2
"""A folder that no run owns may be that of a run about to begin."""


def key(tables_uri: str) -> Finding:
    """See that the pseudonym key is there, and that of the tables.

    Raises:
        UseError: there is none, or another one; one sentence says what to do.
    """
    about = "pseudonym key"
    given = privacy.load_key()
    plan.agreed(tables_uri, key=given)
    there = settings.read(tables_uri) is not None
    known = "that of these tables" if there else "there; the first run makes it that of the tables"
    if privacy.is_demo(given):
        return warn(about, f"{known}, but it is the demo key", "give a secret one for real people")
    return ok(about, known)


def opened(tables_uri: str) -> Finding:
    """See that every table opens and fits the contract.

    Raises:
        TablesError, StorageError: one does not.
    """
    found = [name for name in contract.SCHEMAS if delta.delta(tables_uri, name) is not None]
    if not found:
        return ok("tables", "none yet; the first run makes them")
    return ok("tables", f"{len(found)} of {len(contract.SCHEMAS)} are there and open")


def held(tables_uri: str) -> Finding:
    """See whether a run could take the tables now."""
    seen, about = lease.last(tables_uri), "lease"
    if seen is None or seen.state == "released":
        return ok(about, "free")
    since = f"its last sign of life was {_ago(datetime.fromtimestamp(seen.beat, UTC))}"
    who = f"{seen.run_id} on {seen.host}"
    if seen.state == "held":
        return warn(about, f"{who} is at work, {since}", "let it end before another run begins")
    killed = f"{who} ended without letting go, {since}"
    return warn(about, killed, "see why it was killed; the next run takes over by itself")


def unfinished(tables_uri: str, archive_uri: str, model_id: str | None) -> list[Finding]:
    """See which runs were begun and not published; tonight's goes on with its own."""
    about, found = "unfinished runs", []
    for run in runs.unfinished(tables_uri):
        parts, left = run.parts(), len(run.remaining())
        since = f" since {run.begun_at[:8]}" if run.begun_at else ""
        what = f"{run.run_id}{since}, {left} of {len(parts)} parts left"
        if (run.archive_uri, run.model_id) == (storage.normal(archive_uri), model_id):
            found.append(ok(about, f"{what}: tonight's run goes on with it"))
            continue
        why = "another model" if run.archive_uri == storage.normal(archive_uri) else "archive"
        why = "no model" if run.model_id is None else why
        remedy = f"give its command again, or drop it: jobs.maintain --give-up {run.run_id}"
        found.append(warn(about, f"{what}, of {'another ' * (why == 'archive')}{why}", remedy))
    return found or [ok(about, "none")]


def abandoned(tables_uri: str) -> Finding:
    """See which staging folders belong to no run any more."""
    found = maintain.abandoned(tables_uri, _FEW_DAYS)
    if not found:
        return ok("staging", "nothing abandoned")
    return warn(
        "staging",
        f"{len(found)} abandoned folders",
        f"{MAINTAIN}: it deletes them after {contract.KEEP_DAYS} days",
    )


def orphans(tables_uri: str) -> Finding:
    """See how many files no version of the last weeks needs."""
    found = maintain.unneeded(tables_uri)
    if not found:
        return ok("old files", "none to delete")
    days = contract.KEEP_DAYS
    return warn("old files", f"{found} that no version of the last {days} days needs", MAINTAIN)


def erasures(tables_uri: str) -> Finding:
    """See whether an erasure broke off: what it has yet to remove is still there."""
    place = storage.join(storage.normal(tables_uri), contract.ERASING)
    found = storage.list_objects(place).num_rows if storage.exists(place) else 0
    if not found:
        return ok("erasures", "none broken off")
    remedy = f"run jobs.erase again for the keys in {contract.ERASING}"
    return warn("erasures", f"{found} not finished", remedy)


def last_night(tables_uri: str) -> Finding:
    """See when the last night ended, and how."""
    about, found = "last night", nights.last(tables_uri, 1)
    if not found:
        return ok(about, "none is remembered yet")
    [night] = found
    when = f"{night.job} ended {_ago(night.ended)} ({night.ended:%Y-%m-%d %H:%M} UTC)"
    if night.failed:
        remedy = "mend what it names; the same command goes on"
        return warn(about, f"{when}, badly: {night.failed}", remedy)
    counts = f"{night.objects} objects read, {night.scans} scans added, {night.refused} refused"
    return ok(about, f"{when}, well: {counts}, in {night.seconds:.0f} s")


def _ago(then: datetime) -> str:
    seconds = max(0.0, (datetime.now(UTC) - then).total_seconds())
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"

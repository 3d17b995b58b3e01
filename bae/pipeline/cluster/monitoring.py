"""Prometheus metrics, through Ray: every node's metrics port shows them as ``ray_bae_...``.

Counters only, but for one gauge: they add up over workers, nodes and nights, and stay
on the node when the process that counted has gone. A mean is one counter over another.
``infra/monitoring`` has the dashboard and the alerts that read them.
"""

import argparse
import functools
import importlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from bae.errors import BaeError, UseError

if TYPE_CHECKING:  # --help, and a night with nothing new, do without Ray
    from ray.util.metrics import Counter, Gauge

Job = Callable[[argparse.Namespace], None]

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bae_jobs": ("jobs that ended: done, failed, or refused as wrong use", ("job", "outcome")),
    "bae_scans": ("scans that went through a last step", ("step",)),
    "bae_refused": ("objects refused, by code", ("step", "code")),
    "bae_read_bytes": ("bytes of objects read from the archive", ()),
    "bae_stage_seconds": (
        "seconds of parts in each stage: fetch, decode, model, store",
        ("stage",),
    ),
    "bae_model_seconds": ("seconds a model process had a part, or waited", ("step", "state")),
    "bae_age_gap_scans": ("scored scans whose age is known", ()),
    "bae_age_gap_over_years": ("their age gaps above zero, in years, added up", ()),
    "bae_age_gap_under_years": ("their age gaps below zero, in years, added up", ()),
}
"""Counter to description and tags. Prometheus sees ``ray_<name>_total``."""

PARTS_LEFT = "bae_parts_left"
"""Gauge: parts of the run that are not done, while its job lives. ``ray_bae_parts_left``."""


@functools.cache
def _counter(name: str) -> "Counter":
    from ray.util.metrics import Counter

    description, tags = COUNTERS[name]
    return Counter(name, description, tag_keys=tags)


@functools.cache
def _parts_left() -> "Gauge":
    from ray.util.metrics import Gauge

    return Gauge(PARTS_LEFT, "parts of the run that are not done")


def parts_left(parts: int) -> None:
    """Show how many parts are not done."""
    _parts_left().set(parts)


def count(name: str, value: float, **tags: str) -> None:
    """Add to a counter; a value of 0 or less adds nothing."""
    if value > 0:
        _counter(name).inc(value, tags=tags)


class Busy:
    """Counts a process's seconds as busy while any of its threads is in a ``with`` block."""

    def __init__(self, step: str) -> None:
        """Begin idle, in the step of that name."""
        self._step, self._inside = step, 0
        self._since, self._lock = time.monotonic(), threading.Lock()

    def __enter__(self) -> None:
        """Begin work."""
        self._changed(+1)

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._changed(-1)

    def _changed(self, by: int) -> None:
        with self._lock:
            now, state = time.monotonic(), "busy" if self._inside else "idle"
            count("bae_model_seconds", now - self._since, step=self._step, state=state)
            self._since, self._inside = now, self._inside + by


def stored(step: str, scans: int, rows: pa.Table) -> None:
    """Count a part's scans, and the refusals and age gaps among the rows it stored."""
    count("bae_scans", scans, step=step)
    if "reject" in rows.schema.names:
        codes = pc.struct_field(rows["reject"], "code").drop_null()
        for entry in codes.value_counts().to_pylist():
            count("bae_refused", entry["counts"], step=step, code=entry["values"])
    if "age" in rows.schema.names:
        predicted = pc.struct_field(rows["age"], "predicted_age_years")
        gaps = pc.subtract(predicted, pc.struct_field(rows["scan"], "age_years")).drop_null()
        count("bae_age_gap_scans", len(gaps))
        over = pc.sum(pc.max_element_wise(gaps, 0.0)).as_py() or 0.0
        count("bae_age_gap_over_years", over)
        count("bae_age_gap_under_years", over - (pc.sum(gaps).as_py() or 0.0))


def counted(parser: argparse.ArgumentParser, job: Job, *modules: str) -> Job:
    """Return a job that also counts its end on its cluster: done, failed, or refused.

    The job then has one connection to its cluster from beginning to end. Without
    ``RAY_ADDRESS`` nobody would look, and nothing is counted; nor is an interruption,
    which somebody wanted.

    Args:
        modules: what the job will import. It is imported before the job connects: another node
            on this machine may then unpack the submitted folder once more, and for a moment
            there is nothing to import.
    """
    name = parser.prog.rpartition(".")[2]

    def counting(options: argparse.Namespace) -> None:
        from bae.pipeline.cluster import session

        for module in modules:
            importlib.import_module(module)
        with session.session():
            try:
                job(options)
            except BaeError as error:
                outcome = "refused" if isinstance(error, UseError) else "failed"
                count("bae_jobs", 1, job=name, outcome=outcome)
                raise
            count("bae_jobs", 1, job=name, outcome="done")

    return counting if os.environ.get("RAY_ADDRESS", "").strip() else job

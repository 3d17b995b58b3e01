"""Stand-ins for the decode task and a step: some objects kill the worker that has them.

The decode task kills itself over an object with ``DEADLY`` in its bytes, or named by the file
``LIST`` beside it, and finds the archive out of reach over one with ``OUTAGE``; the step over an
object whose name begins with "deadly".

``python -m tests.fakes.deadly all|nodes FLAGS`` runs ``jobs.predict``, with parts of four, where
such an object takes the whole node along: all of Ray there is, or one node of a cluster of eight.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bae.archive import intake
from bae.archive.intake import Decoded
from bae.errors import StorageError
from bae.pipeline import parts
from bae.pipeline.rows import Index

DEADLY, OUTAGE = b"kills whoever decodes it", b"its storage does not answer"
LIST = ".deadly"
"""Names of objects, one a line; listings leave it out."""

_decode_part = parts._decode_part


def decode_part(objects: pa.Table, **given: Any) -> pa.Table:
    """Be ``parts._decode_part``, in a worker whose decoder obeys the bytes."""
    parts.decode = _obey
    return _decode_part(objects, **given)


def decode_with_node(objects: pa.Table, **given: Any) -> pa.Table:
    """Be ``parts._decode_part`` in a worker that takes its node along."""
    raylet = os.getppid()
    assert "raylet" in Path(f"/proc/{raylet}/comm").read_text(), "else it has died before"
    parts.decode = functools.partial(_obey, victim=raylet)
    return _decode_part(objects, **given)


def _obey(
    entry: dict[str, Any], content: Any, *rest: Any, victim: int | None = None, **named: Any
) -> Iterator[Decoded]:
    path = Path(entry["object_uri"])
    listed = path.with_name(LIST)
    named_there = listed.exists() and path.name in listed.read_text().split()
    if named_there or (isinstance(content, bytes) and DEADLY in content):
        for process in filter(None, (victim, os.getpid())):
            os.kill(process, signal.SIGKILL)
    if isinstance(content, bytes) and OUTAGE in content:
        raise StorageError("the archive is out of reach")
    return intake.decode(entry, content, *rest, **named)


@dataclass(kw_only=True, eq=False)
class DeadlyStep(Index):
    """Index, but for objects whose name begins with "deadly"."""

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        """Die of some."""
        if any("/deadly" in item.object_uri for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().rows(items)


def main() -> int:
    """Run the job with the flags behind the first."""
    from bae.tables import runs
    from jobs import predict
    from tests.fakes import deadly, faulty_night

    what, *flags = sys.argv[1:]
    runs.PART_OBJECTS = 4
    parts._decode_part = deadly.decode_with_node
    if what == "all":
        return predict.main(flags)
    cluster = faulty_night.cluster_of(head_cpus=0, others=7)
    try:
        return predict.main(flags)
    finally:
        with contextlib.suppress(Exception):  # some of its nodes are gone
            faulty_night.end(cluster)


if __name__ == "__main__":
    sys.exit(main())

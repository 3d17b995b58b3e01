"""Export predictions as DICOM, many at once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator

import ray

from bae import exports, lease, ray_session
from bae.exports import Row

PIECE = 16
"""Scans per task: about half a minute of work, repeated at most if a worker is killed."""


def run(
    tables_uri: str,
    archive_uri: str,
    model_id: str,
    target: str,
    on_start: Callable[[int], None] = lambda scans: None,
    on_piece: Callable[[int], None] = lambda scans: None,
) -> Counter[str]:
    """Write what is missing; the same call after a fault goes on with the rest.

    Args:
        tables_uri: root of the tables.
        archive_uri: where the scans are.
        model_id: whose predictions.
        target: where the exports go.
        on_start: called with the number of scans to export.
        on_piece: called with the number of scans just done.

    Returns:
        ``exports.WRITTEN`` or the reason why not, to the number of scans.

    Raises:
        LockedError: another run holds the tables.
    """
    done: Counter[str] = Counter()
    with lease.hold(tables_uri, "export") as held:
        left = exports.missing(tables_uri, archive_uri, model_id, target)
        pieces = [left[i : i + PIECE] for i in range(0, len(left), PIECE)]
        on_start(len(left))
        for piece in _done(tables_uri, model_id, target, pieces):
            held.check()
            on_piece(piece.total())
            done += piece
    return done


def _done(
    tables_uri: str, model_id: str, target: str, pieces: list[list[Row]]
) -> Iterator[Counter[str]]:
    """Yield what became of each piece in order, as many under way as there are CPUs."""
    if len(pieces) < 2:  # not worth starting Ray for
        yield from (exports.write(tables_uri, model_id, target, piece) for piece in pieces)
        return
    with ray_session.session():
        under_way: deque[ray.ObjectRef] = deque()
        for piece in pieces:
            if len(under_way) == ray_session.cpus():
                yield ray.get(under_way.popleft())
            under_way.append(_write.remote(tables_uri, model_id, target, piece))
        while under_way:
            yield ray.get(under_way.popleft())


_write = ray.remote(num_cpus=1, max_retries=2)(exports.write)

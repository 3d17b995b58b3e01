"""Write a simulated archive in parallel with Ray."""

from collections import deque
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from bae import phantom, storage
from bae.errors import after_writing
from bae.phantom.archive import ABOUT, TRUTH, about, schema, table
from bae.phantom.world import world
from bae.pipeline.cluster import resources

PIECE = 8
"""Scans per task: a second or two of work."""


def write(
    archive: str,
    scans: int,
    *,
    seed: int,
    config: phantom.PhantomConfig,
    workers: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Write scans 0 to ``scans`` - 1 of a cohort, their truth, and what is known of them.

    Few pieces are under way at once and truth is appended as they end, in order:
    memory does not grow with the number of scans, and the bytes do not depend on
    the number of workers.

    Args:
        archive: URI of the archive; objects of the same name are replaced.
        scans: how many scans.
        seed: which cohort.
        config: what it is made of.
        workers: tasks at once; all CPUs if None.
        progress: called with the number of scans just written.

    Raises:
        StorageError: the archive cannot be written at all.
        RunError: from some scan on it could not be written any more.
    """
    storage.write_bytes(storage.join(archive, *ABOUT), about(scans, seed, config))
    filesystem, path = storage.pyarrow_filesystem(storage.join(archive, *TRUTH))
    columns = schema(world(config.world).effects)
    with (
        after_writing(),
        filesystem.open_output_stream(path) as sink,
        pq.ParquetWriter(sink, columns, compression="zstd") as writer,
    ):
        for rows in _pieces(archive, scans, seed, config, workers or resources.cpus()):
            writer.write_table(rows)
            progress(len(rows))


def _pieces(
    archive: str, scans: int, seed: int, config: phantom.PhantomConfig, workers: int
) -> Iterator[pa.Table]:
    """Yield the truth of each piece in order, at most ``workers`` pieces being written."""
    under_way: deque[ray.ObjectRef] = deque()
    for start in range(0, scans, PIECE):
        if len(under_way) == workers:
            yield ray.get(under_way.popleft())
        stop = min(start + PIECE, scans)
        under_way.append(_write_remote.remote(archive, start, stop, seed, config))
    while under_way:
        yield ray.get(under_way.popleft())


def write_piece(
    archive: str, start: int, stop: int, seed: int, config: phantom.PhantomConfig
) -> pa.Table:
    """Write scans ``start`` to ``stop`` - 1 and return their truth."""
    rows = []
    for k in range(start, stop):
        scan = phantom.make(k, seed=seed, config=config)
        packed = phantom.pack(scan, seed=seed, config=config)
        for name, data in packed.objects:
            storage.write_bytes(storage.join(archive, name), data)
        rows.append((scan, [name for name, _ in packed.objects], packed.mistake))
    return table(rows)


_write_remote = ray.remote(num_cpus=1, max_retries=2)(write_piece)

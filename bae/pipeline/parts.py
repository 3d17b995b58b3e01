"""Ray Data round the library: parts of a to-do list in, one stored table per part out.

A *part* is a numbered table of a few dozen objects. Whoever finishes a part stores its
table as one whole object, so a broken job goes on where it stopped (see ``bae.tables.runs``).
Indexing, scoring and both training sets go the same way and differ in their ``Step``::

    where      what runs there
    driver     run_parts: hands parts out, yields each that is done
    tasks      _decode_part: fetch, decode, pseudonyms
    actors     _Actor: step.load() once, then step.rows() and step.store() for each part

A part whose workers die again and again comes back as lost and costs the others nothing;
``bae.pipeline.cluster.deaths`` says what becomes of it.
"""

import functools
import pickle
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from bae import malloc, storage
from bae.archive import privacy
from bae.archive.files import bounds
from bae.archive.intake import Decoded, decode, fetch
from bae.archive.sandbox import Decoder
from bae.errors import RunError
from bae.pipeline.cluster import deaths, monitoring, session
from bae.pipeline.step import PATIENCE_S, PartDone, Reading, Resources, Step
from bae.scan import Scan

PARTS_AT_ONCE = 2
"""Parts in the hands of one actor: while the networks have one, another is unpacked or
stored. Steps are called from as many threads."""

FETCH_THREADS = 8
"""Objects fetched at once by one decode task; S3 answers in about 30 ms, so one is slow."""


_DONE = pa.schema(
    {
        "number": pa.int64(),
        "scans": pa.int64(),
        "refused": pa.int64(),
        "seconds": pa.float64(),
        "lost": pa.bool_(),
    }
)


def run_parts(
    parts: Mapping[int, pa.Table],
    reading: Reading,
    step: Step,
    *,
    resources: Resources | None = None,
    patience_s: float = PATIENCE_S,
    alone: bool = False,
    notes: deaths.Notes | None = None,
) -> Iterator[PartDone]:
    """Do all parts, and yield each as it is done or lost, in no particular order.

    Args:
        parts: number to objects, with the columns of ``storage.LISTING``.
        resources: what ``resources.fitted`` returned; by default one process without GPU.
        alone: decode one part after the other, in one process, and take the next step in one,
            too: what dies then has died of one of two parts.
        notes: where to note what is in hand, in case that the job vanishes; None: nowhere.

    Raises:
        RunError: no part was finished for ``patience_s`` seconds.
    """
    if not parts:
        return
    taken = resources or Resources(gpus=0.0)
    ledger = deaths.open_ledger(notes)
    # one table is one block is one task
    blocks = ray.data.from_arrow([_numbered(n, objects) for n, objects in parts.items()])
    if taken.object_store_gb is not None:
        options = blocks.context.execution_options
        options.resource_limits = options.resource_limits.copy(
            object_store_memory=taken.object_store_gb * 2**30
        )
    decoded = blocks.map_batches(
        _decode_part,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"reading": reading, "ledger": ledger},
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=1 if alone else taken.decode_cpus),
    )
    done = decoded.map_batches(
        _Actor,
        # None does not copy the pixels, but Ray insists on a number where GPUs are asked for
        batch_size=1 if taken.gpus else None,
        batch_format="pyarrow",
        fn_constructor_args=(step, ledger),
        compute=ray.data.ActorPoolStrategy(
            size=1 if alone else taken.actors or 1,
            max_concurrent_calls_per_actor=1 if alone else PARTS_AT_ONCE,
            enable_true_multi_threading=True,
        ),
        num_cpus=1 if taken.gpus else 0,
        num_gpus=taken.gpus or None,
    )
    monitoring.parts_left(len(parts))
    # iter_rows would hand over each part only once the next is done
    batches = done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    left = len(parts)
    for batch in session.watched(batches, patience_s):
        left -= batch.num_rows
        monitoring.parts_left(left)
        yield from (PartDone(**row) for row in batch.to_pylist())


def _numbered(number: int, objects: pa.Table) -> pa.Table:
    numbers = pa.array([number] * objects.num_rows, pa.int64())
    return objects.select(storage.LISTING.names).append_column("number", numbers)


def _decode_part(objects: pa.Table, reading: Reading, ledger: Any = None) -> pa.Table:
    """Fetch and decode the objects of one part; runs as a Ray task."""
    entries = objects.to_pylist()
    if not entries:  # Ray Data probes schemas with an empty block
        return _PACKED.empty_table()
    number = entries[0]["number"]
    with deaths.in_hand(ledger, number, "decode") as allowed:
        return _packed(number, _decoded(entries, reading) if allowed else None)


def _decoded(entries: list[dict[str, Any]], reading: Reading) -> list[Decoded]:
    decoder = _decoder(reading.limit_s)
    key = privacy.load_key()
    if privacy.fingerprint(key) != reading.settings.key_fingerprint:
        raise RunError(f"{socket.gethostname()} has another pseudonym key than the driver")
    items: list[Decoded] = []
    start, waited, read_bytes = time.monotonic(), 0.0, 0
    left = bounds.LARGEST_PART_BYTES
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        contents = pool.map(lambda one: fetch(one["object_uri"], one["size_bytes"]), entries)
        for entry in entries:
            asked = time.monotonic()
            content = next(contents)
            waited += time.monotonic() - asked
            read_bytes += len(content) if isinstance(content, bytes) else 0
            some = list(
                decode(
                    entry,
                    content,
                    decoder,
                    key,
                    reading.labels,
                    issuers=reading.settings.issuers,
                    decoded_bytes=min(left, bounds.LARGEST_DECODED_BYTES),
                )
            )
            left -= sum(bounds.decoded_bytes(item.outcome) for item in some)
            items += some
    monitoring.count("bae_stage_seconds", waited, stage="fetch")
    decoding = time.monotonic() - start - waited
    monitoring.count("bae_stage_seconds", decoding, stage="decode")
    monitoring.count("bae_read_bytes", read_bytes)
    return items


_PACKED = pa.schema(
    {"number": pa.int64(), "items": pa.binary(), "pixels": pa.list_(pa.large_binary())}
)


def _packed(number: int, items: list[Decoded] | None) -> pa.Table:
    """Return a part's decoded objects as one row, pixels apart: nothing copies them needlessly.

    None stands for a part that is lost.
    """
    pixels: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(items, protocol=5, buffer_callback=pixels.append)
    views = pa.concat_arrays([_binary(b""), *(_binary(each.raw()) for each in pixels)])
    listed = pa.ListArray.from_arrays(pa.array([1, len(views)], pa.int32()), views)
    return pa.table([[number], [pickled], listed], schema=_PACKED)


def _binary(data: bytes | memoryview) -> pa.LargeBinaryArray:
    """Wrap bytes; ``pa.array`` would copy a memoryview's and never let go of it (pyarrow 26.0)."""
    ends = np.array([0, len(data)], np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, buffers)


def _unpacked(row: pa.Table) -> list[Decoded] | None:
    """Undo ``_packed``; views' counts stay in the row's memory, which nobody may write to."""
    # our own pickle, made by _decode_part in this job; it never touches storage
    pixels = [each.as_buffer() for each in row["pixels"][0].values]
    items: list[Decoded] | None = pickle.loads(row["items"][0].as_buffer(), buffers=pixels)
    return items


@functools.cache
def _decoder(limit_s: float) -> Decoder:
    """Keep one decoding child per Ray worker process: starting one costs more than a part."""
    malloc.keep_freed()
    return Decoder(limit_s=limit_s)


class _Actor:
    """Process that turns decoded parts into stored tables, by one step."""

    def __init__(self, step: Step, ledger: Any = None) -> None:
        step.load()
        self.step = step
        self.ledger = ledger
        self.busy = monitoring.Busy(step.name)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [batch.slice(i, 1) for i in range(batch.num_rows)]
        with self.busy:
            return pa.Table.from_pylist([asdict(self._done(row)) for row in rows], _DONE)

    def _done(self, row: pa.Table) -> PartDone:
        number = row["number"][0].as_py()
        with deaths.in_hand(self.ledger, number, "step") as allowed:
            items = _unpacked(row) if allowed else None
            if items is None:
                return PartDone(number=number, scans=0, refused=0, seconds=0.0, lost=True)
            return self._stored(number, items)

    def _stored(self, number: int, items: list[Decoded]) -> PartDone:
        start = time.monotonic()
        rows = self.step.rows(items)
        stepped = time.monotonic()
        self.step.store(number, rows)
        stored = time.monotonic()
        scans = sum(isinstance(item.outcome, Scan) for item in items)
        monitoring.count("bae_stage_seconds", stepped - start, stage="model")
        monitoring.count("bae_stage_seconds", stored - stepped, stage="store")
        monitoring.stored(self.step.name, scans, rows)
        return PartDone(
            number=number, scans=scans, refused=len(items) - scans, seconds=stored - start
        )

"""Does cost grow linearly? ``python -m tests.bench.scaling memory|actors|cluster``.

- ``memory``: most memory of the job's process tree for archives of growing size.
- ``actors``: scans per second at 1, 2 and 4 model processes on this machine.
- ``cluster``: the same on four local Ray nodes, up to the equivalent of 64 GPUs.

The last two have a stand-in for the model that sleeps for as long as a GPU would take, and
parts without pixels: what is left is what the driver, Ray's scheduling and storage cost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from bae import recipes, storage
from bae.archive.intake import Decoded
from bae.bench import meter, night, stages
from bae.pipeline import parts as pipeline_parts
from bae.pipeline.cluster import session
from bae.pipeline.rows import Index
from bae.pipeline.step import Reading, Resources
from bae.tables import runs
from tests.fakes import ray_cluster

GPU_SCANS_PER_S = 300.0
"""Of the stand-in: 123 GFLOP a scan at about 40 TFLOP/s, a small GPU's bf16."""
MOST_PARTS = 2000


@dataclass(kw_only=True)
class Sleeper(Index):
    """A step that takes a GPU's time."""

    name: ClassVar[str] = "Sleeper"
    seconds_per_scan: float

    def rows(self, items: Sequence[Decoded]) -> pa.Table:
        time.sleep(self.seconds_per_scan * len(items))
        return super().rows(items)


def _rate(folder: Path, actors: int, gpus_each: int, seconds: float) -> tuple[float, float]:
    """Return scans per second in the steady state, and what the stand-ins could do at most."""
    best = actors * gpus_each * GPU_SCANS_PER_S
    parts = min(MOST_PARTS, max(8 * actors, int(seconds * best / runs.PART_OBJECTS)))
    # twice the GPUs in a process: half the time; two parts at once share it
    each = pipeline_parts.PARTS_AT_ONCE / (gpus_each * GPU_SCANS_PER_S)
    names = [f"{folder}/none/{i}" for i in range(runs.PART_OBJECTS)]
    objects = pa.table([names, ["e"] * len(names), [1] * len(names)], schema=storage.LISTING)
    run = runs.Run(tables_uri=str(folder / f"t-{time.time()}"), run_id="r", archive_uri="a")
    ends = [
        time.monotonic()
        for _ in pipeline_parts.run_parts(
            dict.fromkeys(range(parts), objects),
            Reading.of(str(folder)),
            Sleeper(run=run, seconds_per_scan=each),
            resources=Resources(actors=actors, gpus=0.0),
        )
    ]
    # model processes start one after the other, and end with a few of them idle
    first, last = len(ends) // 3, -2 * actors - 1
    took = ends[last] - ends[first]
    return runs.PART_OBJECTS * (len(ends) + last - first) / took, best


def _table(shapes: Sequence[tuple[int, int]], seconds: float) -> None:
    print(f"{os.cpu_count()} CPU cores in all; {GPU_SCANS_PER_S:g} scans/s for each GPU")
    print(f"{'actors':>8}{'GPUs':>8}{'scans/s':>10}{'at most':>10}{'share':>8}{'in 8 hours':>14}")
    with tempfile.TemporaryDirectory(prefix="bae-scaling-") as folder, session.session():
        for actors, gpus_each in shapes:
            got, best = _rate(Path(folder), actors, gpus_each, seconds)
            print(
                f"{actors:8}{actors * gpus_each:8}{got:10.0f}{best:10.0f}{got / best:8.2f}"
                f"{got * 8 * 3600:14,.0f}",
                flush=True,
            )


def _on_cluster(nodes: int, shapes: str, seconds: float) -> None:
    """Submit this module, as any job of a cluster."""
    with ray_cluster.cluster(PYTHONPATH=str(ray_cluster.ROOT)) as cluster:
        for _ in range(nodes):
            cluster.add(2)
        words = ["-m", "tests.bench.scaling", "inside", "--shapes", shapes]
        done = cluster.submit(*words, "--seconds", str(seconds))
        lines = done.stdout.splitlines()
        ours = [
            line
            for line in lines
            if "INFO" not in line and "SUCC" not in line and "entrypoint" not in line
        ]
        print(f"{nodes} nodes;", "\n".join(ours if not done.returncode else lines))


def _memory(sizes: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory(prefix="bae-scaling-") as folder:
        home = Path(folder)
        model_uri = stages.untrained(home / "model", recipes.recipe("small"))
        objects = stages.phantoms(256, 1024)
        print(f"small, 256x1024, {os.cpu_count()} CPU cores\n{'scans':>8}{'peak GB':>9}{'s':>8}")
        for size in sizes:
            archive = storage.join(str(home), f"archive-{size}")
            stages.write_copies(archive, objects, size)
            command = night.predict_command(archive, f"{home}/tables-{size}", model_uri)
            with (
                subprocess.Popen(command, stdout=subprocess.DEVNULL) as job,
                meter.measured(job.pid) as cost,
            ):
                if job.wait():
                    raise SystemExit("the job failed")
            print(f"{size:8}{cost.peak_bytes / 1e9:9.2f}{cost.wall_s:8.0f}", flush=True)
            storage.delete(archive)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["memory", "actors", "cluster", "inside"])
    parser.add_argument("--scans", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--shapes", default="", help="of 'inside': actors x GPUs for each")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each row, about")
    options = parser.parse_args()
    if options.what == "memory":
        _memory(options.scans)
    elif options.what == "actors":
        _on_cluster(1, "1x1 2x1 4x1", options.seconds)
    elif options.what == "cluster":
        _on_cluster(4, "1x1 2x1 4x1 8x1 8x2 8x4 8x8", options.seconds)
    else:
        shapes = [shape.split("x") for shape in options.shapes.split()]
        _table([(int(actors), int(gpus)) for actors, gpus in shapes], options.seconds)


if __name__ == "__main__":
    main()

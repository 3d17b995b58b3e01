"""What a computer has: packages, processors, memory, shared memory, disk, the pseudonym key."""

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from bae import environment
from bae.archive import privacy
from bae.doctor.finding import Finding, fail, ok, warn
from bae.errors import BaeError

LEAST_MEMORY_GB, GOOD_MEMORY_GB = 2.6, 5.2
"""What a night of recipe ``small`` at 100 scans takes, and one of ``paper`` at 10,000 (README)."""
GOOD_SHARED_GB = 0.5
"""Parts on their way to one model process on two CPUs: ``pipeline.cluster.resources``."""
LEAST_DISK_GB, GOOD_DISK_GB = 0.5, 2.0
"""Logs and a night's sorting, and room for what is spilled."""
_FULL = 0.95
"""Above this share of a disk Ray spills no more (``local_fs_capacity_threshold``)."""
_PACKAGES = ("bae", "torch", "ray", "pyarrow", "deltalake", "duckdb")
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Room below a folder, bytes."""

    folder: str
    free: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was found on one computer. Plain values: it travels from a cluster's nodes.

    Attributes:
        memory, shared: bytes that are free, of memory and of ``/dev/shm``; None: not known.
        ray, duckdb: where they keep what does not fit; None where there is no such folder.
        problem: what keeps Ray from starting here, or empty.
        fingerprint: of the pseudonym key, see ``privacy.fingerprint``; empty without one.
    """

    host: str
    cpus: int
    gpus: int
    memory: int | None
    shared: int | None
    ray: Disk | None
    duckdb: Disk | None
    problem: str = ""
    fingerprint: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def here() -> Machine:
    """Look at the computer that this process runs on."""
    problem, ray = "", None
    try:
        environment.check()
        ray = _disk(environment.place())
    except BaeError as error:
        problem = str(error)
    try:
        fingerprint = privacy.fingerprint(privacy.load_key())
    except BaeError:
        fingerprint = ""
    try:
        duckdb = _disk(Path(tempfile.gettempdir()))
    except OSError:
        duckdb = None
    return Machine(
        host=socket.gethostname(),
        cpus=len(os.sched_getaffinity(0)),
        gpus=len(list(Path("/dev").glob("nvidia[0-9]*"))),
        memory=_memory(),
        shared=shutil.disk_usage("/dev/shm").free if environment.shared_memory() else None,
        ray=ray,
        duckdb=duckdb,
        problem=problem,
        fingerprint=fingerprint,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide; those that are not installed are absent."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def judged(machine: Machine) -> list[Finding]:
    """Say whether a night can run on such a computer, alone or as a node of a cluster."""
    gpus = f"{machine.gpus} GPUs" if machine.gpus else "no GPU, so networks run on CPUs"
    found = [
        ok("processors", f"{machine.cpus} CPUs, {gpus}"),
        memory(machine.memory),
        shared(machine.shared),
        disk("Ray's disk", machine.ray, "RAY_TMPDIR"),
        disk("DuckDB's disk", machine.duckdb, "TMPDIR"),
    ]
    if machine.problem:
        found[3] = fail("Ray's disk", machine.problem, "set what the sentence names")
    return found


def memory(free: int | None) -> Finding:
    """Judge the bytes of memory that are free."""
    about, remedy = "memory", "end what takes it, or give the machine or container more"
    if free is None:
        return ok(about, "how much is free is not known here")
    if free < LEAST_MEMORY_GB * _GB:
        said = f"{free / _GB:.1f} GB free, a night takes {LEAST_MEMORY_GB} at the least"
        return fail(about, said, remedy)
    if free < GOOD_MEMORY_GB * _GB:
        said = f"{free / _GB:.1f} GB free, full-size networks take {GOOD_MEMORY_GB}"
        return warn(about, said, remedy)
    return ok(about, f"{free / _GB:.1f} GB free")


def shared(free: int | None) -> Finding:
    """Judge the bytes of shared memory that are free: without it Ray takes the disk."""
    about, remedy = "shared memory", "give the container more, such as --shm-size=2g"
    if free is None:
        return warn(about, "/dev/shm cannot be written; Ray takes the disk, which is slow", remedy)
    if free < GOOD_SHARED_GB * _GB:
        said = f"{free / _GB:.2f} GB free in /dev/shm; Ray takes the disk for more, which is slow"
        return warn(about, said, remedy)
    return ok(about, f"{free / _GB:.1f} GB free in /dev/shm")


def disk(about: str, found: Disk | None, variable: str) -> Finding:
    """Judge the room below a temporary folder."""
    remedy = f"free some, or name a folder on a larger disk by {variable}"
    if found is None:
        return fail(about, "there is no temporary folder that can be written", f"set {variable}")
    free = found.free / _GB
    said = f"{free:.1f} GB free below {found.folder}"
    if free < LEAST_DISK_GB:
        return fail(about, said, remedy)
    if free < GOOD_DISK_GB or found.total - found.free > _FULL * found.total:
        return warn(about, f"{said}, {1 - found.free / max(1, found.total):.0%} full", remedy)
    return ok(about, said)


def _disk(folder: Path) -> Disk:
    there = folder
    while not there.exists():
        there = there.parent
    usage = shutil.disk_usage(there)
    return Disk(folder=str(folder), free=usage.free, total=usage.total)


def _memory() -> int | None:
    """Return the bytes that are free, of the machine and of this process's own control groups."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        told = {line.split(":")[0]: line.split(":")[1].split()[0] for line in lines}
        found.append(1024 * int(told["MemAvailable"]))
    except (OSError, LookupError, ValueError):
        pass
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit, now = (Path("/sys/fs/cgroup", name).read_text() for name in (most, used))
            found.append(int(limit) - int(now))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(found, default=None)

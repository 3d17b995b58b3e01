"""What a computer has, judged; what a cluster's nodes have, beside it."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from bae.doctor import machine, nodes
from bae.doctor.finding import FAIL, OK, WARN
from bae.doctor.machine import Disk, Machine

GB = 10**9
FIT = Machine(
    host="one",
    cpus=2,
    gpus=0,
    memory=16 * GB,
    shared=4 * GB,
    ray=Disk(folder="/tmp", free=50 * GB, total=100 * GB),
    duckdb=Disk(folder="/tmp", free=50 * GB, total=100 * GB),
    fingerprint="f" * 32,
    versions={"python": "3.11.7", "ray": "2.60.0", "torch": "2.15.0"},
)


@pytest.mark.parametrize(
    ("free", "state"), [(None, OK), (1 * GB, FAIL), (3 * GB, WARN), (16 * GB, OK)]
)
def test_memory(free: int | None, state: str) -> None:
    """Too little for any night, for a full-size one, enough."""
    assert machine.memory(free).state == state


@pytest.mark.parametrize(("free", "state"), [(None, WARN), (64 * 2**20, WARN), (GB, OK)])
def test_shared_memory_is_never_needed(free: int | None, state: str) -> None:
    """Docker's 64 MB make a night slow, no more."""
    assert machine.shared(free).state == state


@pytest.mark.parametrize(
    ("disk", "state"),
    [
        (None, FAIL),
        (Disk(folder="/t", free=GB // 10, total=100 * GB), FAIL),
        (Disk(folder="/t", free=GB, total=10 * GB), WARN),
        (Disk(folder="/t", free=30 * GB, total=1000 * GB), WARN),
        (Disk(folder="/t", free=30 * GB, total=100 * GB), OK),
    ],
)
def test_disk(disk: Disk | None, state: str) -> None:
    """None, hardly any, little, more than 95 % full, enough."""
    assert machine.disk("disk", disk, "TMPDIR").state == state


def test_this_machine_is_looked_at() -> None:
    """Its facts are those of the system's own tools."""
    found = machine.here()
    assert found.cpus >= 1 and found.ray is not None and found.ray.free > 0
    assert found.memory is not None and 0 < found.memory < 2**50
    assert {"python", "torch", "ray"} <= set(found.versions)
    assert len(found.fingerprint) == 32 and not found.problem


def test_nodes_are_judged_beside_the_driver() -> None:
    """A fit one is one line; each thing amiss is one."""
    assert [one.state for one in nodes.judged([FIT], FIT)] == [OK]
    keyless, other = replace(FIT, fingerprint=""), replace(FIT, fingerprint="e" * 32)
    older = replace(FIT, host="two", versions=FIT.versions | {"ray": "2.59.0", "torch": "2.14.0"})
    small = replace(FIT, memory=GB)
    found = nodes.judged([keyless, other, older, small], FIT)
    assert [(one.about, one.state) for one in found] == [
        ("node one", FAIL),
        ("node one", FAIL),
        ("node two", FAIL),
        ("node two", WARN),
        ("node one", FAIL),
    ]
    assert "no pseudonym key" in found[0].found and "another" in found[1].found
    assert "ray 2.59.0, here 2.60.0" in found[2].found and "memory" in found[4].found


def test_a_cluster_without_cpus_decodes_nothing() -> None:
    """Unless it grows."""
    assert nodes.power(0, 0, grows=False).state == FAIL
    assert nodes.power(0, 0, grows=True).state == OK
    assert nodes.power(8, 1, grows=False).found == "8 CPUs and 1 GPUs"


def test_every_node_of_a_cluster_is_asked(local_ray: None) -> None:
    """The one there is answers, by a process of its own, with this job's key and packages."""
    power, *told = nodes.cluster()
    assert power.state == OK and "CPUs" in power.found
    assert [one.about for one in told] == [f"node {socket.gethostname()}"] * len(told)
    assert not [one for one in told if "key" in one.found and one.state != OK], told
    assert not [one for one in told if "here" in one.found], told

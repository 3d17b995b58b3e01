"""What scoring and training cost: measured speeds, stated assumptions, one formula.

    python infra/cost.py

prints the table of ``infra/README.md``. Change a number below and run it again. Nothing of bae
imports this; it is arithmetic.
"""

from dataclasses import dataclass

# ---- measured -------------------------------------------------------------------------------

SCORED_CPU_S = 0.34
"""Two cores' time for one two-view scan of 256 x 1024 from DICOM to tables, recipe ``paper``: AMD
EPYC with AVX-512 bf16, `python -m jobs.benchmark` (84 ms a view on the clock, by a version that may
have said a sixth too little)."""
TRAINED_CPU_S = {"localizer": 0.6, "regressor": 0.17}
"""CPU time of one view, forward, backward and step: the same CPU, `python -m tests.bench.paper`."""
DECODE_CPU_S = 0.020
"""CPU time to decode one two-view object, JPEG 2000 (45 ms a view) left aside:
bae/archive/NOTES.md. Counts where a GPU has the networks."""

# ---- counted --------------------------------------------------------------------------------

FORWARD_FLOP = {"localizer": 50.2e9, "regressor": 11.4e9}
"""Of one view at the paper's sizes, two for each multiply-add; counted by
tests/system/test_cost.py."""
VIEWS = 2
TRAINING_FACTOR = 3.0
"""Forward and backward against forward: the backward pass computes two products for each one."""

# ---- assumed: NOT measured in this project ---------------------------------------------------

GPU_PEAK_FLOPS = 70e12
"""bf16, NVIDIA A10G, data sheet."""
GPU_USE = 0.25
"""Share of the peak that convolutions of these sizes reach; 0.2-0.4 is usual."""
SPOT = 0.5
"""Spot price as a share of the list price; it moves daily."""
SECONDS_TO_START = 300.0
"""From asking for a machine to its first scan; paid for each machine once."""
TRAINING_SCANS = 3636 * 0.7
"""The paper's cohort, less validation and test."""
EPOCHS = 40
"""Recipe ``paper``, if patience does not end it before."""
USD_PER_1000_GETS, USD_PER_1000_PUTS = 0.0004, 0.005
SCANS_PER_PART = 64
"""One staged object is written for each part."""


@dataclass(frozen=True)
class Machine:
    """A kind of machine and what one of them does.

    Attributes:
        name: what AWS calls it.
        usd_per_hour: list price on demand, us-east-1.
        vcpus: what Ray sees as CPUs.
        gpus: A10G, 0 or 1.
        known: where its speed comes from.
    """

    name: str
    usd_per_hour: float
    vcpus: int
    gpus: int
    known: str


HEAD = Machine("m7i.xlarge", 0.2016, 4, 0, "no work of its own")
CPU = Machine("m7a.2xlarge", 0.4637, 8, 0, "measured on two cores")
GPU = Machine("g5.2xlarge", 1.212, 8, 1, "assumed from FLOPs")


def scans_per_second(machine: Machine) -> float:
    """Return how many scans a machine scores; a GPU waits for its CPUs if they decode slower."""
    if not machine.gpus:
        return machine.vcpus / SCORED_CPU_S
    networks = machine.gpus * GPU_PEAK_FLOPS * GPU_USE / (VIEWS * sum(FORWARD_FLOP.values()))
    return min(networks, machine.vcpus / DECODE_CPU_S)


def trained_views_per_second(machine: Machine, part: str) -> float:
    """Return how many views a machine trains on."""
    if not machine.gpus:
        return machine.vcpus / TRAINED_CPU_S[part]
    return machine.gpus * GPU_PEAK_FLOPS * GPU_USE / (TRAINING_FACTOR * FORWARD_FLOP[part])


def rented(machine: Machine, work_s: float, machines: int) -> tuple[float, float]:
    """Return hours until the work is done, and US dollars for workers on spot and a head.

    Args:
        machine: the workers.
        work_s: seconds that one of them would take.
        machines: how many share it.
    """
    hours = (work_s / machines + SECONDS_TO_START) / 3600
    return hours, hours * (machines * machine.usd_per_hour * SPOT + HEAD.usd_per_hour)


def scoring(scans: int, machine: Machine, machines: int) -> tuple[float, float]:
    """Return hours and US dollars to score an archive once, requests to S3 included."""
    hours, usd = rented(machine, scans / scans_per_second(machine), machines)
    gets = scans / 1000 * USD_PER_1000_GETS
    puts = scans / SCANS_PER_PART / 1000 * USD_PER_1000_PUTS
    return hours, usd + gets + puts


def training(machine: Machine) -> tuple[float, float]:
    """Return hours and US dollars to train both networks on the paper's cohort, on one machine."""
    views = TRAINING_SCANS * VIEWS * EPOCHS
    work_s = sum(views / trained_views_per_second(machine, part) for part in FORWARD_FLOP)
    return rented(machine, work_s, 1)


def table() -> str:
    """Return the table of the README, as Markdown."""
    lines = ["| what | machines | scans per second | hours | US dollars |", "|---|---|---|---|---|"]
    for machine in (CPU, GPU):
        hours, usd = scoring(1_000_000, machine, 4)
        rate = 4 * scans_per_second(machine)
        lines.append(
            f"| score 1,000,000 scans | 4 x {machine.name} ({machine.known}) "
            f"| {rate:.0f} | {hours:.1f} | {usd:.0f} |"
        )
    for machine in (CPU, GPU):
        hours, usd = training(machine)
        lines.append(
            f"| train both networks | 1 x {machine.name} ({machine.known}) "
            f"| | {hours:.1f} | {usd:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

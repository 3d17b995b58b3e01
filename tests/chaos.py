"""Kill what can be killed during a run: ``python -m tests.chaos --scans 3000 --seed 1``.

Two nights over an archive on a real S3 server (SeaweedFS), on a Ray cluster of a head
and two workers of its own; between them a patient is erased and the tables are maintained, and
the second night finds a larger archive and other labels. At seeded moments a decoding worker, the
model's actor, a whole node, the S3 server and the job itself are killed; node and server come
back, the job is started again by the same command. In the end every row must be that of
undisturbed nights. ``--job train`` does the same to a training run: its losses must be equal.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from bae import storage
from bae.archive import privacy
from bae.errors import StorageError
from bae.scan import Identity
from tests.fakes import ray_cluster, s3_server
from tests.fakes import rows as fakes_rows
from tests.releases import make

PART_OBJECTS = 16
BROKEN_EVERY = 50
FAULTS = {
    "predict": ("decoder", "actor", "node", "s3", "driver"),
    "train": ("trainer", "node", "s3", "driver"),
}
WORKERS = {"decoder": "_decode_part", "actor": "_Actor", "trainer": "RayTrainWorker"}
S3_AWAY_S = (1.0, 15.0)
"""The server is away for a time between these; calls wait up to a minute."""


@dataclass
class Report:
    """What happened.

    Attributes:
        killed: fault to count.
        starts: how often the command was started.
        seconds: of the disturbed run, and of the undisturbed one.
        rows: rows or epochs compared.
        equal: whether both runs came to the same.
    """

    killed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    seconds: tuple[float, float] = (0.0, 0.0)
    rows: int = 0
    equal: bool = False

    def __str__(self) -> str:
        killed = ", ".join(f"{fault} {count}" for fault, count in self.killed.items())
        return (
            f"killed {self.killed.total()} ({killed}); started {self.starts} times; "
            f"{self.seconds[0]:.0f} s disturbed, {self.seconds[1]:.0f} s undisturbed; "
            f"{self.rows} rows {'equal' if self.equal else 'DIFFER'}"
        )


@dataclass
class Room:
    """The cluster and the server that things happen to."""

    cluster: ray_cluster.Cluster
    server: s3_server.Server

    def strike(self, fault: str, driver: subprocess.Popen[str], rng: random.Random) -> bool:
        """Let a fault happen; False if there is nothing to kill just now."""
        if fault == "driver":
            driver.kill()
        elif fault == "s3":
            self.server.stop()
            time.sleep(rng.uniform(*S3_AWAY_S))
            self.server = self.server.again()
        elif fault == "node":
            self.cluster.nodes.pop(rng.choice((1, 2))).kill()
            self.cluster.add(1)
        else:
            found = [
                process
                for node in self.cluster.nodes
                for process in ray_cluster.workers_below(node.process.pid, WORKERS[fault])
            ]
            if not found:
                return False
            rng.choice(found).kill()
        return True


@contextmanager
def room() -> Iterator[Room]:
    """A cluster of a head and two workers, and an S3 server; this process's AWS_* reach it."""
    with tempfile.TemporaryDirectory(prefix="bae-chaos-") as folder:
        server = s3_server.start(Path(folder))
        os.environ.update(server.environment())
        own = {"BAE_PSEUDONYM_KEY": make.KEY, "PYTHONPATH": str(ray_cluster.ROOT)}
        with ray_cluster.cluster(**own) as cluster:
            found = Room(cluster, server)
            try:
                for cpus in (0, 1, 1):
                    cluster.add(cpus)
                yield found
            finally:
                found.server.stop()


def write_archive(place: str, scans: int) -> None:
    """Write small scans and, here and there, a broken object."""
    source = pydicom.dcmread(str(get_testdata_file("JPEG2000.dcm")))
    objects = []
    for number in range(scans):
        source.SOPInstanceUID = f"1.2.3.{number}"
        source.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
        source.PatientID = f"P{number // 2}"
        sink = io.BytesIO()
        source.save_as(sink)
        data = sink.getvalue()[: 3000 if number % BROKEN_EVERY == 7 else None]
        objects.append((f"{place}/{'first' if number % 2 else 'second'}/{number:05d}.dcm", data))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda pair: storage.write_bytes(*pair), objects))


def _staged(place: str) -> int:
    """Return how many parts are done."""
    try:
        staging = f"{place}/restricted/staging"
        if not storage.exists(staging):
            return 0
        names = storage.list_objects(staging)["object_uri"].to_pylist()
    except StorageError:
        return 0
    return sum("/staged/" in name for name in names)


def epochs_stored(place: str) -> int:
    """Return how many epochs have a checkpoint, or had one: their number is in its name."""
    try:
        names = (
            storage.list_objects(place)["object_uri"].to_pylist() if storage.exists(place) else []
        )
        texts = [storage.read_bytes(n) for n in names if n.endswith("progress.json")]
    except StorageError:
        return 0
    return max((int(json.loads(text)["epoch"]) for text in texts), default=0)


def disturbed(
    found: Room,
    command: list[str],
    faults: list[tuple[float, str]],
    progress: Callable[[], float],
    rng: random.Random,
    report: Report,
) -> str:
    """Run a command until it ends well, letting faults happen; return its output.

    Args:
        found: the cluster and the server.
        command: to start, and to start again.
        faults: progress from which each is due, and its name.
        progress: how far the run is.
        rng: for what else is random.
        report: added to.
    """
    environment = found.cluster.environment | {"RAY_ADDRESS": found.cluster.address}
    left = sorted(faults)
    for _ in range(3 + 2 * len(faults)):
        report.starts += 1
        with tempfile.TemporaryFile("w+") as out:
            driver = subprocess.Popen(
                command, env=environment, cwd=ray_cluster.ROOT, stdout=out, stderr=out, text=True
            )
            while driver.poll() is None:
                if left and progress() >= left[0][0] and found.strike(left[0][1], driver, rng):
                    fault = left.pop(0)[1]
                    report.killed[fault] += 1
                    print(f"killed {fault}", file=sys.stderr, flush=True)
                time.sleep(0.05)
            out.seek(0)
            text = out.read()
        if driver.returncode == 0:  # a fast machine may be done before the last fault is due
            return text
        if "no table has this patient key" in text:  # killed at its very end
            return text
        print(f"exit code {driver.returncode}\n{text[-3000:]}", file=sys.stderr, flush=True)
    raise RuntimeError("the run does not end")


def schedule(
    job: str, most: float, seed: int, rounds: int = 1
) -> tuple[list[tuple[float, str]], random.Random]:
    """Return each fault and the progress at which it is due, spread over the run.

    Args:
        job: ``predict`` or ``train``.
        most: progress at the end of the run.
        seed: the same one gives the same schedule.
        rounds: how often every fault happens.
    """
    rng = random.Random(seed)
    names = [name for _ in range(rounds) for name in rng.sample(FAULTS[job], len(FAULTS[job]))]
    step = most / (len(names) + 1)
    return [((i + rng.uniform(0.2, 1.0)) * step, name) for i, name in enumerate(names)], rng


def write_labels(path: Path, scans: int, *, later_years: int) -> str:
    """Write an age for two patients of three, and return the file's place."""
    lines = [f"P{n},{40 + n % 50 + later_years}" for n in range(scans // 2) if n % 3]
    path.write_text("\n".join(["patient_id,age_years", *lines]) + "\n")
    return str(path)


def predict(scans: int, seed: int, rounds: int = 1) -> Report:
    """Live through two nights and what lies between them, calmly and not; compare all tables."""
    report = Report()
    with room() as found:
        archive, model = "s3://archive/night", found.cluster.folder / "model"
        write_archive(archive, scans)
        make.write_model(model)
        code = (
            "import sys\nfrom bae.tables import runs\nfrom jobs import predict\n"
            f"runs.PART_OBJECTS = {PART_OBJECTS}\nsys.exit(predict.main(sys.argv[1:]))"
        )
        night = [sys.executable, "-c", code, "--model", str(model), "--patience", "3"]
        job = [sys.executable, "-m"]
        labels = [
            write_labels(found.cluster.folder / f"labels-{years}.csv", scans, later_years=years)
            for years in (0, 1)
        ]
        identity = Identity(patient="\0P1", study="", instance="")
        patient = privacy.patient_key(bytes.fromhex(make.KEY), identity)
        times, tables = [], []
        faults, rng = schedule("predict", scans / PART_OBJECTS, seed, rounds)
        half = scans / PART_OBJECTS / 2
        second = [(due - half, fault) for due, fault in faults if due >= half]
        upkeep = [(rng.uniform(1.0, 4.0), fault) for fault in ("driver", "s3")]
        for name, calm in (("calm", True), ("chaos", False)):
            place = f"s3://tables/{name}"
            start = time.monotonic()
            for command, due in (
                ([*night, "--archive", f"{archive}/first", "--labels", labels[0]], faults),
                ([*job, "jobs.erase", "--patient", patient], upkeep),
                ([*job, "jobs.maintain"], upkeep),
                ([*night, "--archive", archive, "--labels", labels[1]], second),
            ):
                of_night = command[: len(night)] == night
                mine = [one for one in due if one[0] < half or not of_night]
                begun = time.monotonic()

                def progress(
                    place: str = place, of_night: bool = of_night, begun: float = begun
                ) -> float:
                    return _staged(place) if of_night else time.monotonic() - begun

                whole = [*command, "--tables", place]
                disturbed(found, whole, [] if calm else mine, progress, rng, report)
            times.append(time.monotonic() - start)
            tables.append(fakes_rows.content(place))
        report.starts -= 4  # the calm ones
        report.seconds = (times[1], times[0])
        report.rows = sum(len(table) for table in tables[1].values())
        report.equal = tables[0] == tables[1] and report.rows > scans
    return report


def train(epochs: int, seed: int, rounds: int = 1) -> Report:
    """Train twice, calmly and not, and compare the losses of all epochs."""
    report = Report()
    with room() as found:
        times, losses = [], []
        faults, rng = schedule("train", epochs - 1, seed, rounds)
        for name, due in (("calm", []), ("chaos", faults)):
            place = f"s3://tables/{name}"
            command = [
                sys.executable,
                "-m",
                "tests.fakes.train_once",
                place,
                "--epochs",
                str(epochs),
                "--trunk",
                "resnet10",  # slow enough to be struck
            ]
            start = time.monotonic()
            text = disturbed(
                found, command, due, lambda place=place: epochs_stored(place), rng, report
            )
            times.append(time.monotonic() - start)
            losses.append(json.loads(text.splitlines()[-1]))
        report.starts -= 1
        report.seconds = (times[1], times[0])
        report.rows = len(losses[1])
        pairs = zip(*losses, strict=True)
        report.equal = report.rows == epochs and all(abs(a - b) <= 1e-6 for a, b in pairs)
    return report


def main() -> int:
    """Parse the flags, run, print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--job", choices=("predict", "train"), default="predict")
    parser.add_argument("--scans", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="how often each fault happens")
    options = parser.parse_args()
    report = (
        predict(options.scans, options.seed, options.rounds)
        if options.job == "predict"
        else train(options.epochs, options.seed, options.rounds)
    )
    print(report)
    return 0 if report.equal else 1


if __name__ == "__main__":
    sys.exit(main())

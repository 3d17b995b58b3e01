"""A real Ray cluster on this machine for the tests: ``ray start --block`` processes of our own.

Each node is one process tree that ``Cluster`` ends by its own ids; other people's Rays on
the machine are left alone. Jobs go in through the Jobs API with a token, as on any cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")
NOTE = Path("/tmp/ray/ray_current_cluster")
"""Where ``ray start`` notes its address for other Rays of this machine."""


@dataclass
class Node:
    """One ``ray start --block`` process and where its metrics are."""

    process: subprocess.Popen[bytes]
    metrics_port: int

    def metrics(self) -> str:
        """Return what Prometheus would scrape from this node."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    def kill(self) -> None:
        """End the node and all it started, at once, by process id."""
        kill_tree(self.process.pid)
        self.process.wait(20)


@dataclass
class Cluster:
    """A head and its workers.

    Attributes:
        folder: temporary directory of its own, with a short name: Ray's sockets need it.
        environment: what a shell needs to talk to this cluster.
        address: of the head, for workers and drivers.
        nodes: the head first.
    """

    folder: Path
    environment: dict[str, str]
    port: int
    dashboard: str
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add(self, cpus: int, *flags: str) -> Node:
        """Start a node, the head if it is the first, and wait until it is there."""
        metrics_port = free_port()
        where = ["--address", self.address]
        if not self.nodes:
            port = self.dashboard.rpartition(":")[2]
            where = ["--head", "--port", str(self.port), "--dashboard-port", port]
            where += ["--dashboard-host", "127.0.0.1", "--ray-client-server-port", str(free_port())]
            where += ["--temp-dir", str(self.folder), "--include-dashboard", "true"]
        command = [
            RAY,
            "start",
            *where,
            "--block",
            "--num-cpus",
            str(cpus),
            "--num-gpus",
            "0",
            "--node-ip-address",
            "127.0.0.1",
            "--object-store-memory",
            str(200 * 2**20),
            "--metrics-export-port",
            str(metrics_port),
            "--disable-usage-stats",
            "--dashboard-agent-listen-port",
            str(free_port()),
            # any free ports: two nodes of one machine would take the same ones
            "--min-worker-port",
            "0",
            "--max-worker-port",
            "0",
            *flags,
        ]
        with (self.folder / f"node-{len(self.nodes)}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(Node(process, metrics_port))
        wait_for(lambda: self._there() >= len([n for n in self.nodes if n.process.poll() is None]))
        return self.nodes[-1]

    def _there(self) -> int:
        """Return how many nodes are alive, 0 while the head does not answer."""
        if self.nodes[-1].process.poll() is not None:
            raise RuntimeError(f"a node ended; see {self.folder}")
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        question = urllib.request.Request(f"{self.dashboard}/nodes?view=summary")
        question.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(question, timeout=10) as answer:
                nodes = json.load(answer)["data"]["summary"]
        except OSError:
            return 0
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def submit(
        self, *words: str, flags: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``ray job submit --working-dir . -- python ...`` to its end."""
        process = self.start(*words, flags=flags, environment=environment)
        out, errors = process.communicate(timeout=1200)
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def start(
        self, *words: str, flags: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Begin ``ray job submit``; the job's lines come out of it."""
        command = [
            RAY,
            "job",
            "submit",
            "--address",
            self.dashboard,
            "--working-dir",
            str(ROOT),
            *flags,
            "--",
            sys.executable,
            *words,
        ]
        return subprocess.Popen(
            command,
            env=self.environment | (environment or {}),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def job(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another ``ray job`` command: stop, status, logs."""
        command = [RAY, "job", words[0], "--address", self.dashboard, *words[1:]]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )

    def metrics(self) -> str:
        """Return the metrics of all living nodes that answer."""
        found = ""
        for node in self.nodes:
            if node.process.poll() is None:
                with contextlib.suppress(OSError):  # a busy machine; asked again soon
                    found += node.metrics()
        return found

    def stop(self) -> None:
        """End every node, and leave no note of the cluster to other Rays of this machine."""
        for node in reversed(self.nodes):
            node.kill()
        if NOTE.exists() and NOTE.read_text() == self.address:
            NOTE.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def cluster(**environment: str) -> Iterator[Cluster]:
    """A cluster without nodes; ``add`` them. Its variables reach every node and job."""
    folder = Path(tempfile.mkdtemp(prefix="bae-ray-"))
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    # metrics are exported every ten seconds otherwise: too long to wait for in a test
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "OMP_NUM_THREADS": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }
    found = Cluster(
        folder, inherited | own | environment, free_port(), f"http://127.0.0.1:{free_port()}"
    )
    try:
        yield found
    finally:
        found.stop()


def kill_tree(pid: int) -> None:
    """Kill a process and all below it; nobody else's."""
    try:
        parent = psutil.Process(pid)
        below = parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in [*below, parent]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def workers_below(pid: int, word: str) -> list[psutil.Process]:
    """Return the Ray workers below a process whose title holds a word."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and word in title:
            found.append(process)
    return found


def wait_for(condition, seconds: float = 300.0) -> None:  # type: ignore[no-untyped-def]
    """Wait until a condition holds."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("waited in vain")
        time.sleep(0.1)


def free_port() -> int:
    """Return a free port outside Ray's worker range (10000-19999)."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        if not 10000 <= port < 20000:
            return port

"""A scoring job that something happens to: ``python -m tests.fakes.faulty_night FAULTS -- FLAGS``.

It runs ``jobs.predict`` with small parts, and meanwhile kills what it is told to, one after
the other.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from bae.tables import runs
from jobs import predict


def main() -> int:
    """Run the job with the faults named first."""
    mark = sys.argv.index("--")
    faults, flags = sys.argv[1:mark], sys.argv[mark + 1 :]
    runs.PART_OBJECTS = 2
    tables_uri = flags[flags.index("--tables") + 1]
    cluster = cluster_of(head_cpus=1, others=2) if "node" in faults else None
    if faults and cluster is None:
        threading.Thread(target=_strike, args=(faults, Path(tables_uri)), daemon=True).start()
    if cluster is not None:
        threading.Thread(
            target=_remove_a_node, args=(cluster, Path(tables_uri)), daemon=True
        ).start()
    code = predict.main(flags)
    if cluster is not None:
        end(cluster)
    return code


def cluster_of(head_cpus: int, others: int):  # type: ignore[no-untyped-def]
    """Start a cluster with so many nodes of one CPU beside the head, and connect to it."""
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 200 * 2**20}
    head = {"num_cpus": head_cpus} | small
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(others):
        cluster.add_node(num_cpus=1, **small)
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    return cluster


def end(cluster) -> None:  # type: ignore[no-untyped-def]
    """Leave before the cluster ends, and leave no note of it for other Rays of this machine."""
    import ray

    note = Path("/tmp/ray/ray_current_cluster")
    ray.shutdown()
    cluster.shutdown()
    if note.exists() and note.read_text() == cluster.address:
        note.unlink()


def _wait_for_parts(tables: Path, count: int) -> None:
    while len(list(tables.glob("restricted/staging/*/staged/*.parquet"))) < count:
        time.sleep(0.02)


def _remove_a_node(cluster, tables: Path) -> None:  # type: ignore[no-untyped-def]
    _wait_for_parts(tables, 2)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    _say("removed a node")


def _strike(faults: list[str], tables: Path) -> None:
    for fault in faults:
        if fault == "driver":
            _wait_for_parts(tables, 5)
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "actor":
            _wait_for_parts(tables, 2)
        _kill_worker({"decoder": "_decode_part", "actor": "_Actor"}[fault])
        _say(f"killed {fault}")


def _kill_worker(word: str) -> None:
    """Wait for a worker whose title holds a word and kill it."""
    while True:
        for pid, title in _ray_workers():
            if word in title:
                os.kill(pid, signal.SIGKILL)
                return
        time.sleep(0.005)


def _ray_workers() -> list[tuple[int, str]]:
    """Return pid and title of the Ray workers below this process, nobody else's."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            titles[int(folder.name)] = title.decode(errors="replace")
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    mine = []
    for pid, title in titles.items():
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and title.startswith("ray::"):
            mine.append((pid, title))
    return mine


def _say(text: str) -> None:
    print(f"FAULT {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

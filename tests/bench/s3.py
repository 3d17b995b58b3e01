"""S3 through s3fs beside bare botocore: ``python -m tests.bench.s3 [keys] [objects]``.

Lists many keys and fetches objects of 0.5 MB with eight threads from a SeaweedFS on
this machine, the ways in turn, and prints medians of the clock and of this process's CPU.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from bae import s3
from tests.fakes import s3_server

ROUNDS = 3
SIZE = 500_000
KEYS, DATA = "s3://archive/keys", "s3://archive/data"


def fill(keys: int, objects: int) -> None:
    """Write the empty objects to list and the big ones to fetch."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: s3.write(f"{KEYS}/{n:06d}.dcm", b""), range(keys)))
        list(pool.map(lambda n: s3.write(f"{DATA}/{n}", os.urandom(SIZE)), range(objects)))


def bare_client() -> Any:
    """Return a botocore client, as `bae.s3` once used one."""
    config = Config(
        max_pool_connections=64,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    return botocore.session.get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=s3.endpoint(), config=config
    )


def bare_listing(client: Any) -> int:
    """Count the keys page by page."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="archive", Prefix="keys/")
    return sum(1 for page in pages for _ in page["Contents"])


def eight(read: Callable[[int], bytes], objects: int) -> int:
    """Fetch all objects with eight threads; return how many were whole."""
    with ThreadPoolExecutor(8) as pool:
        return sum(len(data) == SIZE for data in pool.map(read, range(objects)))


def main(keys: int = 100_000, objects: int = 1_000) -> None:
    """Fill, measure in turn, print."""
    with tempfile.TemporaryDirectory() as folder:
        server = s3_server.start(Path(folder))
        os.environ |= server.environment()
        try:
            measure(keys, objects)
        finally:
            server.stop()


def measure(keys: int, objects: int) -> None:
    """Print medians of the ways, taken in turn."""
    fill(keys, objects)
    client = bare_client()

    def get(number: int) -> bytes:
        return bytes(client.get_object(Bucket="archive", Key=f"data/{number}")["Body"].read())

    ways: dict[str, Callable[[], int]] = {
        "list, botocore": lambda: bare_listing(client),
        "list, bae.s3": lambda: sum(1 for _ in s3.list_keys(KEYS)),
        "list, s3fs find": lambda: len(s3.filesystem().find(KEYS, detail=True)),
        "read, botocore": lambda: eight(get, objects),
        "read, bae.s3": lambda: eight(lambda n: s3.read(f"{DATA}/{n}"), objects),
    }
    clock: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            found = way()
            clock[name].append((time.perf_counter() - start, time.process_time() - cpu))
            assert found == (keys if name.startswith("list") else objects), name
    for name, spent in clock.items():
        wall, cpu = (statistics.median(column) for column in zip(*spent, strict=True))
        print(f"{name:<18}{wall:8.2f} s {cpu:8.2f} s CPU")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

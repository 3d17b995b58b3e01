"""A real PACS on this machine for the tests: Debian's Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "a&b:c"
"""Orthanc is told to ask for them; the colon belongs to the password."""


@dataclass(frozen=True)
class Server:
    """A running server; ``stop`` ends it."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def root(self) -> str:
        """Its DICOMweb root, without scheme."""
        return f"127.0.0.1:{self.port}/dicom-web"

    def stop(self) -> None:
        """End the server by its process id; its data is thrown away anyway."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


def missing() -> str | None:
    """Say what is not installed, None if nothing."""
    if shutil.which("Orthanc") is None:
        return "Orthanc is not installed (Debian: orthanc)"
    return None if PLUGIN.exists() else "Orthanc has no DICOMweb plugin (Debian: orthanc-dicomweb)"


def start(folder: Path) -> Server:
    """Start an empty server that keeps its data in ``folder``, and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    config = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "log.txt").open("ab") as log:
        command = ["Orthanc", str(folder / "orthanc.json")]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    server = Server(port, process)
    give_up = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/dicom-web/studies", timeout=5)
        except urllib.error.HTTPError:  # 401: it is up
            return server
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                server.stop()
                raise RuntimeError(
                    "Orthanc did not start:\n" + (folder / "log.txt").read_text()
                ) from None
            time.sleep(0.1)

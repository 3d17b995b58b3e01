"""A proxy in front of an S3 server that can be slow, away, or refuse: faults on demand.

It runs as a process of its own: some calls of native libraries keep Python's lock
while they wait for an answer, so a proxy among the test's threads could never give it.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_DOWN = (503, "SlowDown")
EXPIRED = (400, "ExpiredToken")


class Proxy:
    """Forwards requests to a server; ``answer`` and ``outage`` make it fail."""

    def __init__(self, server_port: int) -> None:
        """Start forwarding to a server on this machine."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(server_port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint = f"http://127.0.0.1:{self._ask('port', None)}"

    def _ask(self, command: str, value: object) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([command, value]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    @property
    def refused(self) -> dict[str, int]:
        """Return how many requests were answered with each error."""
        return dict(self._ask("refused", None))

    @contextmanager
    def answer(
        self, fault: tuple[int, str], *, every: int = 1, after: int = 0, only: str = ""
    ) -> Iterator[None]:
        """Answer every n-th request with an error, after some, only for paths that contain a text.

        Args:
            fault: status and S3 error code.
            every: 3 means every third request.
            after: requests that go well first.
            only: part of the path.
        """
        self._ask("fault", {"fault": fault, "every": every, "after": after, "only": only})
        try:
            yield
        finally:
            self._ask("fault", None)

    def outage(self, seconds: float) -> None:
        """Refuse connections from now on for a while; returns at once."""
        self._ask("outage", seconds)

    def stop(self) -> None:
        """End the proxy."""
        self._process.kill()
        self._process.wait()


class _Server:
    """The proxy's own process."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.refused: Counter[str] = Counter()
        self.plan: dict[str, Any] | None = None
        self.count = 0
        self.lock = threading.Lock()
        self.start(0)
        self.port = int(self.http.server_address[1])

    def start(self, port: int) -> None:
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.away = False
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def fault(self, path: str) -> tuple[int, str] | None:
        """Return the fault for the next request, None to forward it."""
        with self.lock:
            plan = self.plan
            if plan is None or plan["only"] not in path:
                return None
            self.count += 1
            due = self.count > plan["after"] and self.count % plan["every"] == 0
            if due:
                self.refused[plan["fault"][1]] += 1
            return tuple(plan["fault"]) if due else None

    def obey(self, command: str, value: Any) -> object:
        if command == "fault":
            with self.lock:
                self.plan, self.count = value, 0
        elif command == "outage":
            self.away = True  # for connections that are open
            self.http.shutdown()
            self.http.server_close()
            threading.Timer(value, self.start, (self.port,)).start()
        return {"port": self.port, "refused": self.refused}.get(command)


class _Handler(BaseHTTPRequestHandler):
    owner: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self._body()
        if self.owner.away:
            self.close_connection = True
            return
        if fault := self.owner.fault(self.path):
            status, code = fault
            xml = f"<Error><Code>{code}</Code><Message>on demand</Message></Error>".encode()
            self._reply(status, {"Content-Type": "application/xml"}, xml)
            return
        onward = http.client.HTTPConnection("127.0.0.1", self.owner.server_port, timeout=60)
        try:
            onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("transfer-encoding", "expect", "content-length"):
                    onward.putheader(name, value)
            if body or self.command in ("PUT", "POST"):
                onward.putheader("Content-Length", str(len(body)))
            onward.endheaders(body)
            answer = onward.getresponse()
            self._reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            onward.close()

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = headers.get("Content-Length", len(body)) if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _main() -> None:
    server = _Server(int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(server.obey(*json.loads(line))), flush=True)


if __name__ == "__main__":
    _main()

"""A DICOMweb server in this process, as small as may be, that fails on demand."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
from pydicom import datadict
from pydicom.dataset import Dataset

CUT, HTML, ELSE = "cut off", "html", "another object"
"""Faults that are no HTTP status."""


def _json(**values: Any) -> dict[str, Any]:
    """Return an item of a search's result; values may be wrong, as a server's may."""
    return {
        f"{datadict.tag_for_keyword(keyword):08X}": {
            "vr": datadict.dictionary_VR(keyword),
            "Value": [value],
        }
        for keyword, value in values.items()
    }


class Fake:
    """Holds objects and what it was asked.

    Attributes:
        objects: SOP Instance UID to study, series and bytes; ``add`` fills it.
        fault: takes method and path with query; returns a status or a fault, None for none.
        refuse: takes SOP Instance UID and bytes that are sent; returns a Failure Reason or None.
        answer: takes status and body of what a store is told; returns status, type and body.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, str, bytes]] = {}
        self.told: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.sent: list[list[str]] = []
        self.paging = True
        self.fault: Callable[[str, str], int | str | None] = lambda method, path: None
        self.refuse: Callable[[str, bytes], int | None] = lambda uid, data: None
        self.answer: Callable[[int, bytes], tuple[int, str, bytes]] = lambda status, body: (
            status,
            "application/dicom+json",
            body,
        )
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.get(self)

            def do_POST(self) -> None:
                fake.post(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        serve = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        serve.start()

    @property
    def place(self) -> str:
        """Its address."""
        return f"dicomweb+http://127.0.0.1:{self.server.server_port}/pacs/rs"

    def stop(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()

    def add(self, number: int, data: bytes, study: str = "", **told: Any) -> str:
        """Put an object there, in a study and series of its own; return its UID."""
        uid, study = f"1.2.9.{number}", study or f"1.2.7.{number}"
        self.objects[uid] = (study, f"1.2.8.{number}", data)
        self.told[uid] = {"Modality": "NM", "StudyDate": "20260105"} | told
        return uid

    def fetched(self) -> list[str]:
        """Return the UID of each object that was asked for, in order."""
        return [
            path.rpartition("/")[2]
            for method, path in self.asked
            if method == "GET" and "/instances/" in path
        ]

    # ---- answers ------------------------------------------------------------------------------

    def _broken(self, handler: BaseHTTPRequestHandler) -> str | None:
        """Note a request; answer it by its fault if that is a status."""
        with self.lock:
            self.asked.append((handler.command, handler.path))
            self.headers.append(dict(handler.headers))
            fault = self.fault(handler.command, handler.path)
        if isinstance(fault, int):
            self._reply(handler, fault, "text/plain", b"no")
            return "done"
        if fault == HTML:
            self._reply(handler, 200, "text/html", b"<html>log in</html>")
            return "done"
        return fault

    def _reply(self, handler: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
        handler.send_response(status)
        if kind:
            handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the client was killed, or has seen enough
            handler.wfile.write(body)

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a search or give an object."""
        if (fault := self._broken(handler)) == "done":
            return
        url = urlsplit(handler.path)
        if one := re.fullmatch(r"/pacs/rs/studies/(.+)/series/(.+)/instances/(.+)", url.path):
            self._give(handler, one.groups(), fault)
            return
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/pacs/rs/studies":
            found = self._studies(query)
        elif inside := re.fullmatch(r"/pacs/rs/studies/(.+)/instances", url.path):
            found = self._instances(inside[1], query)
        else:
            self._reply(handler, 404, "text/plain", b"")
            return
        if self.paging:
            start = int(query.get("offset", 0))
            found = found[start : start + int(query.get("limit", 1000))]
        self._reply(handler, 200, "application/dicom+json", json.dumps(found).encode())

    def _studies(self, query: dict[str, str]) -> list[dict[str, Any]]:
        since = query.get("StudyDate", "").rstrip("-")
        studies = {
            study: {k: v for k, v in self.told[uid].items() if k == "StudyDescription"}
            for uid, (study, _, _) in self.objects.items()
            if self.told[uid]["Modality"] == query.get("ModalitiesInStudy", "NM")
            and self.told[uid]["StudyDate"] >= since
        }
        return [_json(StudyInstanceUID=study, **about) for study, about in studies.items()]

    def _instances(self, study: str, query: dict[str, str]) -> list[dict[str, Any]]:
        return [
            _json(
                **{"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": uid}
                | self.told[uid]
            )
            for uid, (own, series, _) in self.objects.items()
            if own == study and query.get("SOPInstanceUID", uid) == uid
        ]

    def _give(
        self, handler: BaseHTTPRequestHandler, uids: tuple[str, ...], fault: str | None
    ) -> None:
        study, series, data = self.objects.get(uids[2], ("", "", b""))
        if (study, series) != uids[:2]:
            self._reply(handler, 404, "text/plain", b"")
            return
        if fault == ELSE:
            data = data.replace(uids[2].encode(), b"1.2.6.6"[: len(uids[2])])
        head = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
        body = head + data + b"\r\n--edge--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary="edge"'
        if fault == CUT:
            body = body[: len(body) // 2]
        self._reply(handler, 200, kind, body)

    def post(self, handler: BaseHTTPRequestHandler) -> None:
        """Take objects."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if self._broken(handler) == "done":
            return
        boundary = re.search(r'boundary="?([^";]+)', handler.headers["Content-Type"])
        assert boundary
        parts = body.split(b"\r\n--" + boundary[1].encode())[1:-1]
        told, sent = {"Referenced": list[Dataset](), "Failed": list[Dataset]()}, list[str]()
        for part in parts:
            data = part.split(b"\r\n\r\n", 1)[1]
            ds = pydicom.dcmread(io.BytesIO(data))
            item, uid = Dataset(), str(ds.SOPInstanceUID)
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, uid
            sent.append(uid)
            if reason := self.refuse(uid, data):
                item.FailureReason = reason
                told["Failed"].append(item)
                continue
            told["Referenced"].append(item)
            self.objects[uid] = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), data)
            self.told[uid] = {"Modality": ds.Modality, "StudyDate": ds.StudyDate}
        self.sent.append(sent)
        answer = Dataset()
        answer.ReferencedSOPSequence = told["Referenced"]
        answer.FailedSOPSequence = told["Failed"]
        status = 200 if not told["Failed"] else 202 if told["Referenced"] else 409
        self._reply(handler, *self.answer(status, answer.to_json().encode()))

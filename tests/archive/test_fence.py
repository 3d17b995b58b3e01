"""What the decoding process cannot do, as far as this kernel goes, and what is believed of it."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bae.archive import sandbox
from bae.archive.dicom import rules
from bae.archive.fence import answers, kernel
from bae.archive.sandbox import Decoder
from bae.errors import ScanError
from bae.scan import Scan

READER = "tests.fakes.unruly"


@pytest.fixture(scope="module")
def unruly() -> Iterator[Decoder]:
    """A decoder whose child obeys the object."""
    with Decoder(limit_s=5, reader=READER) as decoder:
        yield decoder


def _tried(decoder: Decoder, order: str) -> str:
    [(_, answer)] = decoder.scans("x", f"try {order}".encode())
    assert isinstance(answer, ScanError)
    return answer.message


def _held(decoder: Decoder, *fences: str) -> None:
    if not set(fences) & set(decoder.fences()):
        pytest.skip(f"this kernel offers none of {', '.join(fences)}")


def test_the_fences_of_this_machine_can_be_asked_for(unruly: Decoder) -> None:
    """By name, and those that need nothing of the kernel's configuration always hold."""
    held = sandbox.fences()
    assert set(held) <= set(kernel.NAMES)
    assert {kernel.LIMITS, kernel.PRIVILEGES, kernel.CAPABILITIES} <= set(held)
    assert held == unruly.fences()


def test_the_parents_environment_and_memory_are_closed(unruly: Decoder) -> None:
    """It has the keys that the child was not given. This holds on any kernel."""
    for name in ("environ", "mem", "maps"):
        assert _tried(unruly, f"read /proc/{os.getpid()}/{name}") == "Permission denied"


def test_files_outside_are_closed(unruly: Decoder, tmp_path: Path) -> None:
    """Also those of its own user; the libraries stay open, or nothing could be decoded."""
    _held(unruly, kernel.FILES)
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert _tried(unruly, f"read {secret}") == "Permission denied"
    assert _tried(unruly, "read /etc/passwd") == "Permission denied"
    assert _tried(unruly, f"list {tmp_path}") == "Permission denied"
    assert _tried(unruly, f"write {tmp_path}/new") == "Permission denied"
    assert _tried(unruly, f"write {Path(np.__file__).with_name('new')}") == "Permission denied"
    assert _tried(unruly, f"read {np.__file__}") == "done"
    assert _tried(unruly, "import xml.dom.minidom") == "done"


def test_nothing_is_written_anywhere(unruly: Decoder, tmp_path: Path) -> None:
    """Where files are open, the limit on their size is not."""
    assert _tried(unruly, f"write {tmp_path}/new") in ("Permission denied", "File too large")


def test_the_network_is_closed(unruly: Decoder) -> None:
    """Neither a server on this machine nor a datagram to anywhere."""
    _held(unruly, kernel.NETWORK, kernel.CALLS)
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = _tried(unruly, f"connect {server.getsockname()[1]}")
    assert said in ("Operation not permitted", "Network is unreachable")
    assert _tried(unruly, "send") in ("Operation not permitted", "Network is unreachable")


def test_no_program_is_run_and_no_process_is_signalled(unruly: Decoder) -> None:
    """Not even to ask whether the parent is there."""
    _held(unruly, kernel.CALLS, kernel.FILES)
    assert _tried(unruly, "run /bin/true") != "done"
    _held(unruly, kernel.CALLS, kernel.SCOPE)
    assert _tried(unruly, f"kill {os.getpid()}") == "Operation not permitted"


def test_the_list_of_system_calls_holds_by_itself() -> None:
    """In a container it is all there is against the network."""
    code = """
import ctypes, os, socket
from bae.archive.fence import syscalls
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
print(syscalls.refuse(libc))
open(os.devnull).close()
for forbidden in (socket.socket, lambda: os.execv("/bin/true", ["true"]), lambda: os.kill(1, 0)):
    try:
        forbidden()
    except PermissionError as error:
        print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held, *errors = done.stdout.split()
    assert (held, errors) in (("True", ["1"] * 3), ("False", []))


OLD_KERNEL = """
from bae.archive.fence import kernel, syscalls
kernel._landlock = lambda *_: []
kernel._namespaces = lambda *_: []
syscalls.refuse = lambda *_: False
"""
TRY = """
import ctypes, os
from bae.archive.sandbox import Decoder
libc = ctypes.CDLL(None)
with Decoder(reader="tests.fakes.unruly") as decoder:
    print(decoder.fences())
    [(_, answer)] = decoder.scans("x", f"try read /proc/{os.getpid()}/environ".encode())
    print([answer.message, libc.prctl(3, 0, 0, 0, 0)])
print([libc.prctl(3, 0, 0, 0, 0)])
"""


def test_on_a_kernel_without_these_ways_the_parent_hides_itself(tmp_path: Path) -> None:
    """Only there, since Ray's agent counts its workers' files; and only while a child lives."""
    (tmp_path / "sitecustomize.py").write_text(OLD_KERNEL)
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), root))}
    done = subprocess.run(
        [sys.executable, "-c", TRY], capture_output=True, text=True, check=True, env=environment
    )
    held, during, after = map(ast.literal_eval, done.stdout.splitlines())
    assert set(held) == {kernel.LIMITS, kernel.CAPABILITIES, kernel.PRIVILEGES, kernel.HIDDEN}
    assert (during, after) == (["Permission denied", 0], [1])


# ---- messages -----------------------------------------------------------------------------

SCAN: dict[str, Any] = {
    "kind": "scan",
    "views": [["anterior", "<u2", [2, 2]]],
    "scan": {
        "identity": {"patient": "P", "study": "S", "instance": "I"},
        "pixel_mm": [2.0, 3.0],
        "sex": "F",
        "age_years": 61.25,
        "age_source": "birth_date",
        "manufacturer": "GE",
        "flags": ["lossy"],
    },
}
PIXELS = np.arange(8, dtype=np.uint8)


def _with(**changes: object) -> str:
    return json.dumps(SCAN | {"scan": SCAN["scan"] | changes})


def test_the_message_that_the_others_spoil_is_sound() -> None:
    """And the bounds that stand twice are the same."""
    scan = answers.scan(answers.message(json.dumps(SCAN).encode()), PIXELS)
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(scan.views[0].counts, [[256, 770], [1284, 1798]])
    assert (answers.MOST_VIEWS, answers.LARGEST_SIDE) == (rules.MOST_VIEWS, rules.LARGEST_SIDE)


NONSENSE = {
    "no object": "[]",
    "nested too deeply": "[" * 100_000,
    "an unknown kind": '{"kind": "run"}',
    "no kind": "{}",
    "more than there is": '{"kind": "end", "more": 1}',
    "an unknown code": '{"kind": "refused", "code": "x", "text": "y"}',
    "a code of scoring": '{"kind": "refused", "code": "score_failed", "text": "y"}',
    "a code that is a list": '{"kind": "refused", "code": ["xray"], "text": "y"}',
    "a long text": json.dumps({"kind": "refused", "code": "xray", "text": "y" * 5000}),
    "a text of two lines": '{"kind": "refused", "code": "xray", "text": "a\\nb"}',
    "a member that is a number": '{"kind": "begin", "member": 1}',
    "half a character": '{"kind": "begin", "member": "\\ud800"}',
    "ready again": '{"kind": "ready", "fences": []}',
    "an age that nobody has": _with(age_years=1e9),
    "an age that is no number": _with(age_years=float("nan")),
    "an age that is a text": _with(age_years="61"),
    "an age that is true": _with(age_years=True),
    "an age without source": _with(age_source=None),
    "an age from labels": _with(age_source="labels"),
    "a third sex": _with(sex="X"),
    "a vendor of a page": _with(manufacturer="GE " * 100),
    "a vendor with markup": _with(manufacturer="<script>"),
    "flags that are a text": _with(flags="lossy"),
    "a flag of two lines": _with(flags=["a\nb"]),
    "a thousand flags": _with(flags=["lossy"] * 1000),
    "pixels of no size": _with(pixel_mm=[0.0, 3.0]),
    "pixels with one side": _with(pixel_mm=[3.0]),
    "an identity that is a text": _with(identity="DOE^JANE"),
    "an identity without parts": _with(identity={}),
    "a patient that is a number": _with(identity={"patient": 1, "study": "", "instance": ""}),
    "another field": _with(run="rm"),
    "no views": json.dumps(SCAN | {"views": []}),
    "three views": json.dumps(SCAN | {"views": [["anterior", "<u2", [1, 1]]] * 3}),
    "a view with another name": json.dumps(SCAN | {"views": [["left", "<u2", [2, 2]]]}),
    "objects for pixels": json.dumps(SCAN | {"views": [["anterior", "|O", [1, 1]]]}),
    "fewer pixels": json.dumps(SCAN | {"views": [["anterior", "<u2", [2, 3]]]}),
    "more pixels": json.dumps(SCAN | {"views": [["anterior", "<u2", [2, 1]]]}),
    "a negative side": json.dumps(SCAN | {"views": [["anterior", "<u2", [-2, -2]]]}),
    "three sides": json.dumps(SCAN | {"views": [["anterior", "<u2", [2, 2, 1]]]}),
    "a side of 4000 digits": json.dumps(SCAN | {"views": [["anterior", "<u2", [10**4000, 0]]]}),
}


@pytest.fixture(scope="module")
def talker() -> Iterator[Decoder]:
    """A decoder of the same kind, since each order ends its child."""
    with Decoder(limit_s=20, reader=READER) as decoder:
        yield decoder


@pytest.mark.parametrize("case", NONSENSE)
def test_a_message_that_makes_no_sense_is_refused(case: str) -> None:
    """By itself: whatever is wrong in it is a ValueError."""
    with pytest.raises((ValueError, LookupError, TypeError)):
        said = answers.message(NONSENSE[case].encode())
        if said["kind"] == "refused":
            answers.refusal(said)
        elif said["kind"] == "begin":
            answers.member(said)
        else:
            answers.scan(said, PIXELS)


@pytest.mark.parametrize("case", ["no object", "nested too deeply", "ready again", "a third sex"])
def test_a_child_that_talks_nonsense_costs_one_object(talker: Decoder, case: str) -> None:
    """The whole way: decoder_crash, and the next object is read."""
    [(_, refusal)] = talker.scans("x", b"answer " + NONSENSE[case].replace(";", "").encode())
    assert isinstance(refusal, ScanError)
    assert str(refusal) == "decoder_crash: the decoding process answered nonsense"
    [(_, scan)] = talker.scans("x", b"fine")
    assert isinstance(scan, Scan)


def test_counts_that_are_no_numbers_are_refused() -> None:
    """float32 has infinities, which would spread through the networks."""
    said = SCAN | {"views": [["anterior", "<f4", [1, 2]]]}
    with pytest.raises(ValueError, match="no numbers"):
        answers.scan(dict(said), np.array([1, np.inf], np.float32).view(np.uint8))

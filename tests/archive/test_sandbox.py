"""Decoding in a child process: hangs and crashes cost one object."""

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bae.archive import objects, refusals, sandbox
from bae.archive.dicom import decode
from bae.archive.fence import shared as shared_memory
from bae.archive.sandbox import Decoder
from bae.errors import RunError, ScanError
from bae.scan import Scan
from tests.archive.test_objects import zipped
from tests.fakes import dicoms

LIMIT_S = 0.5


@pytest.fixture(scope="module", autouse=True)
def short_wall() -> Iterator[None]:
    """Three times the CPU time on the clock, not ten: tests wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "WALL_TIMES", 3)
        yield


@pytest.fixture(scope="module")
def unruly() -> Iterator[Decoder]:
    """A decoder whose child obeys the object."""
    with Decoder(limit_s=LIMIT_S, reader="tests.fakes.unruly") as decoder:
        yield decoder


def _codes(found: list[tuple[str, Scan | ScanError]]) -> list[str]:
    for _, outcome in found:
        assert isinstance(outcome, Scan) or outcome.code in refusals.REJECT_CODES
    return ["scan" if isinstance(o, Scan) else o.code for _, o in found]


def test_the_child_gives_what_the_parent_would() -> None:
    """Every field of scans and refusals crosses unchanged."""
    data = zipped(
        ("1.dcm", dicoms.scan(IssuerOfPatientID="Ä")),
        ("2.dcm", dicoms.scan(RescaleSlope="0.5")),
        ("3.txt", b"no scan"),
        ("4.dcm", dicoms.real_bytes()),
    )
    with Decoder() as decoder:
        there = decoder.scans("x", data)
    here = list(objects.scans("x", data))
    assert [member for member, _ in there] == [member for member, _ in here]
    for (_, one), (_, two) in zip(there, here, strict=True):
        if isinstance(one, Scan) and isinstance(two, Scan):
            assert replace(one, views=(), identity=two.identity).__dict__ == (
                replace(two, views=()).__dict__
            )
            assert one.identity.__dict__ == two.identity.__dict__
            for a, b in zip(one.views, two.views, strict=True):
                assert (a.name, a.counts.dtype) == (b.name, b.counts.dtype)
                np.testing.assert_array_equal(a.counts, b.counts)
        else:
            assert str(one) == str(two)


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ("hang", "decoder_hang"),
        ("spin in native code", "decoder_hang"),
        ("spin", "decoder_hang"),
        ("segfault", "decoder_crash"),
        ("abort", "decoder_crash"),
        ("exit", "decoder_crash"),
        ("raise", "decoder_crash"),
        ("answer nonsense", "decoder_crash"),
        ("promise more pixels than there are", "decoder_crash"),
        ("take the pixels away", "decoder_crash"),
        ("crash while taking apart", "decoder_crash"),
        ("eat memory", "decoder_memory"),
        ("hang while unpacking", "decoder_hang"),
    ],
)
def test_a_decoder_that_misbehaves_costs_one_object(unruly: Decoder, order: str, code: str) -> None:
    """The next object is decoded by a new child."""
    start = time.monotonic()
    assert _codes(unruly.scans("x", order.encode())) == [code]
    assert time.monotonic() - start < LIMIT_S + 8
    assert _codes(unruly.scans("x", b"fine")) == ["scan"]


def test_an_overloaded_machine_refuses_no_sound_object(unruly: Decoder) -> None:
    """The limit is CPU time: twice as long on the clock is no hang."""
    assert _codes(unruly.scans("x", b"overloaded")) == ["scan"]


def test_a_child_killed_from_outside_is_no_fault_of_the_object(unruly: Decoder) -> None:
    """As the kernel does for want of memory, or an operator."""
    assert _codes(unruly.scans("x", b"a")) == ["scan"]
    assert unruly._child is not None
    killer = threading.Timer(0.3, unruly._child.kill)
    killer.start()
    assert _codes(unruly.scans("x", b"a;hang;b")) == ["scan", "decoder_killed", "scan"]
    killer.join()


def test_large_and_small_objects_share_the_memory(unruly: Decoder) -> None:
    """It grows with the object, and is given back after a large one."""
    for size in (10, 200_000_000, 20, 100_000_000, 0):
        assert _codes(unruly.scans("x", b"a" * size)) == ["scan"]
        assert unruly._object is not None
        held = os.fstat(unruly._object.fd).st_blocks * 512
        assert held <= 1 << 26


def test_neighbours_in_a_zip_file_are_decoded(unruly: Decoder) -> None:
    """The new child goes on behind the member that broke the old one."""
    found = unruly.scans("x", b"a;segfault;b;hang;c")
    assert _codes(found) == ["scan", "decoder_crash", "scan", "decoder_hang", "scan"]
    assert [name for name, _ in found] == [f"member {i}" for i in range(5)]


def test_a_member_that_is_slow_to_unpack_is_given_up_alone(unruly: Decoder) -> None:
    """Its time begins before it is unpacked, and the next child goes on exactly behind it."""
    found = unruly.scans("x", b"a;hang while unpacking;b;hang while unpacking;c")
    assert _codes(found) == ["scan", "decoder_hang", "scan", "decoder_hang", "scan"]
    assert [name for name, _ in found] == [f"member {i}" for i in range(5)]


@pytest.mark.slow
def test_a_real_member_that_is_slow_to_unpack_is_given_up_alone() -> None:
    """bzip2 gives a few ten megabytes in a second."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("1.dcm", dicoms.scan())
        file.writestr("slow", bytes(400 << 20), zipfile.ZIP_BZIP2, 1)
        file.writestr("2.dcm", dicoms.scan())
    with Decoder(limit_s=0.5) as decoder:
        found = decoder.scans("x", buffer.getvalue())
    assert [name for name, _ in found] == ["1.dcm", "slow", "2.dcm"]
    assert _codes(found) == ["scan", "decoder_hang", "scan"]


def test_files_that_all_hang_end_with_their_object(
    unruly: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty thousand members of half a minute each would take a week."""
    monkeypatch.setattr(sandbox, "LONGEST_OBJECT", 7)
    found = unruly.scans("x", b"a;" + b"hang;" * 20)
    assert 3 <= len(found) < 8
    assert _codes(found)[-1] == "decoder_hang"
    assert found[-1][0] == ""


@pytest.mark.parametrize("order", [b"stop the clock", b"drip"])
def test_a_child_without_a_clock_is_given_up_by_its_parent(
    order: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has taken it over may stop its alarm."""
    monkeypatch.setattr(sandbox, "GRACE_S", 0.5)
    with Decoder(limit_s=0.5, reader="tests.fakes.unruly") as decoder:
        assert _codes(decoder.scans("x", b"a;" + order + b";b")) == ["scan", "decoder_hang", "scan"]


def test_members_behind_the_budget_of_pixels_are_refused(unruly: Decoder) -> None:
    """Two views of 8 bytes each; the child is told what is left after it was started again."""
    data = zipped(*((f"{i}.dcm", dicoms.scan()) for i in range(4)))
    with Decoder() as decoder:
        found = decoder.scans("x", data, 1 << 20)
    assert _codes(found) == ["scan", "zip_too_large", "zip_too_large", "zip_too_large"]
    assert [name for name, _ in found] == [f"{i}.dcm" for i in range(4)]


def test_a_crash_between_members_is_one_refusal(unruly: Decoder) -> None:
    """What was read before it is kept."""
    assert _codes(unruly.scans("x", b"a;crash while taking apart")) == ["scan", "decoder_crash"]


def test_the_limit_is_per_file_not_per_object() -> None:
    """A zip file of many scans may take long in all."""
    with Decoder(limit_s=1.0) as decoder:
        data = zipped(*((f"{i}.dcm", dicoms.scan()) for i in range(30)))
        assert _codes(decoder.scans("x", data)) == ["scan"] * 30


def test_the_child_knows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, token and pseudonym key stay with the worker."""
    keys = (
        "AWS_SECRET_ACCESS_KEY",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "BAE_PSEUDONYM_KEY",
        "BAE_PSEUDONYM_KEY_FILE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
    )
    for name in keys:
        monkeypatch.setenv(name, "hush")
    with Decoder(reader="tests.fakes.unruly") as decoder:
        [(_, answer)] = decoder.scans("x", b"tell the environment")
    assert isinstance(answer, ScanError)
    assert "PATH" in answer.message.split()
    assert not set(keys) & set(answer.message.split())


def test_a_child_killed_while_idle_is_replaced(unruly: Decoder) -> None:
    """The next object has not done anything wrong."""
    assert _codes(unruly.scans("x", b"a")) == ["scan"]
    assert unruly._child is not None
    unruly._child.kill()
    unruly._child.wait()
    assert _codes(unruly.scans("x", b"b")) == ["scan"]


def test_nothing_the_child_prints_gets_out(unruly: Decoder) -> None:
    """Native codecs print parts of headers."""
    code = (
        "from bae.archive.sandbox import Decoder\n"
        "with Decoder(reader='tests.fakes.unruly') as d:\n"
        "    print(d.scans('x', b'rubbish on every output')[0][1])\n"
        "    print(d.scans('x', b'raise')[0][1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "pixels_broken: quiet",
        "decoder_crash: the decoding process broke off",
    ]
    assert done.stderr == ""


def test_a_child_that_cannot_start_is_an_error_of_the_run() -> None:
    """Else every object of the archive would be refused."""
    with Decoder(reader="bae.no_such_module") as decoder, pytest.raises(RunError, match="start"):
        decoder.scans("x", b"x")


def test_the_child_ends_with_its_parent() -> None:
    """A killed worker leaves no process behind."""
    code = (
        "import os, signal\n"
        "from bae.archive.sandbox import Decoder\n"
        "d = Decoder(reader='tests.fakes.unruly'); d.scans('x', b'a')\n"
        "print(d._child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the child outlived its parent")


def test_the_child_imports_neither_torch_nor_ray() -> None:
    """It starts in a fraction of a second and is small."""
    code = (
        "import sys, bae.archive.sandbox, bae.archive\n"
        "sys.exit(bool({'torch', 'ray', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_decoded_scans_can_be_pickled_and_written_to(unruly: Decoder) -> None:
    """They go on through Ray, and torch wants writable arrays."""
    [(_, scan)] = unruly.scans("x", b"abcdefgh")
    assert isinstance(scan, Scan)
    again = pickle.loads(pickle.dumps(scan))
    np.testing.assert_array_equal(again.views[1].counts, scan.views[1].counts)
    assert scan.views[0].counts.flags.writeable


def _endless_header() -> bytes:
    """Return a DICOM object of sixteen megabytes of tiny elements: long to parse."""
    element = b"\x09\x00%c%cUN\0\0\0\0\0\0"
    start = dicoms.scan()[:132]
    meta = dicoms.scan()[132 : decode._meta(dicoms.scan())[1]]
    block = b"".join(element % (low, high) for high in range(1, 16) for low in range(256))
    items = b"".join(
        b"\xfe\xff\x00\xe0" + len(block).to_bytes(4, "little") + block for _ in range(350)
    )
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + items + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return start + meta + sequence


def test_a_part_with_a_hanging_object_is_done_and_its_neighbours_are_read(
    tmp_path: Path,
) -> None:
    """As a decode task of the job does it: a parser kept busy."""
    from bae import storage
    from bae.pipeline import parts
    from bae.pipeline.step import Reading

    folder = str(tmp_path)
    contents = {"1.dcm": dicoms.scan(), "2.dcm": _endless_header(), "3.dcm": dicoms.real_bytes()}
    for name, data in contents.items():
        storage.write_bytes(storage.join(folder, "archive", name), data)
    listing = storage.list_objects(storage.join(folder, "archive"))
    reading = replace(Reading.of(storage.join(folder, "tables")), limit_s=1.0)
    part = parts._decode_part(parts._numbered(0, listing), reading)
    parts._decoder(1.0).close()
    outcomes = [item.outcome for item in parts._unpacked(part)]
    assert _codes([("", outcome) for outcome in outcomes]) == ["scan", "decoder_hang", "scan"]


def test_shared_memory_gives_back_a_large_object_and_keeps_a_small_one() -> None:
    """Pages go after an object over the bound, not after the small ones behind it."""
    large = shared_memory.KEPT_BYTES + 1
    shared = shared_memory.Shared()
    shared.grow(large)
    shared.view(large)[:] = bytes(large)
    shared.shed()
    assert os.fstat(shared.fd).st_blocks == 0
    shared.view(3)[:] = b"abc"
    shared.shed()
    assert bytes(shared.view(3)) == b"abc"
    shared.close()

"""One run at a time: held, released, taken over when its holder is dead, fenced."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bae import storage
from bae.errors import LockedError
from bae.tables import lease


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make seconds of the lease hundredths."""
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    monkeypatch.setattr(lease, "STALE_S", 0.4)


def test_a_second_run_is_told_who_holds_the_tables(tmp_path: Path) -> None:
    """While the first one lives; afterwards it may."""
    with lease.hold(str(tmp_path), "first") as held:
        held.check()
        time.sleep(0.6)  # longer than stale: only the heartbeat keeps it
        with pytest.raises(LockedError, match="run first holds"), lease.hold(str(tmp_path), "b"):
            pass
        held.check()
    with lease.hold(str(tmp_path), "second") as held:
        held.check()


def test_of_many_runs_at_once_one_holds(tmp_path: Path) -> None:
    """All others are refused."""
    barrier, held, refused = threading.Barrier(6), [], []

    def work(number: int) -> None:
        barrier.wait()
        try:
            with lease.hold(str(tmp_path), str(number)):
                held.append(number)
                time.sleep(0.5)
        except LockedError:
            refused.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 5)


def test_a_silent_holder_elsewhere_is_followed_after_the_stated_time(tmp_path: Path) -> None:
    """Its host is another one, so only silence tells."""
    _hold_and_vanish(tmp_path, host="elsewhere", beat=time.time())
    with pytest.raises(LockedError), lease.hold(str(tmp_path), "early"):
        pass
    time.sleep(0.45)
    with lease.hold(str(tmp_path), "late") as held:
        held.check()


def test_a_holder_with_a_clock_behind_ours_is_not_robbed(tmp_path: Path) -> None:
    """Its beat looks old, but it still beats."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.02):
            _hold_and_vanish(tmp_path, host="elsewhere", beat=time.time() - 3600)

    thread = threading.Thread(target=beat)
    thread.start()
    time.sleep(0.1)
    try:
        with pytest.raises(LockedError), lease.hold(str(tmp_path), "thief"):
            pass
    finally:
        stop.set()
        thread.join()


def test_a_killed_driver_on_this_machine_is_followed_at_once(tmp_path: Path) -> None:
    """The same command can be given again right after SIGKILL."""
    code = (
        "import os,sys; from bae.tables import lease\n"
        f"with lease.hold({str(tmp_path)!r}, 'killed'): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with lease.hold(str(tmp_path), "next") as held:
        held.check()


@pytest.mark.parametrize("other", ["boot", "pid"])
def test_two_containers_of_one_name_do_not_follow_each_other(
    tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is not seen from here may live in another namespace, or another machine."""
    where = lease._where()
    assert where is not None
    boot, names = where.split(" ", 1)
    elsewhere = f"x{boot} {names}" if other == "boot" else f"{boot} pid:[1]"
    gone = subprocess.Popen(["true"])
    gone.wait()
    note = {"run_id": "theirs", "host": socket.gethostname(), "where": elsewhere, "pid": gone.pid,
            "beat": time.time(), "released": False}  # fmt: skip
    place = f"{tmp_path}/restricted/lease/000003.json"
    storage.write_bytes(place, json.dumps(note).encode())
    with pytest.raises(LockedError, match="theirs holds"), lease.hold(str(tmp_path), "mine"):
        pass
    storage.write_bytes(place, json.dumps(note | {"where": where}).encode())
    with lease.hold(str(tmp_path), "mine") as held:
        held.check()


def test_a_holder_that_was_followed_finds_out_before_it_commits(tmp_path: Path) -> None:
    """The highest number holds."""
    with lease.hold(str(tmp_path), "slow") as slow:
        storage.create(f"{tmp_path}/restricted/lease/{slow.number + 1:06d}.json", b"{}")
        with pytest.raises(LockedError, match="took these tables over"):
            slow.check()


def test_a_holder_that_cannot_renew_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage longer than the stated time costs the lease."""
    from bae.errors import StorageError

    with lease.hold(str(tmp_path), "cut off") as held:

        def away(uri: str, data: bytes) -> None:
            raise StorageError("no answer")

        monkeypatch.setattr(storage, "write_bytes", away)
        time.sleep(0.6)
        with pytest.raises(LockedError, match="could not renew"):
            held.check()


def test_the_lease_folder_stays_small(tmp_path: Path) -> None:
    """Old numbers are cleared away, and numbers never go back."""
    for number in range(1, 6):
        with lease.hold(str(tmp_path), "r") as held:
            assert held.number == number
    assert len(list((tmp_path / "restricted" / "lease").iterdir())) <= 2


def _hold_and_vanish(root: Path, host: str, beat: float) -> None:
    note = {"run_id": "gone", "host": host, "pid": os.getpid(), "beat": beat, "released": False}
    storage.write_bytes(f"{root}/restricted/lease/000003.json", json.dumps(note).encode())

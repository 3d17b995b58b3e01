"""The same promises on a real S3 server, and what happens when it fails."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from bae import s3 as bae_s3
from bae import storage
from bae.errors import LockedError, StorageError
from bae.tables import contract, current, delta, erase, lease, maintain, publish, query, runs
from tests.fakes import fault_proxy, rows, s3_server

pytestmark = pytest.mark.s3

ODD_NAMES = (
    "plain.dcm",
    "two words .dcm",
    "per%20cent.dcm",
    "plus+and=.dcm",
    "q'uo\"te&#?;:@.dcm",
    "ümläut/日本/字.dcm",
    "[glob]*{x}.dcm",
    "query?versionId=1.dcm",
)


def test_odd_names_are_listed_and_read_as_they_are(s3: s3_server.Server) -> None:
    """No escaping in the way: each key comes back and leads to its bytes."""
    place = "s3://archive/odd"
    for name in ODD_NAMES:
        storage.write_bytes(f"{place}/{name}", name.encode())
    storage.write_bytes(f"{place}/_hidden/x.dcm", b"no")
    storage.write_bytes(f"{place}/.hidden", b"no")
    found = storage.list_objects(place)["object_uri"].to_pylist()
    assert found == sorted(f"{place}/{name}" for name in ODD_NAMES)
    assert [storage.read_bytes(uri).decode() for uri in found] == [
        u[len(place) + 1 :] for u in found
    ]


@pytest.mark.slow
def test_keys_are_listed_page_by_page(s3: s3_server.Server) -> None:
    """All of four pages, each once, sorted; a page holds a thousand."""
    place = "s3://archive/many"
    names = [f"{place}/{n % 13}/{n:05d}.dcm" for n in range(3_500)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: storage.write_bytes(name, b"1"), names))
    assert storage.list_objects(place)["object_uri"].to_pylist() == sorted(names)


def test_a_big_object_goes_in_parts_and_comes_back(
    s3: s3_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multipart: bytes equal, and no object is there before the end."""
    monkeypatch.setattr(bae_s3, "_PART_BYTES", 5 * 2**20)
    data = bytes(range(256)) * (12 * 4096)
    storage.write_bytes("s3://tables/big.bin", data)
    assert storage.read_bytes("s3://tables/big.bin") == data


def test_of_many_creators_exactly_one_wins(s3: s3_server.Server) -> None:
    """By the server's conditional put."""
    barrier = threading.Barrier(6)

    def work(number: int) -> bool:
        barrier.wait()
        return storage.create("s3://tables/create/x", str(number).encode())

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(work, range(6)))
    assert sum(won) == 1
    assert storage.read_bytes("s3://tables/create/x") == str(won.index(True)).encode()


@pytest.mark.parametrize(
    ("keys", "uri", "sentence"),
    [
        (("nobody", "x"), "s3://archive/odd", "AWS_ACCESS_KEY_ID"),
        ((s3_server.WRITER[0], "wrong"), "s3://archive/odd", "AWS_SECRET_ACCESS_KEY"),
        (s3_server.WRITER, "s3://no-such-bucket/x", "bucket does not exist"),
        (s3_server.WRITER, "s3://archive/nothing-here", "nothing at s3://archive/nothing-here"),
        (s3_server.READER, "s3://tables/x", "may not do this"),
    ],
)
def test_a_refusal_says_what_to_check(
    s3: s3_server.Server,
    monkeypatch: pytest.MonkeyPatch,
    keys: tuple[str, str],
    uri: str,
    sentence: str,
) -> None:
    """Wrong key, wrong secret, no bucket, nothing there, not allowed: each its own sentence."""
    storage.write_bytes("s3://archive/odd/x.dcm", b"1")
    for name, value in s3.environment(keys).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=sentence):
        storage.list_objects(uri)


def test_a_read_only_archive_can_be_scored(
    s3: s3_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing and reading need no right to write; writing is refused."""
    storage.write_bytes("s3://archive/readonly/a.dcm", b"scan")
    for name, value in s3.environment(s3_server.READER).items():
        monkeypatch.setenv(name, value)
    assert storage.list_objects("s3://archive/readonly").num_rows == 1
    assert storage.read_bytes("s3://archive/readonly/a.dcm") == b"scan"
    with pytest.raises(StorageError, match="may not do this"):
        storage.write_bytes("s3://archive/readonly/b.dcm", b"x")


def test_no_server_is_said_after_the_stated_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once, not never."""
    monkeypatch.setattr(bae_s3, "PATIENCE_S", 1.0)
    dead = s3_server.environment(f"http://127.0.0.1:{s3_server.free_port()}")
    for name, value in dead.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match="no answer from"):
        storage.list_objects("s3://archive/x")


def test_a_proxy_that_takes_a_server_s_requests_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing answers; not where no_proxy names the server."""
    monkeypatch.setattr(bae_s3, "PATIENCE_S", 0.1)
    port = s3_server.free_port()
    for name, value in s3_server.environment(f"http://127.0.0.1:{port}").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(StorageError, match="in no_proxy: http_proxy takes its requests"):
        storage.list_objects("s3://archive/x")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(StorageError, match=r"and the network$"):
        storage.list_objects("s3://archive/x")


def test_nights_on_s3_equal_nights_on_disk(s3: s3_server.Server, tmp_path: object) -> None:
    """Index, two models, new objects, twice the same: the same tables."""
    for root in ("s3://tables/nights", str(tmp_path)):
        rows.night(root, rows.listing(range(1, 60)))
        rows.night(root, rows.listing(range(1, 80)), "m1")
        assert rows.night(root, rows.listing(range(1, 80)), "m1") is None
        rows.night(root, rows.listing(range(1, 80)), "m22")
    assert rows.content("s3://tables/nights") == rows.content(str(tmp_path))
    ask = "SELECT * EXCLUDE (predicted_at, run_id) FROM latest_ages ORDER BY ALL"
    there, here = query.connect("s3://tables/nights"), query.connect(str(tmp_path))
    assert there.sql(ask).fetchall() == here.sql(ask).fetchall()
    gaps = "FROM age_gap_by_decade"
    assert there.sql(gaps).fetchall() == here.sql(gaps).fetchall()


def test_of_two_publishers_on_s3_one_wins(s3: s3_server.Server) -> None:
    """The commit is a conditional put; the loser says so and nothing is doubled."""
    root, objects = "s3://tables/two", rows.listing(range(1, 40))
    rows.night(root, rows.listing(range(100, 105)), "m1")
    barrier = threading.Barrier(2, timeout=60)
    waited: set[int] = set()
    opened = []
    for archive in ("s3://one", "s3://two"):
        run = runs.open_run(root, archive, "m1", objects)
        for number, part in run.remaining().items():
            run.store(number, rows.staged(part, "m1"))
        opened.append(run)

    def check() -> None:
        if threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            barrier.wait()

    def work(run: runs.Run) -> bool:
        try:
            publish.publish(run, check)
        except LockedError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(work, opened)) == [False, True]
    ids = delta.read(root, "cohort/ages")["scan_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 4 + 38


def test_one_lease_at_a_time_on_s3(s3: s3_server.Server) -> None:
    """Taken, refused to others, released."""
    root = "s3://tables/lease"
    with lease.hold(root, "first") as held:
        held.check()
        with pytest.raises(LockedError), lease.hold(root, "second"):
            pass
    with lease.hold(root, "second"):
        pass


@pytest.mark.slow
def test_throttling_costs_time_and_no_rows(proxy: fault_proxy.Proxy) -> None:
    """Every third request is answered 503 SlowDown, in every step of a night."""
    root, objects = "s3://tables/slow", rows.listing(range(1, 120))
    with proxy.answer(fault_proxy.SLOW_DOWN, every=3):
        rows.night(root, objects, "m1")
    assert proxy.refused["SlowDown"] > 10
    assert delta.read(root, "cohort/ages").num_rows == 114


@pytest.mark.slow
def test_an_outage_of_ten_seconds_is_waited_for(proxy: fault_proxy.Proxy) -> None:
    """Nothing is lost, nothing doubled, in the middle of a night and of a listing."""
    root, objects = "s3://tables/outage", rows.listing(range(1, 120))
    start, commits = time.monotonic(), []

    def out() -> None:
        if not commits:
            proxy.outage(10)
        commits.append(time.monotonic() - start)

    rows.night(root, objects, "m1", check=out)
    assert commits[-1] - commits[0] > 9
    proxy.outage(10)
    assert runs.todo(root, objects, "m1").num_rows == 0
    assert delta.read(root, "cohort/ages").num_rows == 114


def test_expired_credentials_stop_the_run_and_the_same_command_goes_on(
    proxy: fault_proxy.Proxy,
) -> None:
    """Finished parts are kept; the sentence says what to do."""
    root, objects = "s3://tables/expired", rows.listing(range(1, 120))
    run = runs.open_run(root, rows.ARCHIVE, "m1", objects, part_objects=16)
    with (
        proxy.answer(fault_proxy.EXPIRED, after=8),
        pytest.raises(StorageError, match="credentials have expired; renew"),
    ):
        for number, part in run.parts().items():
            run.store(number, rows.staged(part, "m1"))
    done = run.staged()
    assert 0 < len(done) < len(run.parts())
    rows.night(root, objects, "m1")
    assert delta.read(root, "cohort/ages").num_rows == 114


@pytest.mark.parametrize("after", [1, 6, 12, 18])
def test_expired_during_the_publish_is_a_clear_error_and_repeatable(
    proxy: fault_proxy.Proxy, after: int
) -> None:
    """Wherever in the commits it strikes."""
    root, objects = f"s3://tables/expired{after}", rows.listing(range(1, 30))
    run = runs.open_run(root, rows.ARCHIVE, "m1", objects)
    for number, part in run.remaining().items():
        run.store(number, rows.staged(part, "m1"))
    with proxy.answer(fault_proxy.EXPIRED, after=after), pytest.raises(StorageError):
        publish.finish(run)
    rows.night(root, objects, "m1")
    assert delta.read(root, "cohort/ages").num_rows == 28
    assert delta.read(root, "cohort/boxes").num_rows == 56


def test_killed_while_publishing_to_s3_then_repeated(s3: s3_server.Server) -> None:
    """SIGKILL in another process, in the middle of its commits."""
    root, objects = "s3://tables/killed", rows.listing(range(1, 60))
    run = runs.open_run(root, rows.ARCHIVE, "m1", objects)
    for number, part in run.remaining().items():
        run.store(number, rows.staged(part, "m1"))
    code = (
        "import os\nfrom bae.tables import publish\nfrom bae.tables.runs import Run\nn = 0\n"
        "def check():\n    global n\n    n += 1\n    if n == 4: os.kill(os.getpid(), 9)\n"
        f"publish.publish({run!r}, check)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert delta.read(root, "cohort/heatmaps").num_rows == 0
    rows.night(root, objects, "m1")
    counts = [delta.read(root, name).num_rows for name in contract.SCHEMAS]
    assert counts == [57, 2, 114, 114, 57]


def test_nothing_to_do_reads_no_object(proxy: fault_proxy.Proxy) -> None:
    """A second night lists and compares; the archive's objects are not fetched."""
    place, root = "s3://archive/quiet", "s3://tables/quiet"
    for number in range(1, 30):
        storage.write_bytes(f"{place}/{number:07d}.dcm", b"scan" * 1000)
    objects = storage.list_objects(place)
    rows.night(root, objects, "m1", place)
    with proxy.answer((500, "InternalError"), only="/archive/quiet/"):
        again = storage.list_objects(place)
        assert again == objects
        assert runs.todo(root, again, "m1").num_rows == 0
    assert proxy.refused == {}


@pytest.mark.slow
def test_upkeep_works_on_s3(s3: s3_server.Server) -> None:
    """Marks, erasure with proof, compaction and vacuum."""
    root, archive = "s3://tables/upkeep", "s3://archive/upkeep"
    for start in range(1, 100, 10):
        rows.night(root, rows.listing(range(start, start + 10), archive), "m1", archive)
    listing = rows.listing(range(1, 98), archive)
    assert current.mark(root, archive, listing) == 2
    assert maintain.compact(root)["cohort/ages"] == (10, 1)
    assert erase.erase(root, rows.key("patient", 3)).rows["cohort/ages"] == 2
    assert delta.read(root, "cohort/ages").num_rows == 95 - 2
    storage.write_bytes("s3://archive/upkeep/x", b"1")
    storage.delete("s3://archive/upkeep")
    assert not storage.exists("s3://archive/upkeep")


def test_other_libraries_reach_the_same_place(s3: s3_server.Server) -> None:
    """fsspec and pyarrow get endpoint and keys from the same environment."""
    import pyarrow.parquet as pq

    system, path = storage.pyarrow_filesystem("s3://tables/other/x y.parquet")
    pq.write_table(pa.table({"a": [1, 2]}), path, filesystem=system)
    assert path == "tables/other/x y.parquet"
    with bae_s3.filesystem().open(path, "rb") as file:
        assert pq.read_table(file).num_rows == 2

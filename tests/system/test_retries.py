"""An object that kills its worker is named; what was refused by a bad moment is read later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bae import storage
from bae.archive import refusals
from bae.errors import StorageError
from bae.pipeline import night, parts
from bae.pipeline.cluster import deaths
from bae.report import counts
from bae.tables import connect, delta, runs
from tests.archive.test_objects import zipped
from tests.fakes import deadly, dicoms, tiny
from tests.fakes.place import Place

ROOT = Path(__file__).parents[2]

REJECTS = """
    SELECT regexp_extract(object_uri, '[^/]+$'), code, attempts, decoder_version,
           settled_at IS NULL AS open
    FROM rejects ORDER BY ALL"""


@pytest.fixture
def archive(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Seven scans, in parts of four objects, and workers that obey ``deadly``."""
    monkeypatch.setattr(runs, "PART_OBJECTS", 4)
    monkeypatch.setattr(parts, "_decode_part", deadly.decode_part)
    for number in range(7):
        place.scan(f"{number}.dcm", f"p{number}", number)
    return place


# ---- objects that kill --------------------------------------------------------------------


def test_an_object_that_kills_its_decode_task_is_named_and_its_neighbours_are_scored(
    archive: Place,
) -> None:
    """In one night. Of a zip file it is the listed object."""
    data = zipped(("in.dcm", dicoms.scan()))
    (archive.archive / "3-deadly.zip").write_bytes(data + deadly.DEADLY)
    said = archive.night()
    assert "object_kills_worker      1" in said and "deadly" not in said
    assert archive.ask("SELECT count(*), count(DISTINCT scan_id) FROM ages") == [(7, 7)]
    assert archive.ask(REJECTS) == [
        ("3-deadly.zip", "object_kills_worker", 1, refusals.DECODER_VERSION, True)
    ]
    assert not runs.unfinished(archive.tables)


def test_an_object_that_kills_the_last_step_is_told_from_the_part_beside_it(
    archive: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has two parts in hand at first; both are suspects, one object is refused."""
    monkeypatch.setattr(night, "Index", deadly.DeadlyStep)
    archive.scan("deadly.dcm", "p8", 8)
    assert "refused    1" in archive.night("index")
    assert archive.ask("SELECT count(*) FROM scans") == [(7,)]
    assert [row[:2] for row in archive.ask(REJECTS)] == [("deadly.dcm", "object_kills_worker")]


def test_a_store_out_of_reach_quarantines_nothing(archive: Place) -> None:
    """It fails the run, as often as it is repeated; then the night goes on."""
    bad = archive.archive / "8.dcm"
    bad.write_bytes(deadly.OUTAGE)
    places = ["--archive", str(archive.archive), "--tables", archive.tables]
    for _ in range(3):
        code, said = archive.job("index", *places)
        assert code == 1 and "out of reach" in said
    bad.unlink()
    [run] = runs.unfinished(archive.tables)
    assert len(run.parts()) == 2
    archive.night("index")
    assert [row[1] for row in archive.ask(REJECTS)] == ["object_gone"]
    assert archive.ask("SELECT count(*) FROM scans") == [(7,)]


def test_a_death_counts_where_the_worker_did_not_let_go() -> None:
    """Of its own part only, and by stage."""
    ledger = deaths.Ledger()
    assert ledger.begin(1, "decode")
    assert ledger.begin(1, "step") and ledger.begin(1, "decode")
    assert not ledger.begin(1, "decode")
    for _ in range(5):
        assert ledger.begin(2, "decode")
        ledger.end(2, "decode")


@pytest.mark.cluster
@pytest.mark.slow
def test_what_takes_its_node_along_is_named(tmp_path: Path, tiny_model: Path) -> None:
    """A cluster loses a node each time; the job goes on, and is repeated where it is stuck."""
    for _ in range(3):
        done = _deadly_night(tmp_path, tiny_model, "nodes", "--patience", "1.5")
        assert done.returncode in (0, 1), done.stderr
        if not done.returncode:
            break
        assert "no part was finished" in done.stderr, done.stderr
    assert not done.returncode, done.stderr
    _one_is_named(tmp_path)


@pytest.mark.ray
@pytest.mark.slow
def test_what_takes_the_job_along_is_named_by_a_later_one(tmp_path: Path, tiny_model: Path) -> None:
    """All of Ray goes each time; the same command is given again, as a scheduler would."""
    for attempt in range(7):  # noqa: B007 - said below
        done = _deadly_night(tmp_path, tiny_model, "all")
        assert done.returncode in (0, 1), done.stderr
        if not done.returncode:
            break
    assert attempt == 5, done.stderr
    _one_is_named(tmp_path)


def _deadly_night(
    folder: Path, model: Path, what: str, *flags: str
) -> subprocess.CompletedProcess[str]:
    archive = folder / "archive"
    if not archive.exists():
        archive.mkdir()
        for number in range(7):
            data = dicoms.scan(PatientID=f"p{number}", SOPInstanceUID=f"1.2.{number}")
            (archive / f"{number}.dcm").write_bytes(data)
        (archive / "3-deadly.dcm").write_bytes(deadly.DEADLY)
    command = [sys.executable, "-m", "tests.fakes.deadly", what, "--archive", str(archive)]
    command += ["--tables", str(folder / "tables"), "--model", str(model), *flags]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        command, cwd=ROOT, env=kept, text=True, capture_output=True, timeout=500, check=False
    )


def _one_is_named(folder: Path) -> None:
    tables = connect(str(folder / "tables"), restricted=True)
    assert [row[:2] for row in tables.sql(REJECTS).fetchall()] == [
        ("3-deadly.dcm", "object_kills_worker")
    ]
    counted = "SELECT count(*), count(DISTINCT scan_id) FROM ages"
    assert tables.sql(counted).fetchall() == [(7, 7)]


@pytest.mark.slow
def test_training_and_evaluation_name_what_kills_their_workers_and_go_on_without(
    archive: Place, tmp_path: Path
) -> None:
    """The nightly job has read it, and scores it all the same."""
    for number in range(7, 60):
        archive.scan(f"{number}.dcm", f"p{number}", number)
    archive.night("index")
    deadly_names = archive.archive / deadly.LIST
    out = ["--model", archive.model, "--out", str(tmp_path / "evaluation")]
    jobs = {
        "train": ("train_localizer", ["--model", str(tmp_path / "made"), *tiny.FLAGS]),
        "test": ("evaluate", out),
    }
    named = set()
    for split, (job, flags) in jobs.items():
        [(uri,)] = archive.ask(f"SELECT min(object_uri) FROM scans WHERE split = '{split}'")
        named.add(Path(uri).name)
        deadly_names.write_text(Path(uri).name)
        code, said = archive.job(job, "--tables", archive.tables, *flags)
        assert code == 1 and "1 objects end the process" in said, said
        assert {(row[0], row[1]) for row in archive.ask(REJECTS)} == {
            (name, "object_kills_worker") for name in named
        }
        code, said = archive.job(job, "--tables", archive.tables, *flags)
        assert code == 0, said
    deadly_names.unlink()
    assert not runs.unfinished(archive.tables)
    archive.night()
    assert archive.ask("SELECT count(*) FROM ages") == [(60,)]


def test_an_error_lets_go_of_the_part(local_ray: None) -> None:
    """Only a process that is gone has died of it."""
    ledger = deaths.open_ledger()
    for _ in range(4):
        with pytest.raises(StorageError), deaths.in_hand(ledger, 1, "decode") as allowed:
            assert allowed
            raise StorageError("out of reach")


def test_a_part_cut_stays_so_in_the_next_night(tmp_path: Path) -> None:
    """One write replaces it, and only it."""
    listing = storage.LISTING.empty_table().to_pylist()
    for number in range(7):
        listing.append({"object_uri": f"/a/{number}", "etag": "e", "size_bytes": 1})
    todo = pa.Table.from_pylist(listing, storage.LISTING)
    run = runs.open_run(str(tmp_path), "/a", None, todo, part_objects=4)
    assert run.cut({0: 2}) == [2, 3]
    assert run.cut({3: 8}) == [4, 5]
    again = runs.open_run(str(tmp_path), "/a", None, todo)
    sizes = {number: part.num_rows for number, part in again.parts().items()}
    assert sizes == {1: 3, 2: 2, 4: 1, 5: 1}
    assert sorted(again.objects()["object_uri"].to_pylist()) == [f"/a/{n}" for n in range(7)]


# ---- refused for a moment -----------------------------------------------------------------


class Absence:
    """While it holds, one object is listed and then not there."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.hidden = path, path.parent.parent / "hidden"
        self.monkeypatch, self.listed = monkeypatch, storage.list_objects
        monkeypatch.setattr(storage, "list_objects", self._list)

    def _list(self, uri: str) -> Any:
        if uri != str(self.path.parent):
            return self.listed(uri)
        if self.hidden.exists():
            self.hidden.rename(self.path)
        found = self.listed(uri)
        self.path.rename(self.hidden)
        return found

    def end(self) -> None:
        """Put the object back as it was."""
        self.monkeypatch.setattr(storage, "list_objects", self.listed)
        self.hidden.rename(self.path)


def test_an_object_absent_for_a_moment_is_read_the_next_night(
    archive: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is current then, the refusal is history, and a third night does nothing."""
    absence = Absence(archive.archive / "3.dcm", monkeypatch)
    assert "object_gone              1" in archive.night()
    absence.end()
    said = archive.night()
    assert "retried    1 objects refused before" in said and "refused    0" in said
    assert archive.ask("SELECT count(*), count(removed_at) FROM scans") == [(7, 0)]
    assert archive.ask("SELECT count(*) FROM latest_ages") == [(7,)]
    assert [(*row[:3], row[4]) for row in archive.ask(REJECTS)] == [
        ("3.dcm", "object_gone", 1, False)
    ]
    assert _reported(archive) == []
    assert "nothing to do" in archive.night()


def test_an_object_that_stays_away_is_tried_in_three_more_nights(
    archive: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try is a row, the last one is open, and the report counts one object."""
    absence = Absence(archive.archive / "3.dcm", monkeypatch)
    for _ in range(4):
        assert "object_gone              1" in archive.night("index")
    assert "nothing to do" in archive.night("index")
    tries = [(row[2], row[4]) for row in archive.ask(REJECTS)]
    assert tries == [(1, False), (2, False), (3, False), (4, True)]
    assert _reported(archive) == [("object_gone", 1, 1)]
    absence.end()


def test_other_codes_are_tried_again_on_request(archive: Place) -> None:
    """Each request is a try of what is still refused."""
    (archive.archive / "a.txt").write_bytes(b"no image")
    (archive.archive / "b.dcm").write_bytes(b"")
    archive.night("index")
    assert "nothing to do" in archive.night("index")
    again = ("--retry-rejected", "format_unknown, pixels_broken")
    assert "retried    1 objects" in archive.night("index", *again)
    assert "retried    1 objects" in archive.night("index", *again)
    flags = ("--retry-rejected", "object_empty", *again)
    assert "retried    2 objects" in archive.night("predict", *flags)
    assert [(row[0], row[2], row[4]) for row in archive.ask(REJECTS)] == [
        ("a.txt", 1, False),
        ("a.txt", 2, False),
        ("a.txt", 3, False),
        ("a.txt", 4, True),
        ("b.dcm", 1, False),
        ("b.dcm", 2, True),
    ]
    assert "nothing to do" in archive.night("predict")


def test_a_code_that_is_none_is_exit_code_2(place: Place) -> None:
    """With the code that was meant."""
    places = ["--archive", str(place.archive), "--tables", place.tables]
    code, said = place.job("index", *places, "--retry-rejected", "object_gone,pixel_broken")
    assert code == 2 and "did you mean pixels_broken?" in said
    assert not Path(place.tables).exists()


def test_a_newer_decoder_tries_once_what_an_older_one_refused(
    archive: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each version, whatever comes of it."""
    (archive.archive / "a.txt").write_bytes(b"no image")
    archive.night("index")
    monkeypatch.setattr(refusals, "DECODER_VERSION", refusals.DECODER_VERSION + 1)
    assert "retried    1 objects" in archive.night("index")
    assert "nothing to do" in archive.night("index")
    assert [row[3] for row in archive.ask(REJECTS)] == [
        refusals.DECODER_VERSION - 1,
        refusals.DECODER_VERSION,
    ]


def test_an_object_replaced_while_the_run_was_broken_off_counts_once(
    archive: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused at both versions, it is one refused object in the summary and in the report."""
    bad = archive.archive / "a.txt"
    bad.write_bytes(b"no image")
    monkeypatch.setattr(night.publish, "finish", _interrupted)
    places = ["--archive", str(archive.archive), "--tables", archive.tables]
    assert archive.job("index", *places)[0] == 130
    monkeypatch.undo()
    bad.write_bytes(b"PK\x03\x04")
    os.utime(bad, (1, 1))
    assert "refused    1\n" in archive.night("index")
    assert delta.read(archive.tables, "restricted/rejects").num_rows == 2
    assert [row[1:] for row in _reported(archive)] == [(1, 1)]
    connection = counts.open_tables(archive.tables)
    counts.choose(connection)
    assert [night["refused"] for night in counts.nights(connection)] == [1]


def _reported(archive: Place) -> list[tuple[str, int, int]]:
    """Return what the report counts as refused: code, objects, those of the last run."""
    connection = counts.open_tables(archive.tables)
    found = counts.refusals(connection, counts.choose(connection))
    return [(row["code"], row["objects"], row["in_run"]) for row in found]


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt

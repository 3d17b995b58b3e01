"""Marks for removed scans, erasure with proof, files put together."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bae import storage
from bae.errors import LockedError, RunError, UseError
from bae.tables import contract, current, delta, erase, maintain, query, runs
from tests.fakes import rows

ARCHIVE = "/an/archive/that/was/emptied"


@pytest.fixture(scope="module")
def made_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of ``twelve_nights``."""
    root = tmp_path_factory.mktemp("tables")
    for start in range(1, 120, 10):
        rows.night(str(root), rows.listing(range(start, start + 10)), "m1")
    return root


@pytest.fixture
def twelve_nights(made_tables: Path, tmp_path: Path) -> str:
    """Tables of twelve nights that a test may change."""
    return str(shutil.copytree(made_tables, tmp_path / "tables"))


def test_a_scan_gone_from_the_archive_is_marked_and_unmarked_when_back(tmp_path: Path) -> None:
    """Its rows stay; other archives are left alone."""
    root, objects = str(tmp_path), rows.listing(range(1, 20))
    other = rows.listing(range(101, 104), "s3://hospital/scans2")
    rows.night(root, objects, "m1")
    rows.night(root, other, "m1", "s3://hospital/scans2")
    assert current.mark(root, rows.ARCHIVE, objects) == 0
    assert current.mark(root, rows.ARCHIVE, objects.slice(0, 16)) == 3
    assert current.mark(root, rows.ARCHIVE, objects.slice(0, 16)) == 0
    scans = delta.read(root, "restricted/scans")
    gone = scans.filter(pc.is_valid(scans["removed_at"]))
    assert sorted(gone["scan_id"].to_pylist()) == sorted(rows.key("scan", n) for n in (17, 18, 19))
    assert scans.num_rows == 22 and delta.read(root, "cohort/ages").num_rows == 22
    assert runs.todo(root, objects, "m1").num_rows == 0
    assert current.mark(root, rows.ARCHIVE, objects) == 3
    assert delta.read(root, "restricted/scans")["removed_at"].null_count == 22


def test_erasure_leaves_no_trace_of_a_patient_and_all_of_the_others(tmp_path: Path) -> None:
    """Not in tables, not in old versions' files, not in logs."""
    root = str(tmp_path)
    for numbers in (range(1, 60), range(40, 120)):
        rows.night(root, rows.listing(numbers, ARCHIVE), "m1", ARCHIVE)
    rows.night(root, rows.listing(range(1, 120), ARCHIVE), "m22", ARCHIVE)
    patient = rows.key("patient", 25)
    before = rows.content(root)
    ids = {rows.key("scan", 50), rows.key("scan", 51)}
    found = erase.erase(root, patient)
    assert found.rows == {
        "cohort/ages": 4,
        "cohort/boxes": 8,
        "cohort/heatmaps": 8,
        "restricted/rejects": 0,
        "restricted/scans": 2,
    }
    assert found.files_searched > 10
    assert rows.content(root) == {
        name: [r for r in there if r.get("scan_id") not in ids] for name, there in before.items()
    }
    # an independent search: every string of every file left on disk
    import pyarrow.parquet as pq

    for path in tmp_path.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            if path.suffix == ".parquet":
                text += repr(pq.read_table(path).to_pylist()).encode()
            for secret in (patient, *ids):
                assert secret.encode() not in text, path.name


def test_erasure_survives_a_checkpointed_log(tmp_path: Path) -> None:
    """Checkpoints are searched too, and hold no key."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 30), ARCHIVE), "m1", ARCHIVE)
    for name in contract.SCHEMAS:
        table = delta.delta(root, name)
        assert table is not None
        table.create_checkpoint()
    assert erase.erase(root, rows.key("patient", 3)).rows["cohort/ages"] == 2


def test_erasure_drops_the_training_samples_that_show_the_patient(tmp_path: Path) -> None:
    """Whole sets, since they are a cache; other sets stay."""
    import pyarrow.parquet as pq

    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 30), ARCHIVE), "m1", ARCHIVE)
    for name, number in (("mine", 6), ("other", 9)):
        (tmp_path / contract.SAMPLES / name).mkdir(parents=True)
        for part in range(2):
            ids = pa.table({"scan_id": [rows.key("scan", number + 10 * part)]})
            pq.write_table(ids, tmp_path / contract.SAMPLES / name / f"{part:06d}.parquet")
    erase.erase(root, rows.key("patient", 3))
    assert [path.name for path in (tmp_path / contract.SAMPLES).iterdir()] == ["other"]


def test_a_key_left_somewhere_is_found(tmp_path: Path) -> None:
    """The proof is a search, not a promise."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 30), ARCHIVE), "m1", ARCHIVE)
    storage.write_bytes(f"{root}/cohort/notes.txt", f"see {rows.key('patient', 3)}".encode())
    with pytest.raises(RunError, match="still holds the patient"):
        erase.erase(root, rows.key("patient", 3))


def test_an_unknown_patient_stops_an_erasure(tmp_path: Path) -> None:
    """Nothing is changed then."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 30), ARCHIVE), "m1", ARCHIVE)
    before = rows.content(root)
    with pytest.raises(UseError, match="no table has this patient"):
        erase.erase(root, "0" * 32)
    assert rows.content(root) == before


def test_erasure_says_what_the_archive_still_holds(tmp_path: Path) -> None:
    """Since the next night would read it again."""
    root, archive = f"{tmp_path}/tables", f"{tmp_path}/archive"
    objects = rows.listing(range(6, 8), archive)
    for uri in objects["object_uri"].to_pylist():
        storage.write_bytes(uri, b"scan")
    rows.night(root, objects, "m1", archive)
    storage.delete(objects["object_uri"][0].as_py())
    assert erase.erase(root, rows.key("patient", 3)).still_in_archive == 1


@pytest.mark.slow
def test_compaction_keeps_every_row_and_sorts(twelve_nights: str) -> None:
    """Many nights' files become one; publishing goes on."""
    import pyarrow.parquet as pq

    root = twelve_nights
    before = rows.content(root)
    assert maintain.compact(root)["cohort/ages"] == (12, 1)
    assert maintain.compact(root) == {}
    assert rows.content(root) == before
    table = delta.delta(root, "cohort/ages")
    assert table is not None
    keys = pq.read_table(delta.files(table)[0])["patient_key"]
    assert keys.equals(keys.take(pc.sort_indices(keys)))
    rows.night(root, rows.listing(range(1, 140)), "m1")
    assert delta.read(root, "cohort/ages").num_rows == 133


def test_an_old_version_is_readable_when_its_files_are_gone(twelve_nights: str) -> None:
    """Vacuum keeps replaced files for a month by default; a version needs them no longer."""
    root = twelve_nights
    maintain.compact(root)
    assert maintain.vacuum(root) == 0
    fourth = "SELECT count(*), count(DISTINCT scan_id) FROM ages"
    assert query.connect(root, version=4).sql(fourth).fetchall() == [(38, 38)]
    assert maintain.vacuum(root, keep_days=0) > 0
    assert query.connect(root, version=4).sql(fourth).fetchall() == [(38, 38)]
    assert delta.read(root, "cohort/ages").num_rows == 114
    erase.erase(root, rows.key("patient", 3))
    assert query.connect(root, version=4).sql(fourth).fetchall() == [(36, 36)]


def test_compaction_beside_a_publish_loses_nothing(twelve_nights: str) -> None:
    """Rows that came while files were put together are still there, once."""
    root = twelve_nights
    published = False

    def meanwhile() -> None:
        nonlocal published
        if not published:
            published = True
            rows.night(root, rows.listing(range(501, 510)), "m1")

    maintain.compact(root, meanwhile)
    assert published
    ids = delta.read(root, "cohort/ages")["scan_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 114 + 9


def test_an_erasure_beside_a_publish_is_refused(tmp_path: Path) -> None:
    """It would not know of the rows that came meanwhile."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 30), ARCHIVE), "m1", ARCHIVE)

    def meanwhile() -> None:
        rows.night(root, rows.listing(range(501, 510), ARCHIVE), "m1", ARCHIVE)

    with pytest.raises(LockedError):
        erase.erase(root, rows.key("patient", 3), meanwhile)
    assert erase.erase(root, rows.key("patient", 3)).rows["restricted/scans"] == 2


def test_abandoned_staging_is_dropped_and_runs_are_kept(tmp_path: Path) -> None:
    """Only folders that are no run and are old."""
    root, objects = str(tmp_path), rows.listing(range(1, 5))
    alive = runs.open_run(root, rows.ARCHIVE, None, objects)
    dead = storage.join(root, contract.STAGING, "20200101T000000Z-00000000", "todo-000.parquet")
    storage.write_bytes(dead, b"x")
    young = storage.join(root, contract.STAGING, "2020-01-00000000", "todo-000.parquet")
    storage.write_bytes(young, b"x")
    os.utime(dead, (0, 0))
    os.utime(storage.join(alive.uri, "run.json"), (0, 0))
    assert maintain.drop_abandoned(root) == 1
    assert storage.exists(young), "the folder's own time counts, not its name"
    assert not storage.exists(dead)
    assert runs.unfinished(root) == [alive]


def test_an_empty_root_needs_no_upkeep(tmp_path: Path) -> None:
    """Nothing there, nothing done."""
    root = str(tmp_path)
    assert maintain.compact(root) == {} and maintain.vacuum(root) == 0
    assert maintain.drop_abandoned(root) == 0
    assert current.mark(root, rows.ARCHIVE, rows.listing(range(1, 2))) == 0


def test_the_erase_job_prints_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts, the proof, and what is left to do by hand; a wrong key is exit code 2."""
    from jobs import erase

    root, archive = f"{tmp_path}/tables", f"{tmp_path}/archive"
    objects = rows.listing(range(6, 8), archive)
    for uri in objects["object_uri"].to_pylist():
        storage.write_bytes(uri, b"scan")
    rows.night(root, objects, "m1", archive)
    assert erase.main(["--tables", root, "--patient", "0" * 32]) == 2
    assert "no table has this patient" in capsys.readouterr().err
    assert erase.main(["--tables", root, "--patient", rows.key("patient", 3)]) == 0
    said = capsys.readouterr().out
    assert "cohort/ages              2 rows removed" in said
    assert "the patient is in none" in said and "still holds 2 of" in said


def test_the_maintain_job_puts_files_together(
    twelve_nights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And refuses to delete what readers of today need."""
    from jobs import maintain

    root = twelve_nights
    assert maintain.main(["--tables", root]) == 0
    assert "cohort/ages              12 files put together into 1" in capsys.readouterr().out
    assert maintain.main(["--tables", root, "--keep-days", "0"]) == 2


def test_maintenance_and_erasure_refuse_while_a_run_holds_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a run holds the tables, both jobs say so and change nothing."""
    from bae.tables import lease
    from jobs import erase, maintain

    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 30)), "m1")
    before = rows.content(root)
    with lease.hold(root, "night"):
        assert maintain.main(["--tables", root]) == 1
        assert erase.main(["--tables", root, "--patient", rows.key("patient", 3)]) == 1
    assert capsys.readouterr().err.count("run night holds these tables") == 2
    assert rows.content(root) == before

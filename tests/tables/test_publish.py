"""Publishing: each row exactly once, nothing half, whatever happens in between."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pytest

from bae.errors import LockedError, RunError, TablesError
from bae.tables import compare, contract, delta, publish, query, runs, splits
from tests.fakes import rows


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


def test_a_night_puts_every_object_into_exactly_one_place(tmp_path: Path) -> None:
    """Listed objects are scans or rejects; scans have ages, boxes and heat maps."""
    rows.night(str(tmp_path), rows.listing(range(1, 101)), "m1")
    counts = {name: delta.read(str(tmp_path), name).num_rows for name in contract.SCHEMAS}
    assert counts == {
        "restricted/scans": 95,
        "restricted/rejects": 5,
        "cohort/heatmaps": 190,
        "cohort/boxes": 190,
        "cohort/ages": 95,
    }


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    """The second call adds no row and no version."""
    root = str(tmp_path)
    run = _staged_run(root, range(1, 50))
    publish.publish(run)
    before = rows.content(root), _versions(root)
    added, _ = publish.publish(run)
    assert added == dict.fromkeys(contract.SCHEMAS, 0)
    assert (rows.content(root), _versions(root)) == before


@pytest.mark.parametrize("commits", range(6))
def test_killed_between_two_tables_then_repeated_gives_the_same_tables(
    tmp_path: Path, commits: int
) -> None:
    """Whatever number of tables was committed before the kill."""
    root, calm = str(tmp_path / "killed"), str(tmp_path / "calm")
    rows.night(calm, rows.listing(range(1, 50)), "m1")
    run = _staged_run(root, range(1, 50))
    _publish_and_die(run, commits)
    rows.night(root, rows.listing(range(1, 50)), "m1")
    assert rows.content(root) == rows.content(calm)
    assert runs.unfinished(root) == []


@pytest.mark.parametrize("commits", range(1, 5))
def test_readers_see_nothing_of_a_half_published_run(tmp_path: Path, commits: int) -> None:
    """Neither read nor the views show rows before ages has the run."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 30)), "m1")
    before = rows.content(root)
    _publish_and_die(_staged_run(root, range(30, 60)), commits)
    assert rows.content(root) == before
    connection = query.connect(root, restricted=True)
    for name, there in before.items():
        view = name.partition("/")[2]
        assert connection.sql(f"SELECT count(*) FROM {view}").fetchall() == [(len(there),)]


def test_a_run_of_another_archive_first_finishes_what_is_half_published(tmp_path: Path) -> None:
    """So that at most one run is half published at any time."""
    root, calm = str(tmp_path / "killed"), str(tmp_path / "calm")
    other = rows.listing(range(100, 130), "s3://other")
    _publish_and_die(_staged_run(root, range(1, 30)), 3)
    rows.night(root, other, "m1", "s3://other")
    rows.night(calm, rows.listing(range(1, 30)), "m1")
    rows.night(calm, other, "m1", "s3://other")
    assert rows.content(root) == rows.content(calm)


def test_of_two_publishers_at_once_one_wins_and_nothing_is_doubled(tmp_path: Path) -> None:
    """The other says so; the table version it compared with is gone."""
    root, calm = str(tmp_path / "two"), str(tmp_path / "calm")
    rows.night(root, rows.listing(range(1, 5)), "m1")
    objects = rows.listing(range(1, 60))
    first = _staged_run(root, range(5, 60), archive="s3://one", objects=objects)
    second = _staged_run(root, range(5, 60), archive="s3://two", objects=objects)
    meet = threading.Barrier(2, timeout=20)
    met = threading.local()
    outcomes: list[object] = []

    def check() -> None:
        if not hasattr(met, "once"):
            met.once = True
            meet.wait()

    def work(run: runs.Run) -> None:
        try:
            outcomes.append(publish.publish(run, check))
        except LockedError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(run,)) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(found, LockedError) for found in outcomes) == [False, True]
    rows.night(calm, rows.listing(range(1, 5)), "m1")  # splits follow the order of nights
    rows.night(calm, objects, "m1")
    assert rows.content(root) == rows.content(calm)


def test_a_lost_lease_stops_the_publish_before_the_next_commit(tmp_path: Path) -> None:
    """Nothing is committed once check has raised."""
    run = _staged_run(str(tmp_path), range(1, 30))

    def lost() -> None:
        raise LockedError("taken over")

    with pytest.raises(LockedError):
        publish.publish(run, lost)
    assert all(delta.read(str(tmp_path), name).num_rows == 0 for name in contract.SCHEMAS)


def test_an_unaccounted_object_stops_the_publish(tmp_path: Path) -> None:
    """Scored plus refused must be what was listed."""
    root = str(tmp_path)
    objects = rows.listing(range(1, 30))
    run = runs.open_run(root, rows.ARCHIVE, None, objects, part_objects=10)
    for number, part in run.parts().items():
        run.store(number, rows.staged(part.slice(1) if number == 1 else part))
    with pytest.raises(RunError, match="1 objects"):
        publish.finish(run)


def test_a_changed_object_becomes_the_next_version_of_its_scan(tmp_path: Path) -> None:
    """Old rows stay; the new ones count one up."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 10)), "m1")
    rows.night(root, rows.listing(range(3, 5), version="v2"), "m1")
    ages = delta.read(root, "cohort/ages")
    assert ages.num_rows == 9 + 2
    latest = query.connect(root).sql("SELECT scan_id, object_version FROM latest_ages").fetchall()
    assert dict(latest) == {rows.key("scan", n): 2 if n in (3, 4) else 1 for n in range(1, 10)}


def test_a_model_scoring_indexed_scans_adds_no_second_scan_row(tmp_path: Path) -> None:
    """Index, then two models: one row per scan in scans, one per model in ages."""
    root, objects = str(tmp_path), rows.listing(range(1, 20))
    for model_id in (None, "m1", "m22"):
        rows.night(root, objects, model_id)
    assert delta.read(root, "restricted/scans").num_rows == 19
    assert delta.read(root, "cohort/ages").num_rows == 38


def test_a_patient_keeps_the_split(tmp_path: Path) -> None:
    """In scans and ages alike, over several nights."""
    root = str(tmp_path)
    for start in range(1, 60, 10):
        rows.night(root, rows.listing(range(start, start + 11)), "m1")
    for name in ("restricted/scans", "cohort/ages"):
        found = delta.read(root, name, ["patient_key", "split"]).group_by("patient_key")
        counts = found.aggregate([("split", "count_distinct")])["split_count_distinct"]
        assert set(counts.to_pylist()) == {1}


def test_rows_come_sorted_compressed_and_described(tmp_path: Path) -> None:
    """What readers of the files rely on."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 100)), "m1")
    table = delta.delta(root, "cohort/ages")
    assert table is not None
    file = pq.ParquetFile(delta.files(table)[0])
    chunk = file.metadata.row_group(0).column(0)
    assert chunk.compression == "ZSTD" and chunk.is_stats_set
    keys = file.read()["patient_key"]
    assert keys.equals(keys.take(pc.sort_indices(keys)))
    schema = delta.dataset(root, "cohort/ages").schema
    assert all(field.metadata[b"description"] for field in schema)


def test_a_large_night_is_sorted_too(tmp_path: Path) -> None:
    """Over many row groups, so that a patient's rows are found without reading all."""
    import duckdb
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = contract.SCHEMAS["restricted/rejects"]
    made = duckdb.sql("""
        SELECT printf('%07d', i) AS object_uri, object_uri AS source_uri, 'e' AS etag,
               'decode' AS stage, 'broken' AS code, 'm' AS message, NULL::VARCHAR AS model_id,
               'r' AS run_id, TIMESTAMPTZ '2026-01-01 00:00:00+00' AS rejected_at,
               1 AS attempts, 1 AS decoder_version, NULL AS settled_at
        FROM range(400000) t(i) ORDER BY 1""").to_arrow_reader(65536)
    batches = (
        pa.record_batch([batch.column(f.name).cast(f.type) for f in schema], schema=schema)
        for batch in made
    )
    table = publish._opened(str(tmp_path), "restricted/rejects")
    publish._commit("restricted/rejects", table, "r", None, batches)
    table = delta.delta(str(tmp_path), "restricted/rejects")
    assert table is not None
    [path] = delta.files(table)
    assert pq.ParquetFile(path).num_row_groups > 2
    names = pq.read_table(path)["object_uri"]
    in_order = names.equals(names.take(pc.sort_indices(names)))
    assert in_order


def test_ages_in_the_open_are_rounded_and_over_89_one_category(tmp_path: Path) -> None:
    """Gaps are of the open age, too: together they would give the exact one."""
    objects = rows.listing(range(1, 3))
    staged = rows.staged(objects, "m1").to_pylist()
    staged[0]["scan"]["age_years"], staged[1]["scan"]["age_years"] = 95.0, 63.2697
    run = runs.open_run(str(tmp_path), rows.ARCHIVE, "m1", objects)
    run.store(0, pa.Table.from_pylist(staged, schema=contract.STAGED))
    publish.finish(run)
    exact = delta.read(str(tmp_path), "restricted/scans")["age_years"].to_pylist()
    assert sorted(exact) == [63.2697, 95.0]
    ages = delta.read(str(tmp_path), "cohort/ages").to_pylist()
    assert sorted(row["age_years"] for row in ages) == [63.3, 90.0]
    for row in ages:
        assert row["age_gap_years"] == row["predicted_age_years"] - row["age_years"]
        assert ("age_over_89" in row["flags"]) == (row["age_years"] == 90)


def test_staged_files_of_another_version_are_refused(tmp_path: Path) -> None:
    """With a sentence, before anything is committed."""
    import pyarrow.parquet as pq

    run = runs.Run(tables_uri=str(tmp_path), run_id="r", archive_uri=rows.ARCHIVE)
    Path(run.staged_uri).mkdir(parents=True)
    pq.write_table(pa.table({"object_uri": ["x"]}), Path(run.staged_uri) / "000000.parquet")
    with pytest.raises(TablesError, match="columns of this version"):
        publish.publish(run)


def test_the_open_log_names_no_path_and_no_key(tmp_path: Path) -> None:
    """Delta's log of cohort/ holds neither object names nor pseudonyms."""
    rows.night(str(tmp_path), rows.listing(range(1, 50)), "m1")
    logs = [path.read_text() for path in tmp_path.glob("cohort/*/_delta_log/*.json")]
    assert len(logs) >= 3
    for log in logs:
        for secret in ("restricted", "DOE", "s3://", rows.key("scan", 1), rows.key("patient", 0)):
            assert secret not in log
    files = [path.read_bytes() for path in tmp_path.glob("cohort/*/*.parquet")]
    assert not any(b"DOE" in file for file in files)


def test_a_publish_needs_little_memory_for_the_splits(tmp_path: Path) -> None:
    """One row for each patient, known or new."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 40)))
    run = _staged_run(root, range(30, 60))
    opened = {name: delta.delta(root, name) for name in contract.SCHEMAS}
    connection = compare.database(
        str(tmp_path), compare.staged(run.staged_uri), run.objects(), opened
    )
    splits.assign(connection)
    known = connection.sql("SELECT count(DISTINCT patient_key), count(*) FROM splits").fetchall()
    assert known == [(30, 30)]


def _staged_run(
    root: str,
    numbers: range,
    archive: str = rows.ARCHIVE,
    objects: pa.Table | None = None,
) -> runs.Run:
    todo = runs.todo(root, rows.listing(numbers) if objects is None else objects, "m1")
    run = runs.open_run(root, archive, "m1", todo, part_objects=16)
    for number, part in run.remaining().items():
        run.store(number, rows.staged(part, "m1"))
    return run


def _publish_and_die(run: runs.Run, commits: int) -> None:
    """Publish, and be killed when about to make one commit more than ``commits``."""
    left = commits

    def check() -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    try:
        publish.finish(run, check)
    except Killed:
        assert commits < 5
    else:
        assert commits >= 5


def _versions(root: str) -> dict[str, int | None]:
    opened = {name: delta.delta(root, name) for name in contract.SCHEMAS}
    return {name: None if table is None else table.version() for name, table in opened.items()}


def test_no_log_has_statistics_of_a_pseudonym(tmp_path: Path) -> None:
    """Of no column whose name says key, id or uri: they would outlive an erasure."""
    for name, schema in contract.SCHEMAS.items():
        told = publish._configuration(name)["delta.dataSkippingStatsColumns"]
        assert told is not None
        with_statistics = set(told.split(","))
        secret = {f.name for f in schema if f.name.endswith(("_key", "scan_id", "_uri", "etag"))}
        assert not secret & with_statistics

"""What is left to do, and runs that go on where they broke off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bae import storage
from bae.errors import RunError, TablesError
from bae.tables import contract, delta, publish, runs
from tests.fakes import rows


def _left(root: str, objects: pa.Table, model_id: str | None) -> list[int]:
    found = runs.todo(root, objects, model_id)
    assert found.schema.equals(runs.TO_DO)
    return [int(uri[-11:-4]) for uri in found["object_uri"].to_pylist()]


def test_everything_is_left_at_first_and_nothing_after_a_night(tmp_path: Path) -> None:
    """Refused objects count as done."""
    root, objects = str(tmp_path), rows.listing(range(1, 50))
    assert _left(root, objects, "m1") == list(range(1, 50))
    rows.night(root, objects, "m1")
    assert _left(root, objects, "m1") == []


def test_only_new_and_changed_objects_are_left(tmp_path: Path) -> None:
    """Changed means another etag; also for a refused object."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 50)), "m1")
    now = pa.concat_tables(
        [
            rows.listing(range(1, 10)),
            rows.listing(range(10, 12), version="v2"),
            rows.listing(range(20, 21), version="v2"),
            rows.listing(range(50, 53)),
        ]
    )
    assert _left(root, now, "m1") == [10, 11, 20, 50, 51, 52]


def test_a_new_model_scores_what_could_be_read(tmp_path: Path) -> None:
    """Indexed scans and scans of another model, not what no model could read."""
    root, objects = str(tmp_path), rows.listing(range(15, 25))
    rows.night(root, objects)
    assert _left(root, objects, None) == []
    assert _left(root, objects, "m1") == [15, 16, 17, 18, 19, 21, 22, 23, 24]
    rows.night(root, objects, "m1")
    assert _left(root, objects, "m2") == [15, 16, 17, 18, 19, 21, 22, 23, 24]


def test_a_refusal_by_one_model_leaves_the_scan_to_another(tmp_path: Path) -> None:
    """And is not tried again by the same model."""
    root, objects = str(tmp_path), rows.listing(range(1, 3))
    staged = rows.staged(objects, None).to_pylist()
    for row in staged:
        row["reject"] = {"stage": "score", "code": "no_region", "message": "m", "model_id": "m1"}
    run = runs.open_run(root, rows.ARCHIVE, "m1", objects)
    run.store(0, pa.Table.from_pylist(staged, schema=contract.STAGED))

    publish.finish(run)
    assert _left(root, objects, "m1") == []
    assert _left(root, objects, "m2") == [1, 2]


def test_a_zip_is_left_until_all_its_members_are_scored(tmp_path: Path) -> None:
    """One refused and one scored member do not hide a third that is only indexed."""

    root, objects = str(tmp_path), rows.listing(range(1, 2))

    def stage(model_of_third: str | None) -> None:
        members = []
        for number, model_id in ((1, "m1"), (3, model_of_third), (20, None)):
            [row] = rows.staged(rows.listing(range(number, number + 1)), model_id).to_pylist()
            [entry] = objects.to_pylist()
            row |= {"source_uri": entry["object_uri"], "etag": entry["etag"]}
            members.append(row | {"object_uri": f"{entry['object_uri']}!/{number}"})
        run = runs.open_run(root, rows.ARCHIVE, "m1", objects)
        run.store(0, pa.Table.from_pylist(members, schema=contract.STAGED))
        publish.finish(run)

    stage(None)
    assert _left(root, objects, "m1") == [1]
    stage("m1")
    assert _left(root, objects, "m1") == []
    assert delta.read(root, "cohort/ages").num_rows == 2


def test_a_broken_run_goes_on_with_the_missing_parts(tmp_path: Path) -> None:
    """Same run, each part once."""
    root, objects = str(tmp_path), rows.listing(range(1, 100))
    first = runs.open_run(root, rows.ARCHIVE, "m1", objects, part_objects=10)
    for number, part in list(first.remaining().items())[:4]:
        first.store(number, rows.staged(part, "m1"))
    again = runs.open_run(root, rows.ARCHIVE, "m1", objects, part_objects=10)
    assert again == first
    assert sorted(again.remaining()) == [4, 5, 6, 7, 8, 9]
    assert sum(part.num_rows for part in again.parts().values()) == 99


def test_objects_that_came_meanwhile_join_the_broken_run(tmp_path: Path) -> None:
    """As further parts; what it had stays."""
    root = str(tmp_path)
    run = runs.open_run(root, rows.ARCHIVE, "m1", rows.listing(range(1, 30)), part_objects=10)
    grown = runs.open_run(root, rows.ARCHIVE, "m1", rows.listing(range(1, 45)), part_objects=10)
    assert grown == run
    parts = grown.parts()
    assert {n: part.num_rows for n, part in parts.items()} == {0: 10, 1: 10, 2: 9, 3: 10, 4: 5}
    objects = pa.concat_tables(parts.values()).sort_by("object_uri")
    assert objects.select(storage.LISTING.names) == rows.listing(range(1, 45))


def test_runs_of_other_archives_and_models_are_left_alone(tmp_path: Path) -> None:
    """Only the same archive with the same model resumes."""
    root, objects = str(tmp_path), rows.listing(range(1, 5))
    places = [(rows.ARCHIVE, "m1"), (rows.ARCHIVE, "m2"), (rows.ARCHIVE, None), ("s3://b", "m1")]
    opened = [runs.open_run(root, archive, model_id, objects) for archive, model_id in places]
    assert len({run.run_id for run in opened}) == 4
    assert {run.run_id for run in runs.unfinished(root)} == {run.run_id for run in opened}


def test_a_part_must_account_for_its_objects(tmp_path: Path) -> None:
    """Rows of other columns are refused when staging, a missing row when publishing."""
    objects = rows.listing(range(1, 5))
    run = runs.open_run(str(tmp_path), rows.ARCHIVE, None, objects)
    with pytest.raises(TablesError):
        run.store(0, objects)
    assert run.staged() == set()
    run.store(0, rows.staged(objects.slice(1)))
    with pytest.raises(RunError, match="1 objects"):
        publish.finish(run)


def test_a_folder_without_run_json_is_no_run(tmp_path: Path) -> None:
    """Killed while it was being set up: the next run begins anew."""
    root, objects = str(tmp_path), rows.listing(range(1, 5))
    run = runs.open_run(root, rows.ARCHIVE, None, objects)
    storage.delete(storage.join(run.uri, "run.json"))
    assert runs.unfinished(root) == []
    assert runs.open_run(root, rows.ARCHIVE, None, objects).run_id != run.run_id


def test_a_huge_run_has_a_bounded_number_of_parts(tmp_path: Path) -> None:
    """A hundred thousand objects are still at most 4096 parts."""
    objects = rows.listing(range(1_000_000, 1_300_000))
    run = runs.open_run(str(tmp_path), rows.ARCHIVE, None, objects)
    parts = run.parts()
    assert len(parts) <= 4096
    assert sum(part.num_rows for part in parts.values()) == 300_000


def test_a_part_of_large_objects_holds_fewer(tmp_path: Path) -> None:
    """Ten megabytes each: about a dozen; a giant among them ends its part; order stays."""
    objects = rows.listing(range(1, 100))
    size = np.full(99, 10_000_000)
    size[50] = 2_000_000_000
    objects = objects.set_column(2, "size_bytes", pa.array(size))
    parts = runs.divided(objects)
    assert pa.concat_tables(parts) == objects
    held = [int(part["size_bytes"].to_numpy().sum()) for part in parts]
    assert sorted(held)[-2] <= runs.PART_BYTES + 10_000_000
    assert max(held) < 2_000_000_000 + runs.PART_BYTES
    assert len(parts) <= 99 * 10_000_000 // runs.PART_BYTES + 3

"""What a second try leaves behind: rows exactly once, whatever dies in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bae.errors import LockedError
from bae.tables import contract, delta, publish, runs
from tests.fakes import rows

RETRY = runs.Retry(transient=("decoder_hang",))
LISTING = rows.listing(range(1, 4))
ZIP = LISTING["object_uri"][0].as_py()


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


def _staged(objects: pa.Table, codes: dict[str, str], model_id: str | None = None) -> pa.Table:
    """Stage scans, the first object as a zip file of two; who is in ``codes`` is refused."""
    staged: list[dict[str, Any]] = []
    for row in rows.staged(objects, model_id).to_pylist():
        if row["source_uri"] != ZIP:
            code = codes.get("plain") if "0002" in row["source_uri"] else None
            staged.append(row | _refused(code) if code else row)
            continue
        for number, member in ((11, "a"), (12, "b")):
            [made] = rows.staged(rows.listing(range(number, number + 1)), model_id).to_pylist()
            made |= {"object_uri": f"{ZIP}!/{member}", "source_uri": ZIP, "etag": row["etag"]}
            code = codes.get(member)
            staged.append(made | _refused(code) if code else made)
    return pa.Table.from_pylist(staged, schema=contract.STAGED)


def _refused(code: str) -> dict[str, Any]:
    refusal = {"stage": "decode", "code": code, "message": "m"}
    return {"reject": refusal} | dict.fromkeys(("scan", "age", "boxes", "heatmaps"))


def _begun(root: str, codes: dict[str, str], model_id: str | None = None) -> runs.Run:
    todo = runs.todo(root, LISTING, model_id, RETRY)
    run = runs.open_run(root, rows.ARCHIVE, model_id, todo, decoder_version=2)
    for number, part in run.remaining().items():
        run.store(number, _staged(part, codes, model_id))
    return run


def _night(root: str, model_id: str | None = None, **codes: str) -> list[str]:
    """Do a night; return the objects that it read."""
    run = _begun(root, codes, model_id)
    read = run.objects()["object_uri"].to_pylist()
    publish.finish(run)
    return read


def _rejects(root: str) -> list[tuple[str, str, int, bool]]:
    found = delta.read(root, "restricted/rejects").to_pylist()
    return sorted(
        (row["object_uri"][-1], row["code"], row["attempts"], row["settled_at"] is None)
        for row in found
    )


def test_a_zip_file_is_tried_again_for_one_of_its_members(tmp_path: Path) -> None:
    """The other member's scan is not doubled, and once both are read nothing is left."""
    root = str(tmp_path)
    _night(root, b="decoder_hang")
    assert _night(root) == [ZIP]
    assert _rejects(root) == [("b", "decoder_hang", 1, False)]
    scans = delta.read(root, "restricted/scans")
    assert scans.num_rows == 4 and scans["removed_at"].null_count == 4
    assert _night(root) == []


def test_a_refusal_with_another_code_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """The last word is open, and what is not transient is not tried again."""
    root = str(tmp_path)
    _night(root, a="zip_broken", b="decoder_hang")
    assert _night(root, a="zip_broken", b="pixels_broken") == [ZIP]
    assert _rejects(root) == [
        ("a", "zip_broken", 1, False),
        ("a", "zip_broken", 2, True),
        ("b", "decoder_hang", 1, False),
        ("b", "pixels_broken", 2, True),
    ]
    assert _night(root, a="zip_broken", b="pixels_broken") == []


def test_what_one_run_read_the_other_scores(tmp_path: Path) -> None:
    """A refusal that is history keeps no scan from a model."""
    root = str(tmp_path)
    _night(root, b="decoder_hang", plain="decoder_hang")
    _night(root)
    assert len(_night(root, "m1")) == 3
    assert delta.read(root, "cohort/ages").num_rows == 4
    assert _night(root, "m1") == []


def test_two_runs_that_try_it_at_once_leave_one_row(tmp_path: Path) -> None:
    """One that only indexes and one that scores, begun before either has published."""
    root = str(tmp_path)
    _night(root, b="decoder_hang")
    scoring = _begun(root, {"b": "decoder_hang"}, "m1")
    _night(root, b="decoder_hang")
    publish.finish(scoring)
    wanted = [("b", "decoder_hang", 1, False), ("b", "decoder_hang", 2, True)]
    assert _rejects(root) == wanted
    assert delta.read(root, "cohort/ages").num_rows == 3


def test_killed_between_publishing_and_marking_then_repeated(tmp_path: Path) -> None:
    """The run stays unfinished until its refusals are marked; no row is doubled."""
    root = str(tmp_path)
    _night(root, b="decoder_hang")
    run = _begun(root, {"b": "decoder_hang"})
    left = [len(contract.SCHEMAS)]

    def check() -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1

    with pytest.raises(Killed):
        publish.finish(run, check)
    assert [row[3] for row in _rejects(root)] == [True, True]
    [again] = runs.unfinished(root)
    publish.finish(again)
    assert _rejects(root) == [("b", "decoder_hang", 1, False), ("b", "decoder_hang", 2, True)]
    assert not runs.unfinished(root)


def test_a_lost_lease_marks_nothing(tmp_path: Path) -> None:
    """As it publishes nothing."""
    root = str(tmp_path)
    _night(root, b="decoder_hang")

    def lost() -> None:
        raise LockedError("taken over")

    run = _begun(root, {})
    with pytest.raises(LockedError):
        publish.finish(run, lost)
    assert _rejects(root) == [("b", "decoder_hang", 1, True)]


def test_a_run_that_a_newer_version_goes_on_with_keeps_its_decoder(tmp_path: Path) -> None:
    """What the older decoder refused is tried once more by the newer one."""
    root = str(tmp_path)
    _begun(root, {"b": "pixels_broken"})
    [run] = runs.unfinished(root)
    publish.finish(run)
    assert runs.todo(root, LISTING, None, runs.Retry(decoder_version=2)).num_rows == 0
    assert runs.todo(root, LISTING, None, runs.Retry(decoder_version=3)).num_rows == 1


def test_a_to_do_list_of_an_earlier_version_is_gone_on_with(tmp_path: Path) -> None:
    """Its files have neither column, its run.json no decoder."""
    import io
    import json

    import pyarrow.parquet as pq

    from bae import storage

    root = str(tmp_path)
    run = runs.Run(tables_uri=root, run_id="20260101T000000Z-00000000", archive_uri=rows.ARCHIVE)
    sink = io.BytesIO()
    pq.write_table(LISTING, sink)
    storage.write_bytes(f"{run.uri}/todo-000.parquet", sink.getvalue())
    facts = {"run_id": run.run_id, "archive_uri": run.archive_uri, "model_id": None}
    storage.write_bytes(f"{run.uri}/run.json", json.dumps(facts).encode())
    assert _night(root, b="decoder_hang") == LISTING["object_uri"].to_pylist()
    [row] = delta.read(root, "restricted/rejects").to_pylist()
    assert (row["attempts"], row["decoder_version"]) == (1, None)

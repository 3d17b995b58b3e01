"""What a run would do, told without Ray and without a word written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bae import storage
from bae.archive import refusals
from bae.errors import StorageError, UseError
from bae.pipeline import plan
from bae.tables import current, delta, nights, runs
from tests.fakes import rows

ROOT = Path(__file__).parents[2]


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, pa.Table]:
    """Tables of one night of model m1 on objects 1 to 24, and an archive that has changed since.

    The listing that ``storage`` gives is ``world["now"]``. Of 24 objects 20 was refused.
    """
    listings = {"now": rows.listing(range(1, 25))}
    monkeypatch.setattr(storage, "list_objects", _listing(listings))
    rows.night(str(tmp_path), listings["now"], "m1")
    listings["now"] = pa.concat_tables(
        [
            rows.listing(range(3, 10)),  # 1 and 2 are gone
            rows.listing(range(10, 13), version="v2"),
            rows.listing(range(13, 25)),
            rows.listing(range(30, 35)),
        ]
    ).sort_by("object_uri")
    return listings


def _listing(listings: dict[str, pa.Table]) -> object:
    usual = storage.list_objects
    return lambda uri, **how: listings["now"] if uri == rows.ARCHIVE else usual(uri, **how)


def test_each_object_is_counted_by_why_it_is_read(
    world: dict[str, pa.Table], tmp_path: Path
) -> None:
    """For the same model, for another one, and for none; and not a byte is written."""
    before = _tree(tmp_path)
    same, other, none = (plan.plan(rows.ARCHIVE, str(tmp_path), m) for m in ("m1", "m2", None))
    assert _tree(tmp_path) == before
    assert (same.listed, same.done, same.new, same.changed, same.gone) == (27, 18, 5, 3, 2)
    # 20 was refused by a decoder without a version, so an older one
    assert (same.retried, same.unscored, same.to_read) == (1, 0, 9)
    assert none == same
    assert (other.new, other.changed, other.retried, other.unscored) == (5, 3, 1, 18)
    assert (other.done, other.to_read) == (0, 27)


def test_a_plan_is_what_the_run_does(world: dict[str, pa.Table], tmp_path: Path) -> None:
    """The same listing, read: as many rows are marked and to do as was said."""
    asked = plan.plan(rows.ARCHIVE, str(tmp_path), "m1")
    todo = runs.todo(str(tmp_path), world["now"], "m1", plan.retry())
    assert asked.retried == sum(todo["retried"].to_pylist()) == 1
    assert asked.to_read == todo.num_rows == 9
    assert current.mark(str(tmp_path), rows.ARCHIVE, world["now"]) == asked.gone


def test_an_unfinished_run_counts_what_it_has_not_staged(
    world: dict[str, pa.Table], tmp_path: Path
) -> None:
    """Its staged parts are done, its other ones and what came since are not."""
    todo = runs.todo(str(tmp_path), world["now"].slice(0, 26), "m1", plan.retry())
    begun = runs.open_run(str(tmp_path), rows.ARCHIVE, "m1", todo, part_objects=4)
    parts = begun.remaining()
    begun.store(0, rows.staged(parts[0], "m1"))
    found = plan.plan(rows.ARCHIVE, str(tmp_path), "m1")
    assert found.unfinished == begun.run_id
    assert found.to_read == 9 - parts[0].num_rows
    todo = runs.todo(str(tmp_path), world["now"], "m1", plan.retry())
    again = runs.open_run(str(tmp_path), rows.ARCHIVE, "m1", todo)
    assert sum(part.num_rows for part in again.remaining().values()) == found.to_read


def test_transient_refusals_and_those_of_older_decoders_are_tried_again() -> None:
    """As a night's are."""
    asked = plan.retry(("pixels_broken",))
    assert asked.transient == refusals.TRANSIENT and asked.asked == ("pixels_broken",)
    assert asked.decoder_version == refusals.DECODER_VERSION


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    """As a run refuses it."""
    with pytest.raises(StorageError, match="holds no objects"):
        plan.plan(str(tmp_path), str(tmp_path / "tables"), None)


def test_a_plan_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    """The function; the job's flags know Ray's defaults."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.dcm").write_bytes(b"unread")
    code = (
        "import sys; from bae.pipeline import plan;"
        f"found = plan.plan({str(tmp_path / 'archive')!r}, {str(tmp_path / 'tables')!r}, None);"
        "print(found.to_read, {'torch', 'ray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "1 set()"


def test_another_key_is_refused_as_by_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a key of bae 0.1 is asked for."""
    kept = plan.agreed(str(tmp_path))
    storage.write_bytes(f"{tmp_path}/restricted/settings.json", json.dumps(vars(kept)).encode())
    assert plan.agreed(str(tmp_path)) == kept
    monkeypatch.setenv("BAE_PSEUDONYM_KEY", "11" * 32)
    with pytest.raises(UseError, match="another pseudonym key"):
        plan.agreed(str(tmp_path))


def test_gone_are_objects_of_this_archive_only(tmp_path: Path) -> None:
    """Not those of a neighbour whose name begins alike, nor those gone before."""
    root = str(tmp_path)
    rows.night(root, rows.listing(range(1, 5)), "m1")
    rows.night(root, rows.listing(range(101, 104), rows.ARCHIVE + "2"), "m1", rows.ARCHIVE + "2")
    left = rows.listing(range(1, 4))
    assert current.gone(root, rows.ARCHIVE, left) == 1
    current.mark(root, rows.ARCHIVE, left)
    assert current.gone(root, rows.ARCHIVE, left) == 0
    assert delta.read(root, "restricted/scans").num_rows == 7


# ---- how long it takes ----------------------------------------------------------------------


def _night(objects: int, reading_s: float, model_id: str = "m1", **more: object) -> nights.Night:
    facts = {"job": "predict", "begun_at": "x", "seconds": reading_s + 30.0} | more
    return nights.Night(model_id=model_id, objects=objects, reading_s=reading_s, **facts)  # type: ignore[arg-type]


def test_the_time_is_that_of_starting_and_of_each_object() -> None:
    """Half a second an object and half a minute beside, whoever asks for how many."""
    done = [_night(100, 50.0), _night(0, 0.0), _night(300, 150.0)]
    found = nights.estimate(done, "predict", "m1", 1000)
    assert found == nights.Estimate(seconds=530.0, nights=2, at_most=False)
    assert nights.estimate(done, "predict", "m1", 1201).at_most  # type: ignore[union-attr]


def test_nights_of_the_same_model_say_it_where_there_are_any() -> None:
    """Others where not; nights of another job never."""
    done = [_night(10, 10.0, "fast"), _night(10, 100.0, "slow"), _night(10, 1.0, job="index")]
    assert nights.estimate(done, "predict", "fast", 10).seconds == 40.0  # type: ignore[union-attr]
    assert nights.estimate(done, "predict", "new", 10).seconds == 85.0  # type: ignore[union-attr]
    assert nights.estimate(done, "index", None, 10).seconds == 31.0  # type: ignore[union-attr]
    assert nights.estimate([_night(0, 0.0)], "predict", "m1", 10) is None

"""The cache of prepared pictures."""

import os
from pathlib import Path

import pyarrow as pa

from bae.pipeline import kept
from bae.training import samples

ROW = {"scan_id": "a", "view": "anterior", "male": 0.0, "age_years": 50.0, "image": b"\1\2"}


def _cache(root: Path, name: str = "localizer-new") -> kept.Cache:
    return kept.Cache(uri=str(root / name), schema=samples.SCHEMA)


def _rows() -> pa.Table:
    return pa.Table.from_pylist([ROW] * 50, schema=samples.SCHEMA)


def test_a_stored_part_is_not_made_again(tmp_path: Path) -> None:
    """What was written whole is not made again; what was never written is."""
    cache = _cache(tmp_path)
    cache.store(3, _rows())
    assert cache.holds(3)
    assert not cache.holds(4)


def test_a_part_cut_off_or_overwritten_is_made_again(tmp_path: Path) -> None:
    """Neither half a file nor another file counts as samples."""
    cache = _cache(tmp_path)
    cache.store(0, _rows())
    path = Path(cache.file(0))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"PAR1" + os.urandom(200) + b"PAR1"):
        path.write_bytes(broken)
        assert not cache.holds(0)


def test_a_part_of_other_columns_is_made_again(tmp_path: Path) -> None:
    """An older version's samples do not match and are rebuilt."""
    cache = _cache(tmp_path)
    cache.store(0, _rows().drop_columns(["view"]))
    assert not cache.holds(0)


def test_only_the_newest_sets_of_a_part_stay(tmp_path: Path) -> None:
    """The set in use and the newest others; the other network's sets are not counted."""
    for age, name in enumerate(("localizer-d", "localizer-c", "localizer-b", "regressor-x")):
        _cache(tmp_path, name).store(0, _rows())
        os.utime(_cache(tmp_path, name).file(0), (1000 - age, 1000 - age))
    current = _cache(tmp_path, "localizer-a")
    current.store(0, _rows())
    os.utime(current.file(0), (1, 1))  # used again: old, and yet the one in use
    assert current.drop_others(kept=2) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "localizer-a",
        "localizer-d",
        "regressor-x",
    }
    assert _cache(tmp_path, "localizer-z").drop_others() == 0

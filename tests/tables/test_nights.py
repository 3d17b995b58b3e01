"""Nights are remembered, however they end, and never cost a night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bae import storage
from bae.errors import RunError, StorageError
from bae.tables import nights


def test_a_night_is_remembered_as_it_went(tmp_path: Path) -> None:
    """What it was told of itself, and when it ended."""
    with nights.kept(str(tmp_path), "predict", "m1") as night:
        night.objects, night.scans, night.run_id = 12, 11, "2026-11-00000000"
    [found] = nights.last(str(tmp_path))
    assert found == night and not found.failed and found.seconds > 0
    assert abs(datetime.now(UTC) - found.ended) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunError("the disk is full"), "the disk is full"),
        (KeyboardInterrupt(), "interrupted"),
        (ValueError("/archive/DOE^JANE"), "ValueError"),
    ],
)
def test_a_bad_end_is_told_without_what_may_name_a_person(
    tmp_path: Path, error: BaseException, said: str
) -> None:
    """And goes on up."""
    with pytest.raises(type(error)), nights.kept(str(tmp_path), "index", None):
        raise error
    assert [night.failed for night in nights.last(str(tmp_path))] == [said]


def test_only_the_newest_are_kept_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder does not grow."""
    monkeypatch.setattr(nights, "KEPT", 3)
    for number in range(5):
        with nights.kept(str(tmp_path), "index", None) as night:
            night.objects = number
    assert [night.objects for night in nights.last(str(tmp_path))] == [2, 3, 4]
    assert [night.objects for night in nights.last(str(tmp_path), 1)] == [4]


def test_a_night_that_cannot_be_remembered_ends_as_it_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning."""

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(storage, "write_bytes", full)
    with nights.kept(str(tmp_path), "index", None):
        pass
    assert "could not remember how this night ended: the disk is full" in caplog.text
    assert nights.last(str(tmp_path)) == []


def test_a_record_of_a_later_version_is_read(tmp_path: Path) -> None:
    """Fields it has on top are left out."""
    with nights.kept(str(tmp_path), "index", None):
        pass
    [path] = (tmp_path / "restricted" / "nights").iterdir()
    path.write_text(path.read_text().replace("{", '{"weather": "rain", ', 1))
    assert nights.last(str(tmp_path))[0].job == "index"

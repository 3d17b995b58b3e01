"""``jobs.worlds``: one command over worlds and sizes, which goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.fakes.place import Place


@pytest.mark.slow
def test_two_sizes_in_one_world_and_again(place: Place, tmp_path: Path) -> None:
    """The archive, the index and the models are made once; of many scans so many are learned."""
    out = tmp_path / "out"
    flags = ["--out", str(out), "--worlds", "6", "--recipes", "regional", "--scans", "90"]
    code, said = place.job("worlds", *flags, "--sizes", "20", "--unseen", "6")
    assert code == 0 and "| regional | 20 | 6 (unseen) |" in said, said
    assert "20 to train on" in said
    assert {path.name for path in out.glob("worlds.*")} == {
        "worlds.md", "worlds.csv", "worlds.parquet", "worlds.png", "worlds.pdf",
    }  # fmt: skip
    before = pq.read_table(out / "worlds.parquet").to_pandas()
    code, said = place.job("worlds", *flags, "--sizes", "20", "--unseen", "6")
    assert code == 0 and "trained" not in said
    code, told = place.job("worlds", *flags, "--sizes", "80")
    assert code != 0 and "more --scans" in told
    again = pq.read_table(out / "worlds.parquet").to_pandas()
    pd.testing.assert_frame_equal(
        again, before
    )  # for it a NaN equals a NaN: so few have no interval


def test_wrong_uses_are_sentences(place: Place, tmp_path: Path) -> None:
    """Before anything is made."""
    out = ["--out", str(tmp_path / "out")]
    code, said = place.job("worlds", *out, "--worlds", "1", "--unseen", "2")
    assert code == 2 and "[2]" in said
    code, said = place.job("worlds", *out, "--worlds", "1", "--recipes", "bets")
    assert code == 2 and "best" in said
    code, said = place.job("worlds", *out, "--worlds", "one")
    assert code == 2
    assert not (tmp_path / "out").exists()

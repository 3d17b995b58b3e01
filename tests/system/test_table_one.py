"""``jobs.table_one``: every method on the same scans, in one command that goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bae import recipes
from tests.fakes import tiny
from tests.fakes.place import Place


@pytest.mark.slow
def test_one_command_trains_tests_and_goes_on(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two networks share a localizer; one that cannot be trained is named, the others are told."""
    small = recipes.recipe("small", tiny.SETTINGS)
    made = {
        "small": lambda: small,
        "small_without_sex": partial(recipes._without_sex, lambda: small),
        "small_pretrained": partial(recipes.recipe, "small_vgg19", ["regressor.weights=imagenet"]),
    }
    for name, build in made.items():
        monkeypatch.setitem(recipes.RECIPES, name, build)
    archive, out = tmp_path / "phantoms", tmp_path / "out"
    code, said = place.job(
        "phantom", "--archive", str(archive), "--scans", "90", "--matrix", "64x256"
    )
    assert code == 0, said
    flags = ["--archive", str(archive), "--out", str(out), "--methods"]
    names = "small,small_without_sex,small_pretrained"
    code, said = place.job("table_one", *flags, names)
    assert code == 1 and said.rstrip().endswith(
        "not trained: small_pretrained; the same command tries them again"
    ), said
    assert said.count("$ jobs.train_localizer") == 1
    assert "together" in said  # the estimate
    rows = pq.read_table(out / "table_one.parquet").to_pylist()
    told = {(row["method"], row["sex"]): row for row in rows}
    assert {"always the mean age", "ridge on thumbnails"} < {m for m, _ in told}
    assert told["small", "with"]["mae_difference_years"] is None
    other = told["small", "without"]
    assert other["mae_difference_years"] is not None and other["numbers"] > 1000
    assert other["cpu_ms"] > 0 and other["training_minutes"] > 0
    code, said = place.job("table_one", *flags, names.replace(",small_pretrained", ""))
    assert code == 0 and "$ jobs.train" not in said, said


def test_wrong_uses_are_sentences(place: Place, tmp_path: Path) -> None:
    """Before anything is made."""
    places = ["--archive", str(tmp_path), "--out", str(tmp_path / "out")]
    code, said = place.job("table_one", *places, "--methods", "smal")
    assert code == 2 and "small" in said
    assert not (tmp_path / "out").exists()


def test_each_size_has_its_own_methods() -> None:
    """The proposed one first, each once, none of the other size."""
    small, full = recipes.compared(True), recipes.compared(False)
    assert small[0] == "small" and full[0] == "paper"
    assert len(set(small)) == len(small) and len(set(full)) == len(full)
    assert not [name for name in full if name.startswith("small")]
    assert {"regional", "best"} <= set(small) & set(full)
    assert "small_vgg19" in small and "vgg19" in full

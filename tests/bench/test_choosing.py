"""Both measurements on squares run, at a size that says nothing about the method."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bae.bench.stages import fitted_reader
from bae.method.regional.reader import KINDS, read
from bae.recipes import Region
from tests.bench import borders, choosing

SMALL = ("--rows", "512")


@pytest.mark.slow
def test_choices_are_compared_and_the_model_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a choice; the model that is kept is one that can be asked about borders."""
    model = str(tmp_path / "model")
    assert choosing.main([*SMALL, "--scans", "20", "--epochs", "1", "--model", model]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 6 and all(len(row.split("|")) == 6 for row in rows)
    assert borders.main([*SMALL, "--scans", "1", "--model", model]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(borders.CHANGES) + 1 + len(borders.BLANK)


def test_a_reader_looks_where_it_is_told_and_says_the_same() -> None:
    """Heat in one cell: the only square holds it; the answer is the linear model's as before."""
    (scan,) = choosing.people(0, 1, 0, rows=512)
    reader = fitted_reader()
    heat = {kind: torch.zeros_like(reader.importance(kind, 0.0)) for kind in KINDS}
    for own in heat.values():
        own[60, 40] = 1.0
    region = Region(parts="several", count=1)
    one = read(reader, scan, scan.views, region)
    two = read(choosing.told(reader, heat), scan, scan.views, region)
    assert one.years == two.years
    for view in two.views:
        (box,) = view.boxes
        assert box.heat_share == 1.0
        # on the frame 60 cells down are 394 mm below the crown of a body of 1.7 m
        assert box.crown_sole == pytest.approx((60 * 8 - 86) / 1700, abs=150 / 1700)


def test_a_frame_is_drawn_and_a_move_moves() -> None:
    """Each change by hand on a small picture."""
    counts = np.arange(1, 141 * 60 + 1, dtype=np.uint16).reshape(141, 60)
    by_name = {name: how(counts) for name, how in borders.CHANGES.items()}
    moved = by_name["moved 40 pixels down and right, in a larger field"]
    assert (moved[40:, 40:] == counts).all() and moved[:40].max() == moved[:, :40].max() == 0
    down = by_name["moved 40 down, 40 rows of air lost"]
    assert down.shape == counts.shape and (down[40:] == counts[:-40]).all()
    framed = by_name["bright frame, 3 pixels from the edge"]
    assert (framed[:3] == counts[:3]).all() and (framed[5:-5, 5:-5] == counts[5:-5, 5:-5]).all()
    assert framed[3:5, 3:-3].min() == framed[3:-3, -5:-3].min() == counts.max()

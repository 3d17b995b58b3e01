"""What the archive does with pictures that an export drew on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bae.archive.body import examine
from bae.phantom import PhantomConfig, make
from bae.scan import View

Counts = NDArray[np.uint16]


def person() -> Counts:
    """One view of a simulated person."""
    return make(3, config=PhantomConfig(columns=128, rows=512)).views[0].counts


def looked_at(counts: Counts) -> tuple[Counts, set[str]]:
    """Return the counts that the archive hands over, and its flags."""
    (view,), flags = examine([View(name="anterior", counts=counts)], None)
    return view.counts, flags


@pytest.mark.parametrize("inset", [0, 2])
@pytest.mark.parametrize("value", [7, 60000])
def test_a_drawn_frame_is_blanked_and_nothing_else(inset: int, value: int) -> None:
    """One pixel wide, dim or brighter than the body: inside of it all counts stay."""
    plain = person()
    rows, columns = np.indices(plain.shape)
    from_edge = np.minimum.reduce(
        [rows, columns, plain.shape[0] - 1 - rows, plain.shape[1] - 1 - columns]
    )
    framed = np.where(from_edge == inset, value, plain).astype(np.uint16)
    kept, flags = looked_at(framed)
    assert flags == {"frame_blanked"}
    np.testing.assert_array_equal(kept[from_edge > inset], plain[from_edge > inset])
    assert kept[from_edge == inset].max() == 0


def test_a_line_along_one_edge_is_blanked_too() -> None:
    """As a table's edge or a colour bar's end leaves it."""
    framed = person().copy()
    framed[:, -1] = 60000
    kept, flags = looked_at(framed)
    assert flags == {"frame_blanked"} and kept[:, -1].max() == 0


def test_what_is_no_frame_stays() -> None:
    """Plain counts, blank and filled paddings; white paper is turned round, not blanked."""
    plain = person()
    padded = np.pad(plain, ((40, 40), (10, 10)))
    filled = np.pad(plain, ((40, 40), (10, 10)), constant_values=1)
    for counts in (plain, padded, filled):
        kept, flags = looked_at(counts)
        assert kept is counts and not flags
    paper = (padded.max() - padded).astype(np.uint16)
    kept, flags = looked_at(paper)
    assert flags == {"grey_inverted"}
    np.testing.assert_array_equal(kept, padded)


def test_counts_that_nobody_may_write_to_are_left_as_they_are() -> None:
    """Decoded scans lie in such memory."""
    framed = person().copy()
    framed[0] = 60000
    framed.setflags(write=False)
    kept, _ = looked_at(framed)
    assert framed[0].min() == 60000 and kept[0].max() == 0

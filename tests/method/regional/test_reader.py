"""The linear model on scans that are moved, blank, or framed: it looks at bodies alone."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from bae.bench.stages import fitted_reader
from bae.body import body_mask
from bae.method.boxes import enlarge
from bae.method.regional import reader
from bae.recipes import Region
from bae.scan import Identity, Scan, View
from tests.method.regional.bodies import people

SCANS = 24
REGION = Region(parts="several", count=4)
NOBODY = Identity(patient="p", study="s", instance="i")


fitted = functools.cache(fitted_reader)


def _scan(number: int, counts: dict[str, NDArray[np.uint16]] | None = None) -> Scan:
    made = people(SCANS, rows=512)[number]
    views = tuple(
        View(name=v.name, counts=v.counts if counts is None else counts[v.name]) for v in made.views
    )
    side = made.pixel_mm
    return Scan(views=views, identity=NOBODY, sex=made.sex, pixel_mm=(side, side))


def _read(scan: Scan) -> reader.Seen:
    return reader.read(fitted(SCANS), scan, scan.views, REGION)


@pytest.mark.parametrize("number", [1, 5])
def test_a_scan_that_is_moved_has_the_same_places_and_age(number: int) -> None:
    """By no whole cell of any grid, into a larger field: squares move with the body."""
    plain = _scan(number)
    down, right = 13, 9
    moved = {v.name: np.pad(v.counts, ((down, 30), (right, 21))) for v in plain.views}
    one, two = _read(plain), _read(_scan(number, moved))
    assert two.years == pytest.approx(one.years, abs=1.0)  # in pixels of 5 mm
    for before, after in zip(one.views, two.views, strict=True):
        for box, other in zip(before.boxes, after.boxes, strict=True):
            assert box.name == other.name
            assert abs(other.y0 - box.y0 - down) <= 1 and abs(other.x0 - box.x0 - right) <= 1
            assert other.weight == pytest.approx(box.weight, abs=0.01)


def test_heat_lies_on_the_body() -> None:
    """Outside the archive's own mask there is hardly any, at the picture's edge none."""
    for number in range(0, SCANS, 6):
        scan = _scan(number)
        for view, seen in zip(scan.views, _read(scan).views, strict=True):
            heat = enlarge(seen.heat, view.counts.shape).astype(float)
            outside = heat[~body_mask(view.counts)].sum() / heat.sum()
            assert outside < 0.1
            edge = np.concatenate([heat[:, :2].ravel(), heat[:, -2:].ravel(), heat[:3].ravel()])
            assert edge.sum() < 0.005 * heat.sum()


def test_a_bright_frame_round_the_picture_draws_no_square() -> None:
    """As an export draws one: its places are not of the body."""
    plain = _scan(2)
    framed = {}
    for view in plain.views:
        counts = view.counts.copy()
        counts[:2] = counts[-2:] = counts.max()
        counts[:, :2] = counts[:, -2:] = counts.max()
        framed[view.name] = counts
    for view, seen in zip(plain.views, _read(_scan(2, framed)).views, strict=True):
        rows, columns = view.counts.shape
        for box in seen.boxes:
            middle = (box.y0 + box.y1) / 2 / rows, (box.x0 + box.x1) / 2 / columns
            assert 0.02 < middle[0] < 0.98 and 0.05 < middle[1] < 0.95


def test_a_blank_scan_has_an_answer_and_no_heat_at_its_edges() -> None:
    """Noise without a body, which the archive's own check refuses before: nothing breaks."""
    rng = np.random.default_rng(0)
    noise = {v.name: rng.poisson(1.0, v.counts.shape).astype(np.uint16) for v in _scan(0).views}
    zeros = {name: np.zeros_like(counts) for name, counts in noise.items()}
    for counts in (noise, zeros):
        seen = _read(_scan(0, counts))
        assert np.isfinite(seen.years) and 0 < seen.years < 120
        for view in seen.views:
            assert np.isfinite(view.heat_max)

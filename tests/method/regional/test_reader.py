"""The linear model on scans that are moved, blank, or framed: it looks at bodies alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

import numpy as np
import pytest
from numpy.typing import NDArray

from bae.bench.stages import fitted_reader
from bae.body import body_mask
from bae.method.boxes import enlarge
from bae.method.regional import reader
from bae.method.regional.frame import lay
from bae.recipes import Region
from bae.scan import SEX_CODE, Identity, Scan, View
from tests.method.regional.bodies import people

SCANS = 24
REGION = Region(parts="several", count=4)
Sheets = NDArray[np.float32] | None
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


def _sheets(kinds: Callable[[int], Collection[str]]) -> dict[str, list[Sheets]]:
    """Return what ``reader.fit`` takes of 80 people, of each only some kinds of view."""
    found: dict[str, list[Sheets]] = {kind: [] for kind in reader.KINDS}
    for number, scan in enumerate(people(80, rows=512)):
        for view in scan.views:
            laid = lay(view.counts, (scan.pixel_mm, scan.pixel_mm)).density_VU
            found[view.name].append(laid if view.name in kinds(number) else None)
    return found


def test_many_scans_of_one_view_do_not_spoil_the_others() -> None:
    """Secondary captures: of every second person two scans of one view each, or nothing else.

    Once all columns of both views were one model's, and those of a view that was not there were
    filled in: a third of such scans made errors of 11 years in these, and spoiled the others.
    """
    made = people(80, rows=512)
    years = np.array([scan.age_years for scan in made])
    male = np.array([SEX_CODE[scan.sex] for scan in made])
    patients = [str(scan.patient) for scan in made]

    def error(kinds: Callable[[int], Collection[str]]) -> tuple[float, float]:
        _, held_out = reader.fit(_sheets(kinds), male, years, patients)
        errors = np.abs(held_out - years)
        return float(errors[::2].mean()), float(errors[1::2].mean())

    both = error(lambda _: reader.KINDS)
    every_second = error(lambda n: reader.KINDS if n % 2 else reader.KINDS[n // 2 % 2 :][:1])
    single = error(lambda n: reader.KINDS[n % 2 :][:1])
    for some in (every_second, single):
        assert max(some) < 1.35 * max(both), (both, every_second, single)


def test_an_archive_of_one_kind_of_view_reads_that_kind() -> None:
    """And says the mean age, and that it is unlike the cohort, of a view that it never saw."""
    made = people(80, rows=512)
    years = np.array([scan.age_years for scan in made])
    male = np.array([SEX_CODE[scan.sex] for scan in made])
    learned, held_out = reader.fit(
        _sheets(lambda _: reader.KINDS[:1]), male, years, [str(scan.patient) for scan in made]
    )
    assert list(learned.models) == [reader.KINDS[0]]
    assert np.abs(held_out - years).mean() < 0.8 * np.abs(years - years.mean()).mean()
    again = reader.Reader.from_tensors(learned.tensors())
    scan = _scan(1)
    both = reader.read(again, scan, scan.views, REGION)
    only = next(view for view in scan.views if view.name == reader.KINDS[0])
    assert both.years == reader.read(again, scan, [only], REGION).years
    unseen = [view for view in scan.views if view.name == reader.KINDS[1]]
    nothing = reader.read(again, scan, unseen, REGION)
    assert nothing.years == pytest.approx(years.mean(), abs=1.0) and nothing.spread > both.spread


def test_the_surer_view_has_the_larger_share() -> None:
    """By the errors on patients left out; both shares sum to 1."""
    learned = fitted(SCANS)
    one, two = (learned.models[kind].error_years for kind in reader.KINDS)
    share = learned.weights(reader.KINDS)
    assert sum(share.values()) == pytest.approx(1.0)
    assert share[reader.KINDS[0]] / share[reader.KINDS[1]] == pytest.approx((two / one) ** 2)
    scan = _scan(3)
    seen = _read(scan)
    mean = np.dot([share[view.name] for view in scan.views], seen.view_years)
    assert seen.years == pytest.approx(float(mean))

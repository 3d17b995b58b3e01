"""What several regions are compared with: as many others, fixed places, other choices."""

from dataclasses import replace

import numpy as np
import pytest

from bae.body import body_mask
from bae.evaluation.panels import RegionPanel, read_from
from bae.evaluation.regions import controls, hiding
from bae.method.regional import frame
from bae.phantom import PhantomConfig, make
from bae.phantom.scan import PhantomScan
from bae.scan import Box, Identity, Scan, View
from tests.fakes import several


@pytest.fixture(scope="module")
def scan() -> PhantomScan:
    """One phantom."""
    return make(3, seed=5, config=PhantomConfig(columns=128, rows=512))


def _panel(scan: PhantomScan, view: int, boxes: list[Box]) -> RegionPanel:
    return RegionPanel(
        title="",
        view=scan.views[view].name,
        counts=scan.views[view].counts,
        heat=np.zeros((4, 2), np.uint8),
        boxes=boxes,
        pixel_mm=(scan.pixel_mm, scan.pixel_mm),
    )


def _drawn(boxes: list[Box], size: tuple[int, ...]) -> np.ndarray:
    counted = np.zeros(size, int)
    for box in boxes:
        counted[box.y0 : box.y1, box.x0 : box.x1] += 1
    return counted


def test_answer_comes_from_all_boxes_with_a_weight_or_from_the_first() -> None:
    """A mask of several parts is cropped once; several regions are all read."""
    plain = [Box(0, 0, 9, 9, 0.5), Box(20, 20, 30, 30, 0.2)]
    assert read_from(plain) == plain[:1]
    weighed = [replace(box, weight=0.5) for box in plain]
    assert read_from(weighed) == weighed


@pytest.mark.parametrize("away", [True, False])
def test_other_boxes_are_as_many_and_as_large_and_on_the_body(
    scan: PhantomScan, away: bool
) -> None:
    """Counted pixel by pixel: away from the regions, hardly on each other, on the body."""
    counts, rng = scan.views[0].counts, np.random.default_rng(1)
    own, body = several.view_of(scan.views[0]), body_mask(counts)
    touched = 0
    for _ in range(5):
        drawn = controls.scattered(own, body, rng, away=away)
        assert drawn is not None
        for box, other in zip(own, drawn, strict=True):
            assert (box.x1 - box.x0, box.y1 - box.y0) == (other.x1 - other.x0, other.y1 - other.y0)
            held = (_drawn([box], body.shape) > 0) & body
            assert ((_drawn([other], body.shape) > 0) & body).sum() >= 0.8 * held.sum()
        touched += int(((_drawn(own, body.shape) > 0) & (_drawn(drawn, body.shape) > 0)).sum())
        area = max((box.x1 - box.x0) * (box.y1 - box.y0) for box in own)
        assert (_drawn(drawn, body.shape) > 1).sum() <= area * 0.75
    assert (touched == 0) == away
    wide = [Box(0, 0, 128, 300, 1.0), Box(0, 300, 128, 512, 1.0)]
    assert controls.scattered(wide, body, rng, away=True) is None


@pytest.mark.parametrize("view", [0, 1])
def test_fixed_places_lie_where_their_landmarks_lie(scan: PhantomScan, view: int) -> None:
    """Boxes of a tenth of the body hold the skull, the sternum, the sacrum and the knees' joint."""
    own = [Box(0, 0, 45, 45, 1.0)] * 4
    parts = ("skull vault", "T7 body", "S2 body", "left medial condyle")
    for box, part in zip(controls.anatomical(_panel(scan, view, own)), parts, strict=True):
        assert (box.x1 - box.x0, box.y1 - box.y0) == (45, 45)
        column, row = scan.landmarks[part]
        column = column if view == 0 else 128 - column
        assert box.x0 <= column <= box.x1, part
        assert abs((box.y0 + box.y1) / 2 - row) < 10, part


def test_union_counts_what_boxes_share_once() -> None:
    """Two boxes that overlap against the box round both, by arithmetic."""
    pair = controls.covered([Box(0, 0, 6, 4, 1), Box(4, 0, 10, 4, 1)], (10, 10))
    assert pair.sum() == 40
    assert controls.alike(pair, controls.covered([Box(0, 0, 10, 4, 1)], (10, 10))) == 1.0
    assert controls.alike(pair, controls.covered([Box(0, 0, 10, 8, 1)], (10, 10))) == 0.5
    empty = np.zeros((10, 10), bool)
    assert controls.alike(empty, empty) == 0.0


def test_places_on_the_body_do_not_depend_on_the_matrix_or_the_view(scan: PhantomScan) -> None:
    """The same boxes on pixels of half the side cover the same places; another choice does not."""
    boxes = several.view_of(scan.views[0])
    one = controls.on_body(_panel(scan, 0, boxes))
    assert one is not None
    doubled = [replace(b, x0=2 * b.x0, y0=2 * b.y0, x1=2 * b.x1, y1=2 * b.y1) for b in boxes]
    twice = RegionPanel(
        title="",
        view="anterior",
        counts=np.kron(scan.views[0].counts, np.ones((2, 2), np.uint16)),
        heat=np.zeros((4, 2), np.uint8),
        boxes=doubled,
        pixel_mm=(scan.pixel_mm / 2, scan.pixel_mm / 2),
    )
    other = controls.on_body(twice)
    assert other is not None
    assert controls.alike(one, other) > 0.9
    # three boxes of a tenth of the body, 200 cells long
    assert one.sum() == pytest.approx(3 * 20 * 20, rel=0.15)
    posterior = controls.on_body(_panel(scan, 1, several.view_of(scan.views[1])))
    assert posterior is not None
    assert controls.alike(one, posterior) > 0.85, "left stays left"
    mirrored = controls.on_body(
        _panel(scan, 0, [replace(box, midline=-(box.midline or 0.0)) for box in boxes])
    )
    assert mirrored is not None
    assert controls.alike(one, mirrored) == pytest.approx(2 / 4, abs=0.05), "one knee for the other"
    feet = [replace(box, crown_sole=0.9) for box in boxes]
    moved = controls.on_body(_panel(scan, 0, feet))
    assert moved is not None
    assert controls.alike(one, moved) == 0.0
    assert controls.on_body(_panel(scan, 0, [Box(0, 0, 9, 9, 1.0)])) is None


def test_atlas_and_body_coordinates_have_one_crown(scan: PhantomScan) -> None:
    """The first row of the body is 0, the last is 1."""
    affine = frame.outline(scan.views[0].counts, None)
    rows = np.flatnonzero(body_mask(scan.views[0].counts).any(axis=1))
    for share, row in ((0.0, rows[0]), (1.0, rows[-1] + 1)):
        y = (affine @ [frame.CROWN_MM + share * frame.BODY_MM, 0.0, 1.0])[0]
        assert y == pytest.approx(row)


def _scan(scan: PhantomScan, age: float | None = 70.0) -> Scan:
    return Scan(
        views=scan.views, identity=Identity(patient="", study="", instance=""), age_years=age
    )


def test_hiding_all_regions_takes_away_what_was_read_there(scan: PhantomScan) -> None:
    """The stand-in reads spread of counts in its boxes: without them it says the mean age."""
    reader, told = several.Several(), _scan(scan)
    (said,) = reader.predict([told])
    found = hiding.occlusion(reader, told, several=True)  # type: ignore[arg-type]
    assert found is not None
    assert found.score_drop is None and found.control_score_drop is None
    added = said.age_years - several.MEAN_YEARS
    # boxes move by a pixel where what is hidden changes the outline
    assert found.age_change_years == pytest.approx(added, rel=0.1)
    assert found.control_age_change_years < 0.2 * added
    expected = abs(70.0 - several.MEAN_YEARS) - abs(70.0 - said.age_years)
    assert found.error_rise_years == pytest.approx(expected, abs=0.1 * added)
    unknown = hiding.occlusion(reader, _scan(scan, None), several=True)  # type: ignore[arg-type]
    assert unknown is not None
    assert unknown.error_rise_years is None


def test_hidden_counts_keep_their_mean_however_few() -> None:
    """A mean of 0.3 counts is not rounded to none."""
    counts = np.zeros((128, 32), np.uint16)
    counts[::3, 5] = 2
    seen = []

    class Listening(several.Several):
        def predict(self, scans):  # type: ignore[no-untyped-def]
            seen.append(scans[0].views[0].counts)
            return super().predict(scans)

    view = View(name="anterior", counts=counts)
    told = Scan(views=(view,), identity=Identity(patient="", study="", instance=""))
    read = hiding._several(Listening(), told)  # type: ignore[arg-type]
    read([[Box(2, 4, 12, 34, 1.0), Box(10, 30, 20, 40, 1.0)]])
    assert seen[0].sum() == pytest.approx(counts.sum(), rel=0.1)
    assert len(np.unique(seen[0][4:30, 2:10])) == 1
    assert seen[0][10, 4] == pytest.approx(counts[4:34, 2:12].mean())

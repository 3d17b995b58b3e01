"""Heat map to boxes: Eq. (3)."""

from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bae import scan
from bae.method import boxes as method_boxes
from bae.method import image
from bae.recipes import Region, Windowing
from bae.scan import Box, View

HEATS = st.tuples(st.integers(1, 12), st.integers(1, 8), st.integers(0, 2**32 - 1))


def _heat(shape_and_seed: tuple[int, int, int]) -> NDArray[np.uint8]:
    v, u, seed = shape_and_seed
    return np.random.default_rng(seed).integers(0, 256, (v, u), dtype=np.uint8)


@given(HEATS, st.integers(8, 90), st.integers(8, 60))
@settings(max_examples=50, deadline=None)
def test_enlarged_map_equals_torch_bilinear(
    given_heat: tuple[int, int, int], rows: int, columns: int
) -> None:
    """Two implementations of half-pixel bilinear resizing agree."""
    heat = _heat(given_heat)
    rows, columns = max(rows, heat.shape[0]), max(columns, heat.shape[1])
    expected = torch.nn.functional.interpolate(
        torch.tensor(heat, dtype=torch.float32)[None, None],
        (rows, columns),
        mode="bilinear",
        align_corners=False,
    )[0, 0].numpy()
    np.testing.assert_allclose(method_boxes.enlarge(heat, (rows, columns)), expected, atol=2e-3)


def _brute_force_parts(
    heat: NDArray[np.float32], gamma: float
) -> list[tuple[tuple[float, int], tuple[int, int, int, int]]]:
    """Flood fill: ((peak, area), (x0, y0, x1, y1)) of each edge-connected part."""
    mask = heat >= gamma
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    parts = []
    while left:
        start = left.pop()
        queue, cells = deque([start]), [start]
        while queue:
            y, x = queue.popleft()
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.remove(near)
                    queue.append(near)
                    cells.append(near)
        ys, xs = [c[0] for c in cells], [c[1] for c in cells]
        peak = max(float(heat[cell]) for cell in cells)
        parts.append(((peak, len(cells)), (min(xs), min(ys), max(xs) + 1, max(ys) + 1)))
    return parts


@pytest.mark.parametrize(("order", "place"), [("hottest", 0), ("largest", 1)])
@given(given_heat=HEATS, gamma=st.floats(1, 255))
@settings(max_examples=60, deadline=None)
def test_boxes_equal_a_brute_force_mask(
    order: str, place: int, given_heat: tuple[int, int, int], gamma: float
) -> None:
    """Flood fill over the thresholded map finds the same parts, and the same one first."""
    heat, size = _heat(given_heat), (61, 37)
    enlarged = method_boxes.enlarge(heat, size)
    parts = _brute_force_parts(enlarged, gamma)
    boxes = method_boxes.find_boxes(heat, size, Region(gamma=gamma, parts=order))
    if not parts:
        assert [(b.x0, b.y0, b.x1, b.y1) for b in boxes] == [(0, 0, 37, 61)]
        return
    assert sorted((b.x0, b.y0, b.x1, b.y1) for b in boxes) == sorted(p[1] for p in parts)
    first = max(p[0][place] for p in parts)
    assert (boxes[0].x0, boxes[0].y0, boxes[0].x1, boxes[0].y1) in [
        p[1] for p in parts if p[0][place] == first
    ]
    for box in boxes:
        share = enlarged[box.y0 : box.y1, box.x0 : box.x1].sum() / enlarged.sum()
        assert box.heat_share == pytest.approx(float(share), rel=1e-4)


def test_all_parts_give_one_box_round_everything() -> None:
    """``parts="all"`` takes the outer edges of the whole mask."""
    heat = np.zeros((8, 8), np.uint8)
    heat[1, 1] = heat[6, 5] = 255
    (box,) = method_boxes.find_boxes(heat, (8, 8), Region(parts="all"))
    assert (box.x0, box.y0, box.x1, box.y1) == (1, 1, 6, 7)


@given(HEATS, st.integers(1, 90), st.integers(1, 60), st.floats(1, 255))
@settings(max_examples=200, deadline=None)
def test_box_round_everything_equals_a_brute_force_mask(
    given_heat: tuple[int, int, int], rows: int, columns: int, gamma: float
) -> None:
    """The enlarged map, thresholded pixel by pixel, ends at the same four edges."""
    heat = _heat(given_heat)
    enlarged = method_boxes.enlarge(heat, (rows, columns))
    assume(np.abs(enlarged - gamma).min() > 1e-3)  # a tie is rounding's to decide
    y, x = np.nonzero(enlarged >= gamma)
    expected = (x.min(), y.min(), x.max() + 1, y.max() + 1) if y.size else (0, 0, columns, rows)
    (box,) = method_boxes.find_boxes(heat, (rows, columns), Region(gamma=gamma, parts="all"))
    assert (box.x0, box.y0, box.x1, box.y1) == expected


def test_larger_gamma_gives_a_smaller_region() -> None:
    """As the paper says of γ."""
    y, x = np.mgrid[:32, :10]
    heat = (255 * np.exp(-(((y - 15) / 8) ** 2 + ((x - 5) / 3) ** 2))).astype(np.uint8)
    areas = [
        (b.x1 - b.x0) * (b.y1 - b.y0)
        for b in (
            method_boxes.find_boxes(heat, (1024, 256), Region(gamma=g))[0] for g in (50, 150, 250)
        )
    ]
    assert areas[0] > areas[1] > areas[2] > 0


def test_crop_has_the_stored_scans_pixels() -> None:
    """Undoing the window inside the box gives back the stored counts, pixel for pixel."""
    from bae.method.prediction import LocalizedView

    counts = np.random.default_rng(0).poisson(9, (120, 40)).astype(np.uint16)
    view = View(name="anterior", counts=counts)
    grey = image.window(image.to_tensor(view.counts), Windowing(percentile=100, power=1))
    found = LocalizedView(
        view="anterior",
        group=0,
        probabilities=np.ones(4, np.float32),
        grey=grey,
        heat=np.zeros((2, 2), np.uint8),
        heat_min=0,
        heat_max=1,
        boxes=[scan.Box(5, 30, 33, 90, 0.5)],
    )
    back = np.rint(found.crop().numpy() * counts.max()).astype(np.uint16)
    np.testing.assert_array_equal(back, counts[30:90, 5:33])


def test_overlap_is_what_counting_pixels_gives() -> None:
    """Intersection over union, by brute force on a grid."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        boxes = []
        for _ in range(2):
            x, y = (
                sorted(rng.choice(30, 2, replace=False)),
                sorted(rng.choice(20, 2, replace=False)),
            )
            boxes.append(Box(int(x[0]), int(y[0]), int(x[1]), int(y[1]), 0.0))
        masks = np.zeros((2, 20, 30), bool)
        for mask, box in zip(masks, boxes, strict=True):
            mask[box.y0 : box.y1, box.x0 : box.x1] = True
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert method_boxes.overlap(*boxes) == pytest.approx(expected)


def test_other_boxes_are_as_large_show_as_much_body_and_lie_elsewhere() -> None:
    """Checked pixel by pixel; where the body leaves no room there are none."""
    body = np.zeros((100, 40), bool)
    body[10:90, 10:30] = True
    box = Box(12, 20, 28, 40, 1.0)
    found = method_boxes.elsewhere(box, body, np.random.default_rng(0), 6)
    assert len(found) == len({(other.x0, other.y0) for other in found}) == 6
    for other in found:
        assert (other.x1 - other.x0, other.y1 - other.y0) == (16, 20)
        assert other.x0 >= 0 and other.x1 <= 40 and other.y0 >= 0 and other.y1 <= 100
        assert body[other.y0 : other.y1, other.x0 : other.x1].sum() >= 0.8 * 16 * 20
        shared = np.zeros_like(body)
        shared[other.y0 : other.y1, other.x0 : other.x1] = True
        assert shared[box.y0 : box.y1, box.x0 : box.x1].sum() <= 16 * 20 / 4
    assert method_boxes.elsewhere(Box(0, 5, 40, 95, 1.0), body, np.random.default_rng(0), 6) == []

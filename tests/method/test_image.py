"""Counts to network input."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bae.method import image
from bae.recipes import Windowing

SIZES = st.integers(1, 4000)


@dataclass(frozen=True)
class Grid:
    """The map between a stored view's pixels and a resized input's pixels.

    Pixel centres lie at integers and the outer edges of both grids coincide, as in
    ``torch.nn.functional.interpolate(align_corners=False)``.

    Args:
        rows, columns: size of the stored view.
        height, width: size of the network input.
    """

    rows: int
    columns: int
    height: int
    width: int

    def to_input(self, y: float, x: float) -> tuple[float, float]:
        """Map a point of the stored view to the input; both in pixels."""
        return (
            (y + 0.5) * self.height / self.rows - 0.5,
            (x + 0.5) * self.width / self.columns - 0.5,
        )

    def to_scan(self, y: float, x: float) -> tuple[float, float]:
        """Map a point of the input to the stored view; the inverse of ``to_input``."""
        return (
            (y + 0.5) * self.rows / self.height - 0.5,
            (x + 0.5) * self.columns / self.width - 0.5,
        )


@given(
    rows=SIZES,
    columns=SIZES,
    height=SIZES,
    width=SIZES,
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_point_mapped_to_input_and_back_stays_within_half_a_pixel(
    rows: int, columns: int, height: int, width: int, at: tuple[float, float]
) -> None:
    """The two maps of a grid are each other's inverse for any pair of sizes."""
    grid = Grid(rows, columns, height, width)
    y, x = at[0] * (rows - 1), at[1] * (columns - 1)
    back_y, back_x = grid.to_scan(*grid.to_input(y, x))
    assert abs(back_y - y) < 0.5
    assert abs(back_x - x) < 0.5
    assert abs(back_y - y) < 1e-6 * rows


@pytest.mark.parametrize(("rows", "columns"), [(1024, 256), (3000, 900), (700, 301)])
def test_resize_moves_a_bright_blob_where_the_grid_says(rows: int, columns: int) -> None:
    """The picture that the network sees lies where ``Grid`` says it does."""
    height, width = 320, 96
    y, x = 0.7 * rows, 0.3 * columns
    rr, cc = np.mgrid[:rows, :columns]
    blob = np.exp(-(((rr - y) / (rows / 40)) ** 2 + ((cc - x) / (columns / 40)) ** 2))
    small = image.resize(torch.tensor(blob, dtype=torch.float32), height, width).numpy()
    found_y = (small.sum(axis=1) * np.arange(height)).sum() / small.sum()
    found_x = (small.sum(axis=0) * np.arange(width)).sum() / small.sum()
    want_y, want_x = Grid(rows, columns, height, width).to_input(y, x)
    assert found_y == pytest.approx(want_y, abs=0.2)
    assert found_x == pytest.approx(want_x, abs=0.2)


def test_window_is_the_percentile_of_held_pixels_then_a_root() -> None:
    """numpy's percentile by rank over positive pixels gives the same grey values."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.3, 20, (64, 32))).astype(np.uint16)
    config = Windowing(percentile=90, power=0.5)
    held = np.sort(counts[counts > 0])
    white = held[round(0.9 * held.size) - 1]
    expected = np.sqrt(np.clip(counts / white, 0, 1))
    got = image.window(image.to_tensor(counts), config).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)


@given(
    st.lists(st.integers(0, 65535) | st.integers(0, 3), min_size=1, max_size=60),
    st.floats(51, 100),
)
@settings(deadline=None)
def test_white_is_the_level_that_sorting_finds(values: list[int], percentile: float) -> None:
    """Sorted held counts, the one at the percentile's rank: whatever the counts."""
    config = Windowing(percentile=percentile, power=1)
    got = image.window(image.to_tensor(np.array([values], np.uint16)), config)
    held = sorted(value for value in values if value)
    if not held:
        assert not got.any()
        return
    white = held[max(1, round(percentile / 100 * len(held))) - 1]
    np.testing.assert_allclose(got[0], np.minimum(np.array(values) / white, 1), rtol=1e-6)


SMALL = st.integers(2, 60)


@given(SMALL, SMALL, SMALL, SMALL)
@settings(deadline=None)
def test_resizing_rows_first_is_what_torch_gives_at_once(
    rows: int, columns: int, height: int, width: int
) -> None:
    """Both directions are independent of each other."""
    grey = torch.rand(rows, columns, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(
        grey[None, None], (height, width), mode="bilinear", antialias=True
    )[0, 0].clamp(0, 1)
    torch.testing.assert_close(image.resize(grey, height, width), expected, rtol=0, atol=1e-5)


def test_single_column_is_resized_like_a_single_row() -> None:
    """A box may be one pixel wide; torch's own answer is wrong there."""
    line = torch.rand(50, generator=torch.Generator().manual_seed(0))
    column, row = image.resize(line[:, None], 20, 3), image.resize(line[None], 3, 20)
    torch.testing.assert_close(column, row.T)
    assert column.std() > 0.05


def test_hot_bladder_does_not_darken_the_skeleton() -> None:
    """A spot a hundred times hotter than bone leaves the grey of bone nearly as it was."""
    rng = np.random.default_rng(0)
    plain = rng.poisson(20, (1024, 256)).astype(np.uint16)
    hot = plain.copy()
    hot[500:520, 120:140] = 4000
    config = Windowing()
    before = image.window(image.to_tensor(plain), config)[:400].mean()
    after = image.window(image.to_tensor(hot), config)[:400].mean()
    assert float(after) == pytest.approx(float(before), rel=0.05)


def test_view_without_counts_is_black() -> None:
    """No division by zero."""
    assert not image.window(torch.zeros(8, 8), Windowing()).any()


def test_eight_bits_keep_the_picture_within_half_a_step() -> None:
    """The training cache's rounding is bounded."""
    picture = torch.rand(16, 9)
    back = np.frombuffer(image.to_bytes(picture), np.uint8).reshape(16, 9) / 255
    assert np.abs(back - picture.numpy()).max() <= 0.5 / 255 + 1e-6

"""The mean body of a cohort, and how a view is brought onto it.

A smooth field of displacements makes a view most like the cohort's mean: cubic B-splines on a
coarse grid (Rueckert et al., IEEE Trans Med Imaging 1999) and least squares with the mean's own
gradient, so that one matrix is inverted for all scans (Baker and Matthews, Int J Comput Vis
2004).

Shape suffixes: N views, P channels, Y, X rows and columns of the frame, V, U those of a
sheet (the frame with its margins), A, B those of the splines, K coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bae.method.regional.frame import BODY_MM, CELL_MM, CROWN_MM, FRAME, MARGIN, blurred, body_level

SPLINES = (40, 14)
"""Coefficients along the body and across: one each 47 mm."""
STIFFNESS = (30.0, 4.0, 1.0)
"""Weight of the field's bending in each round; the first must not follow one person's bones."""
LONGER = (1.06, 1.14, 1.24, 1.36, 1.5)
"""Lengths tried for a body at whose lower end the picture ends, in what it shows."""
STEPS = 8
"""Gauss-Newton steps a round; later ones move nothing by a millimetre."""
BRIGHTEST, FAINTEST = 8.0, 0.15
"""In units of the body's mean: bladders are cut off there, and the logarithm starts there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Registered:
    """Views of one kind on the frame.

    Attributes:
        density_NYX: counts per mm^2, NaN where the view shows nothing.
        field_N2YX: displacement (down, right) of each cell, in cells: the cell at p shows
            what lies at p + field on the sheet.
        misfit_N: mean squared difference from the template, unitless; tells anterior from
            posterior.
    """

    density_NYX: Tensor
    field_N2YX: Tensor
    misfit_N: Tensor


class Template:
    """The mean body of a cohort in one view, ready to bring other views onto it."""

    def __init__(self, mean_PYX: Tensor, stiffness: float = STIFFNESS[-1]) -> None:
        """Prepare the least squares.

        Args:
            mean_PYX: mean of the channels over a cohort, see ``_channels``.
            stiffness: weight of the field's bending.
        """
        self.mean_PYX = mean_PYX
        self._down_YA, self._right_XB = (
            torch.from_numpy(_splines(n, k)).to(mean_PYX)
            for n, k in zip(FRAME, SPLINES, strict=True)
        )
        self._slope_2PYX = torch.stack(torch.gradient(mean_PYX, dim=(1, 2)))
        # normal matrix of the two directions; a product of slopes stands between the bases
        blocks = [
            [self._normal((a * b).sum(dim=0)) for b in self._slope_2PYX] for a in self._slope_2PYX
        ]
        normal_KK = torch.cat([torch.cat(row, 1) for row in blocks])
        bending_KK = torch.from_numpy(np.kron(np.eye(2), _bending(*SPLINES))).to(mean_PYX)
        self._bending_KK = bending_KK * (stiffness * normal_KK.diagonal().mean())
        self._inverse_KK = torch.linalg.inv(normal_KK + self._bending_KK)

    def _normal(self, weight_YX: Tensor) -> Tensor:
        """Return (K, K) products of all bases of one direction, summed over weighted cells."""
        down_YAA = self._down_YA[:, :, None] * self._down_YA[:, None]
        right_XBB = self._right_XB[:, :, None] * self._right_XB[:, None]
        # along the body first and then across: no basis is ever written out
        products = down_YAA.flatten(1).T @ weight_YX @ right_XBB.flatten(1)
        count_A, count_B = SPLINES
        products_AABB = products.view(count_A, count_A, count_B, count_B)
        return products_AABB.transpose(1, 2).reshape(count_A * count_B, count_A * count_B)

    def register(self, density_NVU: Tensor) -> Registered:
        """Bring sheets onto the frame.

        Args:
            density_NVU: ``Sheet.density_VU`` of some views.
        """
        found = [self._register(some, 1.0) for some in torch.split(density_NVU, 64)]
        best = Registered(
            density_NYX=torch.cat([one.density_NYX for one in found]),
            field_N2YX=torch.cat([one.field_N2YX for one in found]),
            misfit_N=torch.cat([one.misfit_N for one in found]),
        )
        open_C = torch.nonzero(_ends_at_the_soles(density_NVU))[:, 0]
        for longer in LONGER if len(open_C) else ():
            other = self._register(density_NVU[open_C], longer)
            better_C = other.misfit_N < best.misfit_N[open_C]
            chosen = open_C[better_C]
            best.density_NYX[chosen] = other.density_NYX[better_C]
            best.field_N2YX[chosen] = other.field_N2YX[better_C]
            best.misfit_N[chosen] = other.misfit_N[better_C]
        return best

    def _register(self, density_NVU: Tensor, longer: float) -> Registered:
        """Bring sheets onto the frame, bodies being so many times as long as what they show."""
        channels_NPVU = _channels(density_NVU)
        held_N1VU = (~density_NVU.isnan())[:, None].float()
        looked_NPVU = torch.cat([channels_NPVU, held_N1VU], dim=1)
        start_K = _stretched(longer).to(density_NVU)
        weights_NK = start_K.expand(len(density_NVU), -1)
        for _ in range(STEPS):
            off_NPYX = self._difference(looked_NPVU, self._field(weights_NK))
            pull_N2YX = torch.einsum("npyx,dpyx->ndyx", off_NPYX, self._slope_2PYX)
            pull_NK = torch.einsum("ndyx,ya,xb->ndab", pull_N2YX, self._down_YA, self._right_XB)
            gradient_NK = pull_NK.flatten(1) + (weights_NK - start_K) @ self._bending_KK
            weights_NK = weights_NK - gradient_NK @ self._inverse_KK
        field_N2YX = self._field(weights_NK)
        off_NPYX = self._difference(looked_NPVU, field_N2YX)
        filled_N1VU = density_NVU.nan_to_num()[:, None]
        density_NYX = _sampled(torch.cat([filled_N1VU, held_N1VU], 1), field_N2YX)
        return Registered(
            density_NYX=density_NYX[:, 0].masked_fill(density_NYX[:, 1] < _WHOLE, torch.nan),
            field_N2YX=field_N2YX,
            # by compared cell, or else who shows less would always fit better; of none, NaN
            misfit_N=off_NPYX.square().sum(dim=(1, 2, 3)) / (off_NPYX != 0).sum(dim=(1, 2, 3)),
        )

    def _field(self, weights_NK: Tensor) -> Tensor:
        weights_N2AB = weights_NK.view(-1, 2, *SPLINES)
        return torch.einsum("ya,ndab,xb->ndyx", self._down_YA, weights_N2AB, self._right_XB)

    def _difference(self, looked_NPVU: Tensor, field_N2YX: Tensor) -> Tensor:
        """Return how far views differ from the template; 0 where a view shows nothing."""
        seen_NPYX = _sampled(looked_NPVU, field_N2YX)
        held_N1YX, seen_NPYX = (seen_NPYX[:, -1:] > _WHOLE).float(), seen_NPYX[:, :-1]
        first_N1YX, mean_YX = seen_NPYX[:, :1] * held_N1YX, self.mean_PYX[0]
        # brightness of the root channel is free; the logarithm's has none
        gain_N = (first_N1YX * mean_YX).sum(dim=(1, 2, 3)) / first_N1YX.square().sum(
            dim=(1, 2, 3)
        ).clamp_min(1e-9)
        seen_NPYX = torch.cat([gain_N[:, None, None, None] * seen_NPYX[:, :1], seen_NPYX[:, 1:]], 1)
        return (seen_NPYX - self.mean_PYX) * held_N1YX


def _ends_at_the_soles(density_NVU: Tensor) -> Tensor:
    """Return (N,) bool: the picture ends where its body does, which may have been longer."""
    below = MARGIN[0] + round((CROWN_MM + BODY_MM) / CELL_MM) + 3
    return density_NVU[:, below, MARGIN[1] : -MARGIN[1]].isnan().all(dim=1)


def _stretched(longer: float) -> Tensor:
    """Return the (K,) coefficients of a field that stretches a body from its crown down."""
    fixed = (CROWN_MM / CELL_MM, FRAME[1] / 2)
    down_A, right_B = (
        # the middle of each spline; splines reproduce what is linear in it
        (((torch.arange(k) - 1.0) * (n - 1) / (k - 3) + 0.5) - at) * (longer - 1)
        for n, k, at in zip(FRAME, SPLINES, fixed, strict=True)
    )
    both = torch.meshgrid(down_A, right_B, indexing="ij")
    return torch.stack(both).flatten().float()


_WHOLE = 0.99
"""A cell counts where so much of what it is sampled from lies in the view."""


def learn(density_NVU: Tensor) -> tuple[Template, Registered]:
    """Make the template of a cohort's views of one kind, and bring these onto it.

    Args:
        density_NVU: of one or more views.
    """
    if not len(density_NVU):
        raise ValueError("a template needs a view")
    channels_NPVU = torch.cat([_channels(some) for some in torch.split(density_NVU, 64)])
    mean_PYX = _inner(channels_NPVU).mean(dim=0)
    for stiffness in STIFFNESS:
        template = Template(mean_PYX, stiffness)
        registered = template.register(density_NVU)
        mean_PYX = _sampled(channels_NPVU, registered.field_N2YX).mean(dim=0)
    return template, registered


def onto_view(
    map_YX: Tensor,
    field_2YX: Tensor,
    affine: NDArray[np.float64],
    size_mm: tuple[float, float],
    cells: tuple[int, int],
) -> Tensor:
    """Bring a map from the frame to a view.

    Args:
        map_YX: on the frame; 0 is taken beyond it.
        field_2YX: of the view.
        affine: of the view's sheet.
        size_mm: height and width of the whole view.
        cells: rows and columns of the result, which covers the whole view.
    """
    at_RC2 = to_frame(_middles(size_mm, cells), field_2YX, affine)
    grid = _normalised(at_RC2[..., 0], at_RC2[..., 1], FRAME)
    return F.grid_sample(map_YX[None, None], grid[None], align_corners=False)[0, 0]


def to_frame(view_mm: Tensor, field_2YX: Tensor, affine: NDArray[np.float64]) -> Tensor:
    """Return where on the frame points of a view lie, in cells from its corner.

    Args:
        view_mm: (..., 2) down and right from the view's corner.
        field_2YX: displacement of the view, see ``Registered``.
        affine: of the view's sheet.
    """
    inverse = torch.from_numpy(np.linalg.inv(affine[:, :2])).to(view_mm)
    laid = (view_mm - torch.from_numpy(affine[:, 2]).to(view_mm)) @ inverse.T / CELL_MM
    at = laid
    for _ in range(_INVERSE_STEPS):
        flat = _normalised(at[..., 0], at[..., 1], FRAME).reshape(1, -1, 1, 2)
        moved = F.grid_sample(field_2YX[None], flat, padding_mode="border", align_corners=False)
        at = laid - moved[0, :, :, 0].T.reshape(at.shape)
    return at


_INVERSE_STEPS = 8
"""Of the fixed point that inverts a field; its slope is far below 1."""


def _middles(size_mm: tuple[float, float], cells: tuple[int, int]) -> Tensor:
    down, right = (
        (torch.arange(n, dtype=torch.float32) + 0.5) * mm / n
        for n, mm in zip(cells, size_mm, strict=True)
    )
    return torch.stack(torch.meshgrid(down, right, indexing="ij"), dim=-1)


def _channels(density_NVU: Tensor) -> Tensor:
    """Return (N, 2, V, U) what is compared: blurred roots of counts, and a band of their logarithm.

    The root shows the body, the band (bone against what surrounds it by 10 to 30 mm) the bones,
    however strong their uptake.
    """
    level_N11 = body_level(_inner(density_NVU))[:, None, None]
    relative_NVU = density_NVU.nan_to_num().clamp_min(0) / level_N11
    root_NVU = blurred(relative_NVU.clamp_max(BRIGHTEST).sqrt(), 1.2)
    log_NVU = (blurred(relative_NVU, 0.7) + FAINTEST).log()
    return torch.stack([root_NVU, 0.5 * (blurred(log_NVU, 0.8) - blurred(log_NVU, 4.0))], dim=1)


def _inner(sheet_NVU: Tensor) -> Tensor:
    return sheet_NVU[..., MARGIN[0] : -MARGIN[0], MARGIN[1] : -MARGIN[1]]


def _sampled(sheet_NPVU: Tensor, field_N2YX: Tensor) -> Tensor:
    """Return (N, P, Y, X) what the cells of the frame show."""
    down_Y1 = torch.arange(FRAME[0])[:, None] + 0.5 + MARGIN[0]
    right_X = torch.arange(FRAME[1]) + 0.5 + MARGIN[1]
    size = (sheet_NPVU.shape[2], sheet_NPVU.shape[3])
    grid = _normalised(field_N2YX[:, 0] + down_Y1, field_N2YX[:, 1] + right_X, size)
    return F.grid_sample(sheet_NPVU, grid, padding_mode="border", align_corners=False)


def _normalised(down: Tensor, right: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (..., 2) right and down in torch's coordinates: -1 to 1 from edge to edge."""
    return torch.stack([right / size[1] * 2 - 1, down / size[0] * 2 - 1], dim=-1)


def _splines(cells: int, count: int) -> NDArray[np.float32]:
    """Return (cells, count) uniform cubic B-splines over a line of cells."""
    away = abs(np.linspace(0, count - 3, cells)[:, None] - (np.arange(count) - 1))
    inner, outer = (4 - 6 * away**2 + 3 * away**3) / 6, np.maximum(2 - away, 0) ** 3 / 6
    return np.where(away < 1, inner, outer).astype(np.float32)


def _bending(down: int, right: int) -> NDArray[np.float32]:
    """Return the (K, K) quadratic form of a spline field's second differences."""
    eye_y, eye_x = np.eye(down), np.eye(right)
    (first_y, second_y), (first_x, second_x) = (
        [np.diff(eye, order, axis=0) for order in (1, 2)] for eye in (eye_y, eye_x)
    )
    mixed = np.kron(first_y.T @ first_y, first_x.T @ first_x)
    form = np.kron(second_y.T @ second_y, eye_x) + np.kron(eye_y, second_x.T @ second_x) + 2 * mixed
    # a little of the field itself: what neither bones nor bending settle stays where it was laid
    return np.asarray(form + 0.005 * np.eye(down * right), np.float32)

"""What the methods that look twice share: a coarse picture, crops of a fine one, and weights held.

Boxes are x0, y0, x1, y1 as shares of width and height, 0 and 1 being the picture's outer edges.

Shape suffixes: N pictures, R boxes of each, H, W of a picture, V, U of a map.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bae.method.networks import full_precision

EMPTY = 0.02
"""Mean grey, of 1 for white, below which a piece of a picture shows no body: of a count or so
a pixel lies outside of it, and the windowed root of that is near 0."""


def shrunk(picture_N1HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a coarse picture: each pixel is the mean of those that it covers."""
    with full_precision(picture_N1HW):
        return F.adaptive_avg_pool2d(picture_N1HW.float(), size)


def cut(picture_N1HW: Tensor, boxes_NR4: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop boxes, all to one size, bilinear; gradients reach the boxes.

    A box that lies on pixel edges, as large as ``size``, comes out as its pixels. This is the
    sampler of Jaderberg et al. 2015 (Eqs. 1 and 5), without rotation.

    Returns:
        (N R, 1, rows, columns) float32, the boxes of a picture in their order.
    """
    n, r = boxes_NR4.shape[:2]
    with full_precision(picture_N1HW):  # bf16 would move a place by pixels
        low_NR2, high_NR2 = boxes_NR4.float().chunk(2, dim=2)
        # grid_sample's axes go from -1 to 1
        turned_NR22 = torch.diag_embed(high_NR2 - low_NR2)
        theta_NR23 = torch.cat([turned_NR22, (low_NR2 + high_NR2 - 1)[..., None]], dim=3)
        grid = F.affine_grid(theta_NR23.flatten(0, 1), [n * r, 1, *size], align_corners=False)
        below_one_another = grid.view(n, r * size[0], size[1], 2)
        crops = F.grid_sample(
            picture_N1HW.float(), below_one_another, padding_mode="border", align_corners=False
        )
    return crops.view(n * r, 1, *size)


def covered(boxes_NR4: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, V, U) by how many boxes each cell of a map is covered, parts of cells included."""
    shares = []
    for at, cells in ((1, size[0]), (0, size[1])):
        edges = torch.linspace(0, 1, cells + 1, device=boxes_NR4.device)
        low_NR1, high_NR1 = boxes_NR4[..., at, None], boxes_NR4[..., at + 2, None]
        inside = torch.minimum(edges[1:], high_NR1) - torch.maximum(edges[:-1], low_NR1)
        shares.append(inside.clamp_min(0) * cells)
    with full_precision(boxes_NR4):
        return torch.einsum("nrv,nru->nvu", *shares)


def held(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what a module does, without it learning: gradients reach its input alone.

    Batch norm sees the batch as it does in the module, but its running statistics stay.
    """
    tensors = {name: value.detach() for name, value in module.named_parameters()}
    tensors |= {name: value.clone() for name, value in module.named_buffers()}

    def ask(x: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(module, tensors, (x,))
        return y

    return ask

"""The whole picture, then the regions that speak most for its answer, one after the other.

Chen et al. 2020, "Attention-guided discriminative region localization and label distribution
learning for bone age assessment" (arXiv 2006.00202): where age shows, that region suppressed,
where it shows next; whole and regions are read together. See ``bae/method/PAPER.md``.

Shape suffixes: N pictures, R boxes, H, W of a picture, F channels, V, U of a map, B bins.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bae import recipes
from bae.method.baselines.crops import EMPTY, cut, shrunk
from bae.method.networks import BINS, Look, Regressor, full_precision, pool
from bae.method.trunks import Trunk

REGIONS = 3
CELLS = (48, 16)
"""Rows and columns on which boxes lie; a box has ``SIDE`` cells each way."""
SIDE = 8
"""So a box is half as wide as the picture and a sixth as high: a square, where the picture is
three times as high as wide. Three never fill it: there is always room for the next."""


class Iterated(Regressor):
    """One trunk for the whole, whose own answer says where to look, and one for the regions."""

    shares = (1.0, 1.0)
    """The answer, then the one of the whole picture alone."""

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights."""
        finer = Trunk(config.trunk)
        super().__init__(config, features=(1 + REGIONS) * finer.channels)
        self.finer = finer
        self.own = nn.Linear(finer.channels, BINS if config.by_year else 1)
        self.coarse = (config.height // 2, config.width // 2)
        self.crop = (config.height * SIDE // CELLS[0], config.width * SIDE // CELLS[1])

    def look(self, crop_N1HW: Tensor) -> Look:
        """Return features of the whole and of the regions, most discriminative first."""
        return self._look(crop_N1HW)[0]

    def lessons(self, crop_N1HW: Tensor, male_N: Tensor) -> Tensor:
        """Return the answer, and the one of the whole picture alone."""
        seen, own_NB = self._look(crop_N1HW)
        return torch.stack([self.answer(seen.pooled_NF, male_N, scores=True), own_NB])

    def _look(self, picture_N1HW: Tensor) -> tuple[Look, Tensor]:
        features_NFVU = self.trunk(shrunk(picture_N1HW, self.coarse))
        with full_precision(features_NFVU):
            whole_NF = pool(features_NFVU)
            own_NB = self.own(whole_NF)
            heat_NVU = answer_heat(features_NFVU.detach(), self.own.weight, own_NB.detach())
            black_NVU = shrunk(picture_N1HW, CELLS)[:, 0] < EMPTY
            boxes_NR4 = discriminative(heat_NVU, black_NVU)
        features_NFVU = self.finer(cut(picture_N1HW, boxes_NR4, self.crop))
        with full_precision(features_NFVU):
            regions_NF = pool(features_NFVU).view(len(picture_N1HW), -1)
            pooled_NF = torch.cat([whole_NF, regions_NF], dim=1)
        return Look(pooled_NF=pooled_NF, heat_NVU=heat_NVU, boxes_NR4=boxes_NR4), own_NB


@torch.no_grad()
def answer_heat(features_NFVU: Tensor, weight_BF: Tensor, last_NB: Tensor) -> Tensor:
    """Show what speaks for the years that a pooled linear layer answers, against all others.

    The class activation map (Zhou et al. 2016, Eq. 2) of each year, weighed by the year's
    probability; the mean map of all years is taken off, which moves no answer. Of a layer
    that names the age itself it is the age's own map: where the picture looks old.

    Returns:
        (N, V, U) float32.
    """
    if last_NB.shape[1] == 1:
        by_year_NB = torch.ones_like(last_NB)
    else:
        by_year_NB = last_NB.softmax(dim=1) - 1 / last_NB.shape[1]
    return torch.einsum("nf,nfvu->nvu", by_year_NB @ weight_BF, features_NFVU.float())


@torch.no_grad()
def discriminative(heat_NVU: Tensor, black_NVU: Tensor) -> Tensor:
    """Find the hottest box of fixed size, suppress it, and so on.

    Args:
        heat_NVU: any size.
        black_NVU: (N, 48, 16) where the picture shows no body; there is no heat there.

    Returns:
        (N, R, 4) boxes, none of which overlaps another.
    """
    heat_N1VU = F.interpolate(heat_NVU[:, None], CELLS, mode="bilinear")
    coldest_N111 = heat_N1VU.amin(dim=(1, 2, 3), keepdim=True)
    heat_N1VU = torch.where(black_NVU[:, None], coldest_N111, heat_N1VU)
    inside_NVU = F.avg_pool2d(heat_N1VU, SIDE, stride=1)[:, 0]  # of the box whose corner it is
    rows, columns = inside_NVU.shape[1:]
    down_V1 = torch.arange(rows, device=heat_NVU.device)[:, None]
    across_U = torch.arange(columns, device=heat_NVU.device)
    boxes = []
    for _ in range(REGIONS):
        at_N = inside_NVU.flatten(1).argmax(dim=1)
        y_N11, x_N11 = ((at_N // columns)[:, None, None], (at_N % columns)[:, None, None])
        touches_NVU = ((down_V1 - y_N11).abs() < SIDE) & ((across_U - x_N11).abs() < SIDE)
        inside_NVU = inside_NVU.masked_fill(touches_NVU, -torch.inf)
        corner_N4 = torch.cat([x_N11, y_N11, x_N11 + SIDE, y_N11 + SIDE], dim=1)[..., 0]
        boxes.append(corner_N4)
    sides_4 = torch.tensor([CELLS[1], CELLS[0]] * 2, device=heat_NVU.device)
    return torch.stack(boxes, dim=1) / sides_4

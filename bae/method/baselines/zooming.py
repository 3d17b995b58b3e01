"""Three scales, each a closer look at a part of the one before.

Fu, Zheng and Mei, CVPR 2017, "Look closer to see better: recurrent attention convolutional
neural network" (RA-CNN). A proposal network says from one scale's features where the next one
looks; it learns by ranking alone: the next scale shall err less. See ``bae/method/PAPER.md``.

Shape suffixes: N pictures, H, W of one, F channels, V, U of a map, B bins, A answers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bae import recipes
from bae.method.baselines.crops import covered, cut, held, shrunk
from bae.method.networks import BINS, Look, Regressor, full_precision, pool
from bae.method.trunks import Trunk

LEAST, MOST = 1 / 6, 1 / 3
"""Half a box's side as a share of what the scale before saw."""
CELLS = (6, 2)
"""Rows and columns to which features are averaged before a place is read off them."""
PLACE_NEURONS = 128
MAP = (48, 16)
"""Rows and columns of the map of where it looked."""


class Proposal(nn.Module):
    """From a scale's features to where the next one looks: two linear layers."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features * CELLS[0] * CELLS[1], PLACE_NEURONS),
            nn.Tanh(),
            nn.Linear(PLACE_NEURONS, 3),
        )

    def forward(self, features_NFVU: Tensor) -> Tensor:
        """Return boxes (N, 4), as shares of what the scale saw, always inside of it.

        Centre and half side are what the network says, as in the publication; here the
        centre is a share of the room that the side leaves.
        """
        cells = F.adaptive_avg_pool2d(features_NFVU.float(), CELLS)
        said_N3 = self.layers(cells.flatten(1)).sigmoid()
        half_N1 = LEAST + (MOST - LEAST) * said_N3[:, 2:]
        centre_N2 = half_N1 + (1 - 2 * half_N1) * said_N3[:, :2]
        return torch.cat([centre_N2 - half_N1, centre_N2 + half_N1], dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Zoomed:
    """What the scales saw: pooled features (N, F) of each; and boxes (N, 4) of all but the first.

    Boxes are shares of the whole picture; their gradients reach the proposal networks alone.
    """

    pooled: list[Tensor]
    boxes: list[Tensor]


class Zooming(Regressor):
    """Three trunks, each with an answer of its own, and the head on the features of all.

    The publication trains scales and proposals by turns. Here each step does both, and they
    do not meet: the scales see crops whose place is given, and the proposals learn through
    copies of the scales whose weights are given.
    """

    shares = (1.0, 1.0, 1.0, 1.0)
    """The answer, then each scale's."""
    ranked = 3

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights."""
        finer = [Trunk(config.trunk) for _ in range(2)]
        features = finer[0].channels
        super().__init__(config, features=3 * features)
        self.finer = nn.ModuleList(finer)
        self.proposals = nn.ModuleList(Proposal(features) for _ in range(2))
        bins = BINS if config.by_year else 1
        self.own = nn.ModuleList(nn.Linear(features, bins) for _ in range(3))
        self.size = (config.height // 2, config.width // 2)

    def look(self, crop_N1HW: Tensor) -> Look:
        """Return the features of all scales, and the two boxes of the finer ones."""
        seen = self._zoom(crop_N1HW)
        boxes_NR4 = torch.stack(seen.boxes, dim=1).clamp(0, 1)
        return Look(
            pooled_NF=_together(seen.pooled),
            heat_NVU=covered(boxes_NR4, MAP),
            boxes_NR4=boxes_NR4,
        )

    def lessons(self, crop_N1HW: Tensor, male_N: Tensor) -> Tensor:
        """Return the answer, that of each scale, and those of the scales again to be ranked."""
        seen = self._zoom(crop_N1HW)
        answer_NB = self.answer(_together(seen.pooled), male_N, scores=True)
        with full_precision(crop_N1HW):
            own = [layer(pooled) for layer, pooled in zip(self.own, seen.pooled, strict=True)]
        ranked = [own[0].detach()]
        for trunk, layer, box_N4 in zip(self.finer, self.own[1:], seen.boxes, strict=True):
            features_NFVU = held(trunk)(cut(crop_N1HW, box_N4[:, None], self.size))
            with full_precision(features_NFVU):
                ranked.append(held(layer)(pool(features_NFVU)))
        return torch.stack([answer_NB, *own, *ranked])

    def _zoom(self, picture_N1HW: Tensor) -> _Zoomed:
        features_NFVU = self.trunk(shrunk(picture_N1HW, self.size))
        pooled, boxes = [], []
        seen_N4 = features_NFVU.new_tensor([[0, 0, 1, 1]], dtype=torch.float32)
        for trunk, proposal in zip(self.finer, self.proposals, strict=True):
            with full_precision(features_NFVU):
                pooled.append(pool(features_NFVU))
                seen_N4 = _inside(seen_N4, proposal(features_NFVU.detach()))
            boxes.append(seen_N4)
            features_NFVU = trunk(cut(picture_N1HW, seen_N4.detach()[:, None], self.size))
        with full_precision(features_NFVU):
            return _Zoomed(pooled=[*pooled, pool(features_NFVU)], boxes=boxes)


def _inside(outer_N4: Tensor, inner_N4: Tensor) -> Tensor:
    """Return a box, given as shares of another one, as shares of the whole picture."""
    corner_N2, side_N2 = outer_N4[:, :2], outer_N4[:, 2:] - outer_N4[:, :2]
    return corner_N2.repeat(1, 2) + inner_N4 * side_N2.repeat(1, 2)


def _together(pooled: list[Tensor]) -> Tensor:
    """Return the scales' features (N, 3 F), each of the same length: none outshouts the others."""
    length = pooled[0].shape[1] ** 0.5
    return torch.cat([length * F.normalize(own_NF, dim=1) for own_NF in pooled], dim=1)

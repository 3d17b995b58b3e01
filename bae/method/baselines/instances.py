"""Tiles of a coarse picture, and the most attended of them once more in full resolution.

Li et al. 2019, "An attention-based multi-resolution model for prostate whole slide image
classification and localization" (arXiv 1905.13208): multiple-instance learning in two stages,
the saliency of the first choosing what the second reads. See ``bae/method/PAPER.md``.

Shape suffixes: N pictures, C tiles of each, R chosen ones, H, W of a picture, F channels, D
neurons.
"""

import torch
from torch import Tensor, nn

from bae import recipes
from bae.method.baselines.crops import EMPTY, cut, shrunk
from bae.method.networks import Look, Regressor, full_precision, gated_attention, pool
from bae.method.trunks import Trunk

ROWS, COLUMNS = 12, 4
"""Tiles of a picture: squares where it is three times as high as wide, as views nearly are."""
CHOSEN = 6
"""Tiles that are read a second time."""


class Bag(nn.Module):
    """Pool instances by gated attention (Ilse et al. 2018, Eqs. 7 and 9)."""

    def __init__(self, features: int, config: recipes.Regressor) -> None:
        super().__init__()
        hidden = config.hidden_neurons
        self.embed = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.signal, self.gate = nn.Linear(hidden, hidden // 2), nn.Linear(hidden, hidden // 2)
        self.attention = nn.Linear(hidden // 2, 1)

    def forward(self, pooled_NCF: Tensor, there_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and attention (N, C), which sums to 1."""
        each_NCD = self.embed(pooled_NCF)
        weight_NC = gated_attention(each_NCD, there_NC, self.signal, self.gate, self.attention)
        return torch.einsum("nc,ncd->nd", weight_NC, each_NCD), weight_NC


class Instances(Regressor):
    """A trunk and attention for all tiles, and another pair for the chosen ones.

    A tile whose mean grey is below ``crops.EMPTY`` shows no body and is left out of the
    attention; of a picture without any body all tiles weigh the same. In training a tile is
    left out at random, too, by the recipe's dropout: else attention stays with the first few
    that it met.
    """

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights."""
        finer = Trunk(config.trunk)
        super().__init__(config, features=2 * config.hidden_neurons)
        self.finer = finer
        self.bags = nn.ModuleList(Bag(finer.channels, config) for _ in range(2))
        self.dropped = config.dropout
        self.tile = (max(config.height // ROWS, 1), max(config.width // COLUMNS, 1))
        down, across = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
        corner_C2 = torch.stack([across, down], dim=2).flatten(0, 1)
        size_2 = torch.tensor([COLUMNS, ROWS])
        boxes_C4 = torch.cat([corner_C2 / size_2, (corner_C2 + 1) / size_2], dim=1)
        self.register_buffer("boxes_C4", boxes_C4, persistent=False)
        self.boxes_C4: Tensor

    def look(self, crop_N1HW: Tensor) -> Look:
        """Return both bags' features; the first one's attention, and the tiles that it chose."""
        n = len(crop_N1HW)
        tiles_NCHW = self._tiles(crop_N1HW)
        there_NC = tiles_NCHW.mean(dim=(2, 3)) > EMPTY
        read_NC = there_NC
        if self.training:
            read_NC = there_NC & (torch.rand_like(tiles_NCHW[:, :, 0, 0]) >= self.dropped)
        features_NFVU = self.trunk(tiles_NCHW.flatten(0, 1)[:, None])
        with full_precision(features_NFVU):
            pooled_NCF = pool(features_NFVU).view(n, ROWS * COLUMNS, -1)
            coarse_ND, weight_NC = self.bags[0](pooled_NCF, read_NC)
        chosen_NR = weight_NC.topk(CHOSEN, dim=1).indices
        boxes_NR4 = self.boxes_C4[chosen_NR]
        features_NFVU = self.finer(cut(crop_N1HW, boxes_NR4, self.tile))
        with full_precision(features_NFVU):
            pooled_NRF = pool(features_NFVU).view(n, CHOSEN, -1)
            fine_ND, _ = self.bags[1](pooled_NRF, there_NC.gather(1, chosen_NR))
            return Look(
                pooled_NF=torch.cat([coarse_ND, fine_ND], dim=1),
                heat_NVU=weight_NC.view(n, ROWS, COLUMNS),
                boxes_NR4=boxes_NR4,
            )

    def _tiles(self, picture_N1HW: Tensor) -> Tensor:
        """Return (N, C, H, W) tiles at half the resolution, row by row."""
        rows, columns = (max(side // 2, 1) for side in self.tile)
        coarse = shrunk(picture_N1HW, (ROWS * rows, COLUMNS * columns))
        split = coarse.view(-1, ROWS, rows, COLUMNS, columns)
        return split.transpose(2, 3).reshape(-1, ROWS * COLUMNS, rows, columns)

"""GoogLeNet's auxiliary heads: two more answers in training, from the middle of the trunk.

Szegedy et al. 2015, section 5: after Inception (4a) and (4d), each counting 0.3 in the loss, so
that early layers learn too; thrown away for prediction. Here they stay in the file, unused.

Shape suffixes: N views or crops, F channels, V, U rows and columns of a feature map, H, W of the
input, B bins, A answers.
"""

import torch
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d

from bae import recipes
from bae.method.networks import BINS, Regressor, full_precision, pool
from bae.method.trunks import TRUNKS
from bae.sections import check


def _head(channels: int, config: recipes.Regressor) -> nn.Module:
    """Return the head of section 5: 4 x 4 cells, 128 filters, a linear layer, 70 % dropout.

    The linear layer is as wide as the answer's own (1024 at full size, as published).
    """
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(4),
        BasicConv2d(channels, 128, kernel_size=1),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, config.hidden_neurons),
        nn.ReLU(),
        nn.Dropout(0.7),
        nn.Linear(config.hidden_neurons, BINS if config.by_year else 1),
    )


class Auxiliary(Regressor):
    """A regressor that, in training, also answers from the maps that its trunk taps."""

    shares = (1.0, 0.3, 0.3)

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights.

        Raises:
            RecipeError: the trunk has no two taps.
        """
        super().__init__(config)
        taps = TRUNKS[config.trunk].taps
        check(len(taps) == 2, f"regressor.network=auxiliary: {config.trunk} has no two taps")
        self.heads = nn.ModuleDict({name: _head(channels, config) for name, channels in taps})

    def lessons(self, crop_N1HW: Tensor, male_N: Tensor) -> Tensor:
        """Return last layers (3, N, B): the answer, then the taps', which see no sex."""
        taps = []
        features_NFVU = (crop_N1HW - self.trunk.mean) / self.trunk.std
        for name, child in self.trunk.body.named_children():
            features_NFVU = child(features_NFVU)
            if name in self.heads:
                taps.append(self.heads[name](features_NFVU).float())
        with full_precision(features_NFVU):
            last_NB = self.answer(pool(features_NFVU), male_N, scores=True)
        return torch.stack([last_NB, *taps])

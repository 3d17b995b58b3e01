"""The two networks of Fig. 1, and the trunks they stand on.

Shape suffixes: N views or crops, K channels, V rows, U columns of the last feature
map, H, W of the input, C age groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import Inception_V3_Weights, ResNet50_Weights, WeightsEnum
from torchvision.models.resnet import BasicBlock, ResNet

from bae import recipes
from bae.errors import RecipeError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TrunkKind:
    """How to build one feature extractor.

    Attributes:
        build: makes the torchvision network, without weights.
        cut: names of the children after the last convolution, taken off.
        channels: K of the last feature map.
        weights: torchvision's ImageNet weights, None where there are none.
        mean, std: what the weights expect the grey values to be normalised by.
    """

    build: Callable[[], nn.Module]
    cut: tuple[str, ...]
    channels: int
    weights: WeightsEnum | None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def _resnet10() -> ResNet:
    """Build a ResNet of ten layers whose last stage keeps its size: a map with stride 16.

    With stride 32 the map of a 96 x 320 input would be 3 x 10 cells, too coarse for a region.
    """
    network = ResNet(BasicBlock, [1, 1, 1, 1])
    block = network.layer4[0]
    block.conv1.stride = block.downsample[0].stride = (1, 1)
    return network


TRUNKS: dict[str, TrunkKind] = {
    "resnet50": TrunkKind(
        build=lambda: torchvision.models.resnet50(weights=None),
        cut=("avgpool", "fc"),
        channels=2048,
        weights=ResNet50_Weights.IMAGENET1K_V1,
    ),
    "inception_v3": TrunkKind(
        build=lambda: torchvision.models.inception_v3(
            weights=None, aux_logits=False, init_weights=False
        ),
        cut=("avgpool", "dropout", "fc"),
        channels=2048,
        weights=Inception_V3_Weights.IMAGENET1K_V1,
        # the weights come from TensorFlow, which scales to [-1, 1]
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "resnet10": TrunkKind(
        build=_resnet10,
        cut=("avgpool", "fc"),
        channels=512,
        weights=None,
    ),
}


class Trunk(nn.Module):
    """Grey picture to feature maps: a torchvision network up to its last convolution."""

    def __init__(self, name: str) -> None:
        """Build the trunk with random weights.

        Raises:
            RecipeError: no such trunk.
        """
        super().__init__()
        if name not in TRUNKS:
            raise RecipeError(f"unknown trunk {name!r}; {recipes.suggestion(name, TRUNKS)}")
        kind = TRUNKS[name]
        whole = kind.build()
        # children keep torchvision's names, so its weight files fit without renaming
        self.body = nn.Sequential()
        for child_name, child in whole.named_children():
            if child_name not in kind.cut:
                self.body.add_module(child_name, child)
        self.channels = kind.channels
        self.register_buffer("mean", torch.tensor(kind.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(kind.std).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, grey_N1HW: Tensor) -> Tensor:
        """Return features (N, K, V, U) of grey values in [0, 1]."""
        features: Tensor = self.body((grey_N1HW - self.mean) / self.std)
        return features


class Localizer(nn.Module):
    """Which age group, and the feature maps that say where (Fig. 1 (a), section III)."""

    def __init__(self, config: recipes.Localizer) -> None:
        """Build with random weights; ``bae.weights`` brings ImageNet's."""
        super().__init__()
        self.trunk = Trunk(config.trunk)
        self.head = nn.Linear(self.trunk.channels, config.groups)

    def forward(self, grey_N1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return age-group scores (N, C) and features (N, K, V, U)."""
        features_NKVU = self.trunk(grey_N1HW)
        with _full_precision(features_NKVU):
            return self.head(_pool(features_NKVU)), features_NKVU


class Regressor(nn.Module):
    """Crop and sex to years (Fig. 1 (b), section IV).

    The last layer predicts in units of ``spread_years`` around ``mean_years``, the
    training ages' standard deviation and mean, so the first step's answers are already
    near the cohort's mean and the learning rate means the same for every cohort.
    """

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights; ``bae.weights`` brings ImageNet's."""
        super().__init__()
        self.trunk = Trunk(config.trunk)
        self.sex = nn.Linear(1, config.sex_neurons) if config.use_sex else None
        inputs = self.trunk.channels + (config.sex_neurons if config.use_sex else 0)
        self.head = nn.Sequential(
            nn.Linear(inputs, config.hidden_neurons),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_neurons, config.hidden_neurons),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_neurons, 1),
        )
        self.register_buffer("mean_years", torch.tensor(60.0))
        self.register_buffer("spread_years", torch.tensor(10.0))
        self.mean_years: Tensor
        self.spread_years: Tensor

    def forward(self, crop_N1HW: Tensor, male_N: Tensor) -> Tensor:
        """Return predicted ages (N,) in years.

        Args:
            crop_N1HW: grey values in [0, 1].
            male_N: 0 female, 1 male; NaN where unknown: the mean of both answers.
        """
        features_NKVU = self.trunk(crop_N1HW)
        with _full_precision(features_NKVU):
            pooled_NK = _pool(features_NKVU)
            if not bool(torch.isnan(male_N).any()):
                return self._years(pooled_NK, male_N)
            female_N, other_N = torch.zeros_like(male_N), torch.ones_like(male_N)
            both_N = 0.5 * (self._years(pooled_NK, female_N) + self._years(pooled_NK, other_N))
            known_N = self._years(pooled_NK, male_N.nan_to_num())
            return torch.where(torch.isnan(male_N), both_N, known_N)

    def _years(self, pooled_NK: Tensor, male_N: Tensor) -> Tensor:
        inputs = pooled_NK
        if self.sex is not None:
            inputs = torch.cat([pooled_NK, self.sex(male_N[:, None].float())], dim=1)
        years: Tensor = self.mean_years + self.spread_years * self.head(inputs)[:, 0]
        return years


def _pool(features_NKVU: Tensor) -> Tensor:
    """Average over the map, in float32: bf16 sums would cost a tenth of a year."""
    return features_NKVU.float().mean(dim=(2, 3))


def _full_precision(like: Tensor) -> torch.autocast:
    """Turn autocast off for the small heads, where bf16 saves nothing and rounds the ages."""
    return torch.autocast(like.device.type, enabled=False)

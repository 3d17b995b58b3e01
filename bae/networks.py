"""The two networks of Fig. 1, and the trunks they stand on.

Shape suffixes: N views or crops, K channels, V rows, U columns of the last feature
map, H, W of the input, C age groups; of a head D neurons, B bins,
S thinned copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import (
    Inception_V3_Weights,
    ResNet50_Weights,
    VGG16_Weights,
    VGG19_Weights,
)
from torchvision.models.resnet import BasicBlock, ResNet

from bae import baselines, recipes
from bae.errors import RecipeError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TrunkKind:
    """How to build one feature extractor.

    Attributes:
        build: makes the network, without weights.
        cut: names of the children after the last convolution, taken off.
        channels: K of the last feature map.
        weights_url: ImageNet weights as torchvision (for Xception: timm) names them,
            the file's SHA-256 in its name; None where there are none.
        mean, std: what the weights expect the grey values to be normalised by.
    """

    build: Callable[[], nn.Module]
    cut: tuple[str, ...]
    channels: int
    weights_url: str | None = None
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
        build=baselines.resnet50,
        cut=("avgpool", "fc"),
        channels=2048,
        weights_url=ResNet50_Weights.IMAGENET1K_V1.url,
    ),
    "inception_v3": TrunkKind(
        build=lambda: torchvision.models.inception_v3(
            weights=None, aux_logits=False, init_weights=False
        ),
        cut=("avgpool", "dropout", "fc"),
        channels=2048,
        weights_url=Inception_V3_Weights.IMAGENET1K_V1.url,
        # the weights come from TensorFlow, which scales to [-1, 1]
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "resnet10": TrunkKind(build=_resnet10, cut=("avgpool", "fc"), channels=512),
    "vgg16": TrunkKind(
        build=baselines.vgg16,
        cut=("avgpool", "classifier"),
        channels=512,
        weights_url=VGG16_Weights.IMAGENET1K_V1.url,
    ),
    "vgg19": TrunkKind(
        build=baselines.vgg19,
        cut=("avgpool", "classifier"),
        channels=512,
        weights_url=VGG19_Weights.IMAGENET1K_V1.url,
    ),
    "xception": TrunkKind(
        build=baselines.xception,
        cut=("global_pool", "fc"),
        channels=2048,
        weights_url=(
            "https://github.com/rwightman/pytorch-image-models/releases/download/"
            "v0.1-cadene/xception-43020ad28.pth"
        ),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "small_vgg16": TrunkKind(
        build=lambda: baselines.small_vgg((1, 1, 1, 1, 1)), cut=(), channels=128
    ),
    "small_vgg19": TrunkKind(
        build=lambda: baselines.small_vgg((1, 1, 2, 2, 2)), cut=(), channels=128
    ),
    "small_resnet50": TrunkKind(
        build=baselines.small_resnet50, cut=("avgpool", "fc"), channels=2048
    ),
    "small_xception": TrunkKind(build=baselines.small_xception, cut=(), channels=256),
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


BINS = 121
"""One-year bins, ages 0 to 120, that the mean-variance loss spreads an age over."""


THINNED = 32
"""Thinned heads in a regressor's ensemble; the spread is then known to about 12 %."""


class Regressor(nn.Module):
    """Crop and sex to years (Fig. 1 (b), section IV); with options, Table 1's other methods.

    The last layer predicts in units of ``spread_years`` around ``mean_years``, the
    training ages' standard deviation and mean, so the first step's answers are already
    near the cohort's mean and the learning rate means the same for every cohort. With
    the mean-variance loss it scores ages of 0 to 120, and the answer is the expected one.
    """

    def __init__(self, config: recipes.Regressor) -> None:
        """Build with random weights."""
        super().__init__()
        self.trunk = Trunk(config.trunk)
        self.pair = config.pair
        self.sex = nn.Linear(1, config.sex_neurons) if config.use_sex else None
        inputs = self.trunk.channels * (2 if config.pair else 1)
        inputs += config.sex_neurons if config.use_sex else 0
        bins = 1 if config.loss == "squared" else BINS
        self.head = nn.Sequential(
            nn.Linear(inputs, config.hidden_neurons),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_neurons, config.hidden_neurons),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_neurons, bins),
        )
        self.register_buffer("mean_years", torch.tensor(60.0))
        self.register_buffer("spread_years", torch.tensor(10.0))
        masks = torch.rand(
            2, THINNED, config.hidden_neurons, generator=torch.Generator().manual_seed(0)
        )
        kept = (masks >= config.dropout) / (1 - config.dropout)
        self.register_buffer("kept", kept, persistent=False)
        self.mean_years: Tensor
        self.spread_years: Tensor
        self.kept: Tensor

    def forward(self, crop_N1HW: Tensor, male_N: Tensor, scores: bool = False) -> Tensor:
        """Return predicted ages (N,) in years.

        Args:
            crop_N1HW: grey values in [0, 1]; (N, 2, H, W) where both views enter together.
            male_N: 0 female, 1 male; NaN where unknown: the mean of both answers.
            scores: return the last layer (N, bins) instead, for a loss over bins.
        """
        return self.answer(self.pooled(crop_N1HW), male_N, scores)

    def pooled(self, crop_N1HW: Tensor) -> Tensor:
        """Return what the trunk sees, averaged over the map: (N, K), or (N, 2K) for a pair."""
        n = len(crop_N1HW)
        if self.pair:  # one trunk reads both
            crop_N1HW = crop_N1HW.flatten(0, 1)[:, None]
        features_NKVU = self.trunk(crop_N1HW)
        with _full_precision(features_NKVU):
            return _pool(features_NKVU).view(n, -1)

    def answer(self, pooled_NK: Tensor, male_N: Tensor, scores: bool = False) -> Tensor:
        """Return what ``forward`` does, from what ``pooled`` returned."""

        def ask(male_N: Tensor) -> Tensor:
            last_NB: Tensor = self.head(self._with_sex(pooled_NK, male_N))
            return last_NB if scores else self._years(last_NB)

        with _full_precision(pooled_NK):
            return _for_sex(ask, male_N, unknown_first=scores)

    def ensemble(self, pooled_NK: Tensor, male_N: Tensor) -> Tensor:
        """Return the ages (S, N) by S thinned heads: how sure the network is of its answer.

        Monte-Carlo dropout (Gal and Ghahramani 2016) through the head alone, with the same
        masks in every call, so that a scan's spread does not depend on its company.
        """
        first, relu, _, second, _, _, last = self.head

        def ask(male_N: Tensor) -> Tensor:
            hidden_ND = relu(first(self._with_sex(pooled_NK, male_N)))
            hidden_SND = relu(second(hidden_ND * self.kept[0][:, None]))
            return self._years(last(hidden_SND * self.kept[1][:, None]))

        with _full_precision(pooled_NK):
            return _for_sex(ask, male_N)

    def _with_sex(self, pooled_NK: Tensor, male_N: Tensor) -> Tensor:
        if self.sex is None:
            return pooled_NK
        return torch.cat([pooled_NK, self.sex(male_N[:, None].float())], dim=1)

    def _years(self, last_B: Tensor) -> Tensor:
        """Turn the last layer's (..., bins) into years."""
        if last_B.shape[-1] == 1:
            return self.mean_years + self.spread_years * last_B[..., 0]
        return last_B.softmax(dim=-1) @ torch.arange(BINS, device=last_B.device).float()


def _for_sex(
    ask: Callable[[Tensor], Tensor], male_N: Tensor, unknown_first: bool = False
) -> Tensor:
    """Ask for each scan's sex; where it is unknown, take the mean of both answers.

    Args:
        ask: sex to answers (..., N), or (N, ...) with ``unknown_first``.
        male_N: 0, 1 or NaN.
        unknown_first: where the scans are counted.
    """
    unknown_N = torch.isnan(male_N)
    if not bool(unknown_N.any()):
        return ask(male_N)
    both = 0.5 * (ask(torch.zeros_like(male_N)) + ask(torch.ones_like(male_N)))
    known = ask(male_N.nan_to_num())
    return torch.where(unknown_N[:, None] if unknown_first else unknown_N, both, known)


def _pool(features_NKVU: Tensor) -> Tensor:
    """Average over the map, in float32: bf16 sums would cost a tenth of a year."""
    return features_NKVU.float().mean(dim=(2, 3))


def _full_precision(like: Tensor) -> torch.autocast:
    """Turn autocast off for the small heads, where bf16 saves nothing and rounds the ages."""
    return torch.autocast(like.device.type, enabled=False)

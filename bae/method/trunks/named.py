"""Trunks of the methods that the paper names beside its own, where no package has them.

Full size: LeNet-5 and BoNet. At a size for CPUs: AlexNet's and GoogLeNet's plans at a quarter of
the width, with batch norm where the plan has none (see ``kinds``). Sources and departures:
``bae/method/PAPER.md``.

Shape suffixes: N views or crops, F channels, V rows, U columns of a feature map.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchvision.models.googlenet import BasicConv2d, Inception


def lenet5() -> nn.Module:
    """Build LeNet-5's layers C1 to C5 (LeCun et al. 1998, section II.B); F6 is the head's.

    Of 32 x 32 pixels C5 makes one cell. Subsampling is a mean without weights of its own.
    """
    return nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(3, 6, 5),
            tanh1=nn.Tanh(),
            s2=nn.AvgPool2d(2),
            c3=nn.Conv2d(6, 16, 5),
            tanh3=nn.Tanh(),
            s4=nn.AvgPool2d(2),
            c5=nn.Conv2d(16, 120, 5),
            tanh5=nn.Tanh(),
        )
    )


def _stage(
    inputs: int, outputs: int, kernel: int, stride: int, *then: nn.Module
) -> list[nn.Module]:
    """Return a convolution that keeps the size but for its stride, and what follows it."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), *then]


def _halved() -> nn.Module:
    return nn.MaxPool2d(3, 2, 1)


def small_alexnet() -> nn.Module:
    """Build AlexNet's five convolutions and three poolings at a quarter of the width."""
    layers = [
        *_stage(3, 16, 11, 4, _halved()),
        *_stage(16, 48, 5, 1, _halved()),
        *_stage(48, 96, 3, 1),
        *_stage(96, 64, 3, 1),
        *_stage(64, 64, 3, 1, _halved()),
    ]
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers)))


def small_googlenet() -> nn.Module:
    """Build GoogLeNet's stem and four of its nine Inception blocks at a quarter of the width."""
    return nn.Sequential(
        OrderedDict(
            conv1=BasicConv2d(3, 16, kernel_size=7, stride=2, padding=3),
            maxpool1=_halved(),
            conv2=BasicConv2d(16, 16, kernel_size=1),
            conv3=BasicConv2d(16, 48, kernel_size=3, padding=1),
            maxpool2=_halved(),
            inception3a=Inception(48, 16, 24, 32, 4, 8, 8),
            maxpool3=_halved(),
            inception4a=Inception(64, 48, 24, 52, 4, 12, 16),
            inception4d=Inception(128, 28, 36, 72, 8, 16, 16),
            maxpool4=_halved(),
            inception5b=Inception(132, 96, 48, 96, 12, 32, 32),
        )
    )


def bonet(widths: Sequence[int], stride: int = 4) -> nn.Module:
    """Build BoNet's five convolutions and its deformation layer (Spampinato et al. 2017).

    Args:
        widths: of the five; they, kernels and strides are those of OverFeat's fast network
            (Sermanet et al. 2014, Table 1).
        stride: of the first convolution.
    """
    one, two, three, four, five = widths
    layers = [
        *_stage(3, one, 11, stride, _halved()),
        *_stage(one, two, 5, 1, _halved()),
        *_stage(two, three, 3, 1),
        *_stage(three, four, 3, 1),
        *_stage(four, five, 3, 1, _halved()),
    ]
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), deform=Deformation(five)))


class Deformation(nn.Module):
    """A spatial transformer on feature maps (Jaderberg et al. 2015, section 3): starts as nothing.

    A small network reads the map on a coarse grid and says which part of it, turned, stretched
    or sheared, takes the place of the whole.
    """

    GRID = (8, 4)
    """Rows and columns of what the small network reads: about as long as a body is wide."""
    NEURONS = 32

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Linear(self.NEURONS, 6)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        cells = self.GRID[0] * self.GRID[1]
        self.change = nn.Sequential(
            nn.AdaptiveAvgPool2d(self.GRID),
            nn.Flatten(),
            nn.Linear(channels * cells, self.NEURONS),
            nn.ReLU(),
            last,
        )

    def forward(self, features_NFVU: Tensor) -> Tensor:
        """Return the features, deformed: (N, F, V, U)."""
        # float: its linear layers stay float32 where the convolutions are bf16
        return _sampled(features_NFVU, self.change(features_NFVU.float()))


def affine(change_N6: Tensor) -> Tensor:
    """Return (N, 2, 3) affine maps, from places in the result to places that are read.

    As ``torch.nn.functional.affine_grid`` takes them: both axes are 2 long. The network says how
    they differ from the identity, so that bf16 rounds a small difference and not the ones.
    """
    return change_N6.float().view(-1, 2, 3) + torch.eye(2, 3, device=change_N6.device)


def _sampled(features_NFVU: Tensor, change_N6: Tensor) -> Tensor:
    """Sample a map where an affine map says: bilinear, zero outside, in float32."""
    with torch.autocast(features_NFVU.device.type, enabled=False):
        grid = F.affine_grid(affine(change_N6), list(features_NFVU.shape), align_corners=False)
        read = F.grid_sample(features_NFVU.float(), grid, align_corners=False)
    return read.to(features_NFVU.dtype)


fx.wrap("_sampled")  # ``fused`` traces trunks: the size of a map is not known then

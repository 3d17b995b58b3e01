"""The trunks of Table 1's other methods, at full size and at a size for CPUs.

At full size they are torchvision's and timm's own networks. The small ones keep the
plan of each (stages, blocks, where it halves) at a quarter of the width and a
shorter depth; plain VGG stages get batch norm there, without which so short a
training from random weights does not leave the mean.
"""

from __future__ import annotations

from collections import OrderedDict

import torchvision
from timm.models.xception import Block, Xception
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import make_layers


def vgg16() -> nn.Module:
    """Build the trunk of the multiple-input network (Nguyen et al. 2019)."""
    network: nn.Module = torchvision.models.vgg16(weights=None)
    return network


def vgg19() -> nn.Module:
    """Build VGG19 (Simonyan and Zisserman 2015)."""
    network: nn.Module = torchvision.models.vgg19(weights=None)
    return network


def resnet50() -> nn.Module:
    """Build ResNet50 (He et al. 2016)."""
    network: nn.Module = torchvision.models.resnet50(weights=None)
    return network


def xception() -> nn.Module:
    """Build Xception (Chollet 2017) as timm has it, its batch norms and order unchanged."""
    network: nn.Module = Xception(num_classes=1)
    return network


def small_vgg(convolutions: tuple[int, ...]) -> nn.Module:
    """Build VGG's five stages at a quarter of the width.

    Args:
        convolutions: how many in each stage.
    """
    widths = (16, 32, 64, 128, 128)
    plan: list[str | int] = []
    for width, count in zip(widths, convolutions, strict=True):
        plan += [width] * count + ["M"]
    return nn.Sequential(OrderedDict(features=make_layers(plan, batch_norm=True)))


def small_resnet50() -> nn.Module:
    """Build ResNet50's four stages with one bottleneck block each, a quarter as wide inside."""
    network: nn.Module = ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=16)
    return network


def small_xception() -> nn.Module:
    """Build Xception's entry, middle (one block of eight) and exit flow at a quarter width."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, 2, 1, bias=False),
            bn1=nn.BatchNorm2d(16),
            act1=nn.ReLU(inplace=True),
            block1=Block(16, 32, 2, 2, start_with_relu=False),
            block2=Block(32, 64, 2, 2),
            block3=Block(64, 182, 2, 2),
            block4=Block(182, 182, 3, 1),
            block12=Block(182, 256, 2, 2, grow_first=False),
            act4=nn.ReLU(inplace=True),
        )
    )

"""The networks that turn grey pixels into feature maps, at full size and at a size for CPUs.

At full size they are torchvision's and timm's own networks. The small ones keep the
plan of each (stages, blocks, where it halves) at a quarter of the width and a
shorter depth; plain VGG stages get batch norm there, without which so short a
training from random weights does not leave the mean.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.models.efficientnet import tf_efficientnet_lite0
from timm.models.xception import Block, Xception
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import (
    AlexNet_Weights,
    GoogLeNet_Weights,
    Inception_V3_Weights,
    ResNet50_Weights,
    VGG16_Weights,
    VGG19_Weights,
)
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import make_layers

from bae import overrides
from bae.errors import RecipeError
from bae.method.trunks import named


def _small_vgg(convolutions: tuple[int, ...]) -> nn.Module:
    """Build VGG's five stages at a quarter of the width, with so many convolutions in each."""
    plan: list[str | int] = []
    for width, count in zip((16, 32, 64, 128, 128), convolutions, strict=True):
        plan += [width] * count + ["M"]
    return nn.Sequential(OrderedDict(features=make_layers(plan, batch_norm=True)))


def _small_xception() -> nn.Module:
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


def _resnet10() -> ResNet:
    """Build a ResNet of ten layers whose last stage keeps its size: a map with stride 16.

    With stride 32 the map of a 96 x 320 input would be 3 x 10 cells, too coarse for a region.
    """
    network = ResNet(BasicBlock, [1, 1, 1, 1])
    block = network.layer4[0]
    block.conv1.stride = block.downsample[0].stride = (1, 1)
    return network


def _small_resnet10() -> nn.Module:
    """Build ResNet10 for pictures of 64 x 64 at a quarter of the width: no pooling at the start."""

    def stage(inputs: int, outputs: int, stride: int) -> nn.Module:
        short = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
        block: nn.Module = BasicBlock(inputs, outputs, stride, None if stride == 1 else short)
        return block

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 5, 2, 2, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(inplace=True),
            layer1=stage(16, 16, 1),
            layer2=stage(16, 32, 2),
            layer3=stage(32, 64, 2),
            layer4=stage(64, 128, 2),
        )
    )


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TrunkKind:
    """How to build one feature extractor.

    Attributes:
        build: makes the network, without weights.
        cut: names of the children after the last convolution, taken off.
        channels: F of the last feature map.
        weights_url: ImageNet weights as torchvision (for Xception: timm) names them,
            the file's SHA-256 in its name; None where there are none, or where a package
            carries them (``bae.method.trunks.weights.PACKAGED``).
        mean, std: what the weights expect the grey values to be normalised by.
        taps: names and channels of the children whose maps an auxiliary head reads in training
            (``bae.method.baselines.auxiliary``).
    """

    build: Callable[[], nn.Module]
    cut: tuple[str, ...]
    channels: int
    weights_url: str | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    taps: tuple[tuple[str, int], ...] = ()


_HALVES = (0.5, 0.5, 0.5)
"""Weights that come from TensorFlow (and, through torchvision's ``transform_input``, GoogLeNet's)
expect greys scaled to [-1, 1]."""

TRUNKS: dict[str, TrunkKind] = {
    "resnet50": TrunkKind(
        models.resnet50, ("avgpool", "fc"), 2048, ResNet50_Weights.IMAGENET1K_V1.url
    ),
    "inception_v3": TrunkKind(
        partial(models.inception_v3, aux_logits=False, init_weights=False),
        ("avgpool", "dropout", "fc"),
        2048,
        Inception_V3_Weights.IMAGENET1K_V1.url,
        mean=_HALVES,
        std=_HALVES,
    ),
    "resnet10": TrunkKind(_resnet10, ("avgpool", "fc"), 512),
    "vgg16": TrunkKind(
        models.vgg16, ("avgpool", "classifier"), 512, VGG16_Weights.IMAGENET1K_V1.url
    ),
    "vgg19": TrunkKind(
        models.vgg19, ("avgpool", "classifier"), 512, VGG19_Weights.IMAGENET1K_V1.url
    ),
    # timm's, its batch norms and order unchanged
    "xception": TrunkKind(
        partial(Xception, num_classes=1),
        ("global_pool", "fc"),
        2048,
        "https://github.com/rwightman/pytorch-image-models/releases/download/"
        "v0.1-cadene/xception-43020ad28.pth",
        mean=_HALVES,
        std=_HALVES,
    ),
    # made for phones: ReLU6, no squeeze and excitation, TensorFlow's padding; timm's unchanged
    "efficientnet_lite0": TrunkKind(
        tf_efficientnet_lite0, ("global_pool", "classifier"), 1280, mean=_HALVES, std=_HALVES
    ),
    "alexnet": TrunkKind(
        models.alexnet, ("avgpool", "classifier"), 256, AlexNet_Weights.IMAGENET1K_V1.url
    ),
    "googlenet": TrunkKind(
        partial(models.googlenet, aux_logits=False, init_weights=False),
        ("avgpool", "dropout", "fc"),
        1024,
        GoogLeNet_Weights.IMAGENET1K_V1.url,
        mean=_HALVES,
        std=_HALVES,
        taps=(("inception4a", 512), ("inception4d", 528)),
    ),
    "lenet5": TrunkKind(named.lenet5, (), 120),
    "bonet": TrunkKind(lambda: named.bonet((96, 256, 512, 1024, 1024)), (), 1024),
    "small_vgg16": TrunkKind(lambda: _small_vgg((1, 1, 1, 1, 1)), (), 128),
    "small_vgg19": TrunkKind(lambda: _small_vgg((1, 1, 2, 2, 2)), (), 128),
    # ResNet50's four stages with one bottleneck block each, a quarter as wide inside
    "small_resnet50": TrunkKind(
        lambda: ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=16), ("avgpool", "fc"), 2048
    ),
    "small_xception": TrunkKind(_small_xception, (), 256),
    "small_resnet10": TrunkKind(_small_resnet10, (), 128),
    "small_alexnet": TrunkKind(named.small_alexnet, (), 64),
    "small_googlenet": TrunkKind(
        named.small_googlenet,
        (),
        256,
        mean=_HALVES,
        std=_HALVES,
        taps=(("inception4a", 128), ("inception4d", 132)),
    ),
    "small_bonet": TrunkKind(lambda: named.bonet((24, 64, 128, 128, 128), 2), (), 128),
}


class Trunk(nn.Module):
    """Grey picture to feature maps: a published network up to its last convolution."""

    def __init__(self, name: str) -> None:
        """Build the trunk with random weights.

        Raises:
            RecipeError: no such trunk.
        """
        super().__init__()
        if name not in TRUNKS:
            raise RecipeError(f"unknown trunk {name!r}; {overrides.suggestion(name, TRUNKS)}")
        kind = TRUNKS[name]
        # children keep torchvision's or timm's names, so weight files fit without renaming
        children = kind.build().named_children()
        self.body = nn.Sequential(OrderedDict((n, c) for n, c in children if n not in kind.cut))
        self.channels = kind.channels
        self.register_buffer("mean", torch.tensor(kind.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(kind.std).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, grey_N1HW: Tensor) -> Tensor:
        """Return features (N, F, V, U) of grey values in [0, 1]."""
        features: Tensor = self.body((grey_N1HW - self.mean) / self.std)
        return features


def plain(body: nn.Module) -> nn.Module:
    """Return a copy of a trunk's body whose layers are all torch's own, for who rewrites it.

    timm keeps a batch norm and its activation in one layer, and pads inside a convolution by
    a size that ``torch.fx`` cannot trace; both are taken apart here. The names of the tensors
    change, so what is trained and stored stays timm's.
    """
    body = copy.deepcopy(body)
    for parent in list(body.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, BatchNormAct2d):
                norm = nn.BatchNorm2d(layer.num_features, layer.eps).to(layer.weight.device)
                norm.load_state_dict(layer.state_dict())
                setattr(parent, name, nn.Sequential(norm.train(layer.training), layer.act))
            elif isinstance(layer, Conv2dSame):
                unpadded = nn.Conv2d(1, 1, 1)
                unpadded.__dict__ = {**layer.__dict__, "padding": (0, 0)}
                setattr(parent, name, nn.Sequential(_SamePadding(layer), unpadded))
    return body


class _SamePadding(nn.Module):
    """TensorFlow's zeros round a picture: ceil(n / s) cells are left, an odd zero comes last."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        (kernel, other), (stride, _) = layer.kernel_size, layer.stride
        assert kernel == other >= stride and layer.dilation == (1, 1)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the padded picture; plain sums, which can be traced for any size."""
        rows = self.kernel - self.stride + -x.shape[-2] % self.stride
        columns = self.kernel - self.stride + -x.shape[-1] % self.stride
        return F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])

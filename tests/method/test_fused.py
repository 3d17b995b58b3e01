"""The fast form of a trunk gives what the trunk gives."""

import logging

import pytest
import torch
from torch import nn

from bae import recipes
from bae.method import fused
from bae.method.networks import Localizer
from bae.method.trunks import TRUNKS, Trunk

SIZES = {"inception_v3": (160, 128), "xception": (128, 96)}


def _lived_in(network: nn.Module) -> None:
    """Give batch norms other statistics than those they are born with."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.3, 0.3, generator=generator)
            layer.running_var.uniform_(0.6, 1.4, generator=generator)
            layer.weight.data.uniform_(0.7, 1.3, generator=generator)
            layer.bias.data.uniform_(-0.3, 0.3, generator=generator)


def _trunk(name: str) -> Trunk:
    torch.manual_seed(0)
    trunk = Trunk(name).eval().requires_grad_(False)
    _lived_in(trunk)
    return trunk


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_fast_trunk_equals_the_trunk_also_at_the_border(name: str) -> None:
    """Folding, fusing and one grey channel change float32 features by rounding alone."""
    trunk = _trunk(name)
    grey = torch.rand(2, 1, *SIZES.get(name, (96, 64)))
    with torch.inference_mode():
        expected, got = trunk(grey), fused.FusedTrunk(trunk, torch.float32)(grey)
        largest = expected.abs().amax()
        assert ((got - expected).abs().amax(dim=(0, 1)) / largest).max() < 1e-4


def test_rounded_filters_keep_their_sums() -> None:
    """A filter's rounding error is that of its last weight; rounding each adds them up."""
    weight = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(0)) / 16
    rounded = fused._rounded(weight, torch.bfloat16)
    last = weight.abs().amax() * 2.0**-8
    assert (rounded.double() - weight).sum(dim=(1, 2, 3)).abs().amax() <= last
    assert (weight.bfloat16().double() - weight).sum(dim=(1, 2, 3)).abs().amax() > last
    assert ((rounded.float() - weight).abs() <= 3 * last).all()
    assert fused._rounded(weight, torch.float32) is weight


def test_bf16_convolution_keeps_the_mean_of_what_it_gives() -> None:
    """On positive pictures, as ReLU leaves them; bias included, which is not rounded."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(64, 32, 3).requires_grad_(False)
    layer.weight.normal_(0, 1 / 24, generator=generator)
    layer.bias = nn.Parameter(torch.randn(32, generator=generator), requires_grad=False)
    x = torch.rand(4, 64, 40, 40, generator=generator).bfloat16()
    ours = fused._Convolution(layer, False, torch.bfloat16)
    with torch.inference_mode():
        expected = layer(x.float())
        got = ours.run(fused._Kernels(None, torch.float32), x, None).float()
        each = nn.functional.conv2d(x.float(), layer.weight.bfloat16().float(), layer.bias)
        error, of_rounding_each = (
            (y - expected).mean(dim=(0, 2, 3)).square().mean().sqrt() for y in (got, each)
        )
    assert error < of_rounding_each / 4


def test_without_fused_kernels_plain_ones_are_used_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """torch promises nothing about these operators: what gives other numbers is not used."""
    trunk, grey = _trunk("resnet10"), torch.rand(1, 1, 96, 64)
    with torch.inference_mode():
        expected = fused.FusedTrunk(trunk, torch.float32)(grey)
    fused._fused_kernels.cache_clear()
    monkeypatch.setattr(fused._Convolution, "_onednn", lambda self, x, bias, residual: x * 0)
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        got = [fused.FusedTrunk(trunk, torch.float32)(grey) for _ in range(2)]
    fused._fused_kernels.cache_clear()
    torch.testing.assert_close(got[0], expected, rtol=1e-4, atol=1e-4)
    assert len(caplog.messages) == 1


def test_fast_network_leaves_the_network_as_it_was() -> None:
    """The plain one can still be looked into, layer by layer."""
    network = Localizer(recipes.small().localizer).eval()
    names = list(network.state_dict())
    quick = fused.fast(network, "float32")
    assert list(network.state_dict()) == names
    assert quick.head is network.head
    grey = torch.rand(3, 1, 96, 64)
    with torch.inference_mode():
        torch.testing.assert_close(quick(grey)[0], network(grey)[0], rtol=1e-4, atol=1e-4)

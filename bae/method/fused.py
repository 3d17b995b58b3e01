"""A trunk as the hardware runs it fastest: few large steps, 16-bit numbers, nothing compiled.

The same function as ``trunks.Trunk``, rewritten once when a model is loaded:

- each batch norm is folded into the convolution before it, each ReLU and each addition of a
  residual block is done by the convolution that it follows, in the same pass over memory
  (oneDNN's and cuDNN's fused kernels: what inductor chooses too, without its compiler);
- the grey picture stays grey: normalising and repeating it three times is folded into the
  first convolution (``_grey_first``), exactly, also at the zero-padded border;
- weights lie in the layout that the CPU's kernels read.

So there is nothing to compile, to store beside the model or to trust: a model stays two
safetensors files. Measured against inductor in ``bae/method/NOTES.md``, "Fast".

Shape suffixes: N views or crops, F channels, V, U rows and columns of the last feature map,
H, W of the input.
"""

from __future__ import annotations

import copy
import functools
import logging
import operator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse as fold_batch_norms
from torch.nn import functional as F

from bae.method import hardware
from bae.method.trunks import Trunk, plain

log = logging.getLogger(__name__)

N = TypeVar("N", bound=nn.Module)

PIXELS_AT_ONCE = 600_000
"""Two localizer inputs or six crops: their feature maps fit into a CPU's caches (2 views
0.115 s of CPU each, 8 views 0.125 s); a GPU takes all at once."""

LARGE_PARAMETERS = 10_000_000
"""From here on a network runs in bf16; one of ``small``'s costs no more than reading a scan."""

_ADD = (operator.add, operator.iadd, torch.add)
_RELU = (F.relu, torch.relu, torch.relu_)


def fast(network: N, precision: str | None = None) -> N:
    """Return a network that gives the same answers sooner and cannot be trained.

    Each of its trunks is a ``FusedTrunk``; it shares the rest, such as heads, which stay float32.

    Args:
        network: in evaluation mode, on its device.
        precision: of the trunks, ``bfloat16`` or ``float32``; by default the former for a
            large trunk where the hardware multiplies it faster.
    """
    quick = copy.copy(network)
    quick._modules = {name: _fast(child, precision) for name, child in network._modules.items()}
    return quick


def _fast(child: nn.Module | None, precision: str | None) -> nn.Module | None:
    if child is None or not any(isinstance(module, Trunk) for module in child.modules()):
        return child
    if not isinstance(child, Trunk):
        return fast(child, precision)
    weights = list(child.parameters())
    large = sum(weight.numel() for weight in weights) >= LARGE_PARAMETERS
    can = large and hardware.has_bf16(weights[0].device.type)
    half = can if precision is None else precision == "bfloat16"
    return FusedTrunk(child, torch.bfloat16 if half else torch.float32)


class FusedTrunk(nn.Module):
    """Grey picture to feature maps, as ``Trunk`` does; for inference only."""

    def __init__(self, trunk: Trunk, dtype: torch.dtype) -> None:
        """Rewrite a trunk; its device stays.

        Args:
            trunk: in evaluation mode; its weights are copied, not changed.
            dtype: ``bfloat16`` or ``float32``, of weights and feature maps.
        """
        super().__init__()
        self.channels, self.dtype = trunk.channels, dtype
        with torch.no_grad():
            body = fold_batch_norms(fx.symbolic_trace(plain(trunk.body)))
            assert isinstance(body, fx.GraphModule)
            _grey_first(body, trunk, dtype)
            _fuse_convolutions(body, dtype)
        self.body = body.eval().requires_grad_(False)

    def forward(self, grey_N1HW: Tensor) -> Tensor:
        """Return features (N, F, V, U) of grey values in [0, 1]."""
        device = grey_N1HW.device.type
        with torch.autocast(device, enabled=False), torch.inference_mode():
            input_NFHW = self._input(grey_N1HW).contiguous(memory_format=torch.channels_last)
            few = max(1, PIXELS_AT_ONCE // grey_N1HW[0].numel())
            at_once = len(grey_N1HW) if device == "cuda" else few
            features = [self.body(part) for part in torch.split(input_NFHW, at_once)]
            return features[0] if len(features) == 1 else torch.cat(features)

    def _input(self, grey_N1HW: Tensor) -> Tensor:
        """Return what ``_grey_first`` lets the first convolution read."""
        high = grey_N1HW.to(self.dtype)
        ones = torch.ones_like(high)
        if self.dtype == torch.float32:
            return torch.cat([high, ones], dim=1)
        low = (grey_N1HW.float() - high.float()).to(self.dtype)
        return torch.cat([high, low, high, ones, ones], dim=1)


def _grey_first(body: fx.GraphModule, trunk: Trunk, dtype: torch.dtype) -> None:
    """Let the first convolution read (grey, 1) in place of three normalised channels.

    With weights w_c, mean m_c and deviation s_c of channel c, the sum over c of
    w_c (g - m_c) / s_c is (sum w_c / s_c) g - (sum w_c m_c / s_c) 1. The ones are a channel
    and not a bias, because the zero padding lies outside them as it lies outside the
    normalised picture: the border comes out exact too.

    In bf16, whose numbers have three digits, both terms nearly cancel, and what rounding
    does to them is the same in every pixel: it moved ages by 0.04 years. Numbers of two
    parts, a = A + a and w = W + w, cure it: W A + W a + w A, so five channels are read.
    """
    name = next(str(node.target) for node in body.graph.nodes if node.op == "call_module")
    first = body.get_submodule(name)
    assert isinstance(first, nn.Conv2d) and first.in_channels == 3 and first.groups == 1
    by_deviation = first.weight / trunk.std
    grey, ones = by_deviation.sum(1), -(by_deviation * trunk.mean).sum(1)
    high = [weight.to(dtype).to(weight.dtype) for weight in (grey, ones)]
    parts = [grey, ones]
    if dtype != torch.float32:
        parts = [high[0], high[0], grey - high[0], high[1], ones - high[1]]
    first.weight = nn.Parameter(torch.stack(parts, dim=1))
    first.in_channels = len(parts)


def _fuse_convolutions(body: fx.GraphModule, dtype: torch.dtype) -> None:
    """Replace each convolution, and what follows it at once, by one ``_Convolution``."""
    for node in list(body.graph.nodes):
        layer = body.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, nn.Conv2d):
            continue
        last, residual = node, None
        after = _only_user(node)
        if after is not None and _is_relu(body, after):
            last = after
        elif after is not None and after.op == "call_function" and after.target in _ADD:
            other = after.args[0] if after.args[1] is node else after.args[1]
            relu = _only_user(after)
            if relu is not None and _is_relu(body, relu) and _may_overwrite(body, other, after):
                last, residual = relu, other
        name = str(node.target).replace(".", "_") + "_fused"
        body.add_submodule(name, _Convolution(layer, last is not node, dtype))
        with body.graph.inserting_before(last):
            arguments = (node.args[0],) if residual is None else (node.args[0], residual)
            made = body.graph.call_module(name, arguments)
        last.replace_all_uses_with(made)
    body.graph.eliminate_dead_code()
    body.delete_all_unused_submodules()
    body.recompile()


def _may_overwrite(body: fx.GraphModule, residual: object, addition: fx.Node) -> bool:
    """Say whether a residual is a tensor of its own that nobody reads after the addition."""
    if not isinstance(residual, fx.Node) or residual.op != "call_module":
        return False
    made_by = body.get_submodule(str(residual.target))
    own = isinstance(made_by, _Convolution | nn.Conv2d | nn.MaxPool2d)
    return own and not any(addition < user for user in residual.users)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_relu(body: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(body.get_submodule(str(node.target)), nn.ReLU)
    return node.op == "call_function" and node.target in _RELU


class _Convolution(nn.Module):
    """Convolution, then the residual's addition and ReLU where they follow, in one kernel."""

    def __init__(self, layer: nn.Conv2d, relu: bool, dtype: torch.dtype) -> None:
        super().__init__()
        assert not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
        weight = layer.weight.detach()
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        rounded = _rounded(weight, dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", rounded)
        self.register_buffer("bias", bias)  # float32: rounding it is seen in every pixel
        self.weight: Tensor
        self.bias: Tensor
        self.stride, self.padding = list(layer.stride), list(layer.padding)
        self.dilation, self.groups = list(layer.dilation), layer.groups
        self.relu = relu
        self.packed: Tensor | None = None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.run(_fused_kernels(x.device.type, x.dtype), x, residual)

    def run(self, kernels: _Kernels, x: Tensor, residual: Tensor | None) -> Tensor:
        """Convolve with the kernels of a library; None: one plain step after the other."""
        bias = self.bias.to(kernels.bias)
        if kernels.library == "onednn":
            return self._onednn(x, bias, residual)
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        if kernels.library == "cudnn" and self.relu and self.groups == 1:
            if residual is None:
                return torch.cudnn_convolution_relu(x, self.weight, bias, *geometry)
            return torch.cudnn_convolution_add_relu(x, self.weight, residual, 1.0, bias, *geometry)
        # a CPU has nothing to win from 16 bits here; in float32 a result is rounded once
        dtype = x.dtype if x.is_cuda else torch.float32
        y = F.conv2d(x.to(dtype), self.weight.to(dtype), bias.to(dtype), *geometry)
        if residual is not None:
            y += residual
        return (y.relu_() if self.relu else y).to(x.dtype)

    def _onednn(self, x: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
        mkldnn = torch.ops.mkldnn
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        if self.packed is None:  # the layout that the kernels read depends on the input's size
            self.packed = mkldnn._reorder_convolution_weight(self.weight, *geometry, [*x.shape])
        made: Tensor
        if residual is None:
            then = "relu" if self.relu else "none"
            made = mkldnn._convolution_pointwise(x, self.packed, bias, *geometry, then, [], None)
        else:  # written over the residual
            made = mkldnn._convolution_pointwise_.binary(
                residual, x, self.packed, bias, *geometry, "add", 1.0, "relu", [], None
            )
        return made


def _rounded(weight_OKHW: Tensor, dtype: torch.dtype) -> Tensor:
    """Round weights so that each filter keeps its sum: an error is handed to the next weight.

    What a filter reads behind a ReLU is positive and much alike from pixel to pixel, so that
    the errors of its weights add up in every pixel the same, and move every age one way: they
    did more harm than rounding all feature maps (``bae/method/NOTES.md``). Handed on, as grey
    values are in dithering (Floyd and Steinberg, 1976), they cancel. Costs a second a model.
    """
    if weight_OKHW.dtype == dtype:
        return weight_OKHW
    columns = weight_OKHW.flatten(1).T.contiguous()
    rounded = torch.empty_like(columns, dtype=dtype)
    left_over = torch.zeros_like(columns[0])
    for column, into in zip(columns, rounded, strict=True):
        wanted = column + left_over
        into.copy_(wanted)
        left_over = wanted - into
    return rounded.T.reshape(weight_OKHW.shape)


class _Kernels(NamedTuple):
    """Whose convolutions to call, None for plain ones; and the numbers that biases have there."""

    library: str | None
    bias: torch.dtype


@functools.cache
def _fused_kernels(device: str, dtype: torch.dtype) -> _Kernels:
    """Choose the kernels that work here; they are asked once.

    torch keeps these operators for its own compilers and promises nothing about them, so
    they must first give what plain convolutions give; else one log line says so.
    """
    library = {"cpu": "onednn", "cuda": "cudnn"}.get(device)
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1)
    layer.weight.data = torch.randn(8, 8, 3, 3, generator=generator) / 8
    x, residual = (
        torch.randn(2, 8, 9, 7, generator=generator)
        .to(device, dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    fused = _Convolution(layer, True, dtype).to(device)
    plain = _Kernels(None, torch.float32)
    why = ""
    for bias in dict.fromkeys((torch.float32, dtype)):
        kernels = _Kernels(library, bias)
        try:
            with torch.inference_mode():
                for other in (None, residual):
                    expected, got = (
                        fused.run(kind, x, None if other is None else other.clone()).float()
                        for kind in (plain, kernels)
                    )
                    torch.testing.assert_close(got, expected, rtol=0.03, atol=0.03)
            return kernels
        except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
            why = str(error).partition("\n")[0]
    log.warning(
        "no fused convolutions on this %s (%s): plain ones are used, which is slower", device, why
    )
    return plain

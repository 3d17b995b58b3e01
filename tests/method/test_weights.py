"""ImageNet weights from torchvision's own files, and from a package."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch.nn import functional as F

from bae.errors import ModelError
from bae.method import trunks
from bae.method.trunks import kinds, weights

LITE = "efficientnet_lite0"

BUILD = {
    "resnet50": lambda: torchvision.models.resnet50(weights=None),
    "inception_v3": lambda: torchvision.models.inception_v3(weights=None, init_weights=False),
    "googlenet": lambda: torchvision.models.googlenet(aux_logits=True, init_weights=False),
    "xception": lambda: timm.create_model("legacy_xception", pretrained=False),
}


def _mirror(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Write a file as torchvision would have it, named by its own hash."""
    torch.manual_seed(5)
    state = BUILD[name]().state_dict()
    plain = folder / "plain.pth"
    torch.save(state, plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()[:8]
    plain.rename(folder / f"{name}-{digest}.pth")
    url = f"https://example.org/models/{name}-{digest}.pth"
    monkeypatch.setitem(trunks.TRUNKS, name, replace(trunks.TRUNKS[name], weights_url=url))
    return state


@pytest.mark.parametrize("name", sorted(BUILD))
def test_every_tensor_is_loaded_except_those_of_the_replaced_heads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the file's tensors, less classifier and auxiliary classifier."""
    state = _mirror(tmp_path, name, monkeypatch)
    trunk = trunks.Trunk(name)
    read = weights.imagenet(name, "imagenet", str(tmp_path))
    assert read is not None
    weights.fill(trunk, name, read)
    got = trunk.state_dict()
    heads = ("fc.", "AuxLogits.", "aux1.", "aux2.")
    expected = {k: v for k, v in state.items() if not k.startswith(heads)}
    assert {f"body.{k}" for k in expected} == set(got)
    assert all(torch.equal(got[f"body.{k}"], v) for k, v in expected.items())


def test_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash in the name does not fit any more, and nothing is unpickled."""
    _mirror(tmp_path, "resnet50", monkeypatch)
    (file,) = tmp_path.glob("*.pth")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        weights.imagenet("resnet50", "imagenet", str(tmp_path))


def test_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    """Name, source, and the way out; never a silent random start."""
    with pytest.raises(ModelError, match=r"resnet50-.*--weights none"):
        weights.imagenet("resnet50", "imagenet", str(tmp_path))


def test_no_network_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sentence where neither cache nor network has the file."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(ModelError, match="cannot be downloaded"):
        weights.imagenet("inception_v3", "imagenet")


@pytest.mark.parametrize(("wanted", "mirror"), [("none", None), ("imagenet", "none")])
def test_random_start_is_asked_for_in_words(wanted: str, mirror: str | None) -> None:
    """By the recipe or by the flag."""
    assert weights.imagenet("resnet50", wanted, mirror) is None


def test_trunk_without_imagenet_weights_is_refused() -> None:
    """resnet10 has none: not a silent random start."""
    with pytest.raises(ModelError, match="no ImageNet weights"):
        weights.imagenet("resnet10", "imagenet")


# ---- weights out of a package ---------------------------------------------------------------


@pytest.fixture(scope="module")
def lite() -> dict[str, torch.Tensor]:
    """The package's weights under timm's names."""
    state = weights.imagenet(LITE, "imagenet")
    assert state is not None
    return state


def test_the_packages_weights_fill_timms_network_to_the_last_tensor(
    lite: dict[str, torch.Tensor],
) -> None:
    """Classifier included; parameters as its authors publish them (4.7 million)."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    assert list(lite) == list(network.state_dict())
    network.load_state_dict(lite, strict=True)
    assert sum(one.numel() for one in network.parameters()) == 4_652_008
    trunk = trunks.Trunk(LITE)
    weights.fill(trunk, LITE, lite)
    assert len(trunk.state_dict()) == len(lite) - 2
    assert sum(one.numel() for one in trunk.parameters()) == 4_652_008 - 1280 * 1000 - 1000


@pytest.mark.parametrize(
    ("size", "cells", "norm", "mean"),
    [((96, 64), (3, 2), 101.9272, 0.3931), ((97, 65), (4, 3), 107.5012, 0.2450)],
)
def test_features_are_those_of_the_original_package(
    size: tuple[int, int],
    cells: tuple[int, int],
    norm: float,
    mean: float,
    lite: dict[str, torch.Tensor],
) -> None:
    """Golden: ``extract_features`` of efficientnet-lite-pytorch 0.1.0, ``image_size=None``.

    Its default pads every size as 224 x 224 asks, which gives other numbers at 97 x 65.
    """
    trunk = trunks.Trunk(LITE).eval()
    weights.fill(trunk, LITE, lite)
    grey = (torch.arange(size[0] * size[1]) * 7919 % 256 / 255).view(1, 1, *size)
    with torch.inference_mode():
        features = trunk(grey)
    assert features.shape == (1, 1280, *cells)
    assert features.norm().item() == pytest.approx(norm, rel=1e-4)
    assert features.mean().item() == pytest.approx(mean, rel=1e-3)


def test_pictures_are_scaled_as_the_weights_were_trained(lite: dict[str, torch.Tensor]) -> None:
    """ImageNet's mean colour gives the means that the first batch norm remembers.

    Scaled by torchvision's mean and deviation it would be 0 in each channel and explain nothing.
    """
    kind = trunks.TRUNKS[LITE]
    colour, half = torch.tensor(kinds.IMAGENET_MEAN), torch.tensor(kind.mean)
    expected = lite["conv_stem.weight"].sum(dim=(2, 3)) @ ((colour - half) / torch.tensor(kind.std))
    known = lite["bn1.running_mean"]
    assert torch.corrcoef(torch.stack([expected, known]))[0, 1] > 0.95


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9), (12, 5)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_plain_layers_pad_as_tensorflow_does(size: tuple[int, int], kernel: int) -> None:
    """SAME by TensorFlow's own words: ceil(n / s) cells, the odd zero at the end."""
    layer = timm.layers.Conv2dSame(2, 3, kernel, stride=2)
    x = torch.rand(1, 2, *size)
    pads: list[int] = []
    for n in reversed(size):
        total = max((-(-n // 2) - 1) * 2 + kernel - n, 0)
        pads += [total // 2, total - total // 2]
    expected = F.conv2d(F.pad(x, pads), layer.weight, layer.bias, stride=2)
    got = trunks.plain(torch.nn.Sequential(layer))(x)
    assert got.shape[2:] == (-(-size[0] // 2), -(-size[1] // 2))
    torch.testing.assert_close(got, expected)


def test_missing_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with the extra's name and the way out."""
    monkeypatch.setitem(sys.modules, weights.PACKAGED[LITE].module, None)
    with pytest.raises(ModelError, match=r"\[pretrained\].*--weights none") as caught:
        weights.imagenet(LITE, "imagenet")
    assert "\n" not in str(caught.value)
    assert weights.imagenet(LITE, "imagenet", "none") is None


def test_the_packages_file_may_lie_in_a_mirror_and_is_hashed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lite: dict[str, torch.Tensor]
) -> None:
    """Without the package; a bit that flipped is found, an absent file gets a sentence."""
    packaged = weights.PACKAGED[LITE]
    data = weights._of_package(packaged, None)
    monkeypatch.setitem(sys.modules, packaged.module, None)
    with pytest.raises(ModelError, match=r"no efficientnet-lite0-57934424.pth in the mirror"):
        weights.imagenet(LITE, "imagenet", str(tmp_path))
    file = tmp_path / "efficientnet-lite0-57934424.pth"
    file.write_bytes(data)
    read = weights.imagenet(LITE, "imagenet", str(tmp_path))
    assert read is not None and all(torch.equal(read[key], lite[key]) for key in lite)
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        weights.imagenet(LITE, "imagenet", str(tmp_path))

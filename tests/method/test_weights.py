"""ImageNet weights from torchvision's own files."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision

from bae.errors import ModelError
from bae.method import trunks, weights

BUILD = {
    "resnet50": lambda: torchvision.models.resnet50(weights=None),
    "inception_v3": lambda: torchvision.models.inception_v3(weights=None, init_weights=False),
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
    expected = {k: v for k, v in state.items() if not k.startswith(("fc.", "AuxLogits."))}
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

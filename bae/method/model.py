"""A model is a folder: safetensors files and a card. No pickle, ever.

::

    <model>/card.json              recipe, data digest, metrics, versions, hashes of the weights
    <model>/localizer.safetensors
    <model>/regressor.safetensors
    <model>/regional.safetensors   the linear model: all of recipe ``regional``
    <model>/nearest.safetensors    all of recipe ``atlas_nn``; it holds features of training scans
    <model>/regions.safetensors    the network that reads its squares
    <model>/svr.safetensors        support vectors, features of training scans too
    <model>/*_patients.parquet     whom each was trained on, see evaluation.trained_on

``card.json`` is written last, so a folder whose card fits its files is whole.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import safetensors.torch
from torch import Tensor, nn

from bae import storage
from bae.errors import ModelError
from bae.method import baselines
from bae.method.baselines.nearest import Atlas
from bae.method.baselines.vectors import Vectors
from bae.method.card import CARD, Card, Part, load_card, save_card, versions, weights_there
from bae.method.networks import Localizer, Regressor
from bae.method.regional.attention import Attention
from bae.method.regional.reader import Reader

__all__ = [
    "CARD",
    "Card",
    "Part",
    "check",
    "copy",
    "load_card",
    "load_localizer",
    "load_nearest",
    "load_regional",
    "load_regions",
    "load_regressor",
    "load_svr",
    "save_card",
    "save_part",
    "versions",
]

P = TypeVar("P")

JOBS = {"localizer": "train_localizer", "regressor": "train_regressor", "svr": "train_regressor"}
"""Where a part is made; ``jobs.train`` makes the others."""


def save_part(
    uri: str, card: Card, name: str, tensors: Mapping[str, Tensor], part: dict[str, Any]
) -> Card:
    """Write one part's weights, then the card that names them.

    Args:
        uri: the model folder.
        card: the card so far.
        name: one of ``PARTS``.
        tensors: a network's ``state_dict``, or what ``Reader.tensors`` gives.
        part: the fields of ``Part`` but the hash.

    Returns:
        The card as written.
    """
    data = safetensors.torch.save({key: t.contiguous().cpu() for key, t in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    card = Card(
        recipe=card.recipe,
        parts={**card.parts, name: Part(sha256=digest, **part)},
        versions=versions(),
    )
    storage.write_bytes(storage.join(uri, f"{name}.safetensors"), data)
    save_card(uri, card)
    return card


def copy(source_uri: str, target_uri: str, card: Card) -> None:
    """Copy the weights that a card names to another folder, then write the card there."""
    for name in card.parts:
        file = f"{name}.safetensors"
        data = storage.read_bytes(storage.join(source_uri, file))
        storage.write_bytes(storage.join(target_uri, file), data)
    save_card(target_uri, card)


def check(uri: str) -> Card:
    """Return the card of a model that is whole and can be scored with.

    Raises:
        ModelError: a part is missing or does not match the card.
    """
    card = load_card(uri)
    cuts: list[Callable[[str, Card], object]] = [] if card.recipe.region.whole else [load_localizer]
    loads: dict[str, list[Callable[[str, Card], object]]] = {
        "networks": [*cuts, load_regressor],
        "svr": [load_localizer, load_svr],
        "nearest": [load_nearest],
    }
    for load in loads.get(card.recipe.method, [load_regional, load_regions]):
        load(uri, card)
    return card


def load_localizer(uri: str, card: Card) -> Localizer:
    """Load the localizer in evaluation mode; see ``_load`` for what is checked."""
    network = Localizer(card.recipe.localizer)
    _load(uri, card, "localizer", network)
    return network


def load_regressor(uri: str, card: Card) -> Regressor:
    """Load the regressor in evaluation mode; see ``_load`` for what is checked."""
    network = baselines.build(card.recipe.regressor)
    _load(uri, card, "regressor", network)
    return network


def load_regional(uri: str, card: Card) -> Reader:
    """Load the linear model; see ``_tensors`` for what is checked."""
    return _whole(uri, card, "regional", Reader.from_tensors)


def load_nearest(uri: str, card: Card) -> Atlas:
    """Load the atlas of people; see ``_tensors`` for what is checked."""
    return _whole(uri, card, "nearest", Atlas.from_tensors)


def load_svr(uri: str, card: Card) -> Vectors:
    """Load the support vectors; see ``_tensors`` for what is checked."""
    return _whole(uri, card, "svr", Vectors.from_tensors)


def _whole(uri: str, card: Card, name: str, build: Callable[[dict[str, Tensor]], P]) -> P:
    try:
        return build(_tensors(uri, card, name))
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"{name}.safetensors in {uri} is not whole: {error}") from error


def load_regions(uri: str, card: Card) -> Attention | None:
    """Load the network of several regions; None for the linear model alone. See ``_load``."""
    if not card.recipe.reads_squares:
        return None
    network = Attention(card.recipe.regressor)
    _load(uri, card, "regions", network)
    return network


def _load(uri: str, card: Card, name: str, network: nn.Module) -> None:
    """Fill a network; see ``_tensors`` for what is checked.

    Raises:
        ModelError: the part is missing, is not the file the card names, or does not fit.
    """
    try:
        network.load_state_dict(_tensors(uri, card, name))
    except RuntimeError as error:
        raise ModelError(f"{name}.safetensors in {uri} does not fit the card's recipe") from error
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)


def _tensors(uri: str, card: Card, name: str) -> dict[str, Tensor]:
    """Read a safetensors file, hash checked before a byte is parsed.

    Raises:
        ModelError: the part is missing, or is not the file the card names.
    """
    if name not in card.parts:
        job = JOBS.get(name, "train")
        raise ModelError(f"the model at {uri} has no {name}; run jobs.{job} first")
    weights_uri = weights_there(uri, name)
    data = storage.read_bytes(weights_uri)
    if hashlib.sha256(data).hexdigest() != card.parts[name].sha256:
        raise ModelError(f"{weights_uri} is not the file its card names (sha256 differs)")
    try:
        return dict(safetensors.torch.load(data))
    except safetensors.SafetensorError as error:
        raise ModelError(f"{weights_uri} does not fit the card's recipe") from error

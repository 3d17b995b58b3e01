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
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from types import NoneType
from typing import Any, TypeVar

import safetensors.torch
from torch import Tensor, nn

from bae import recipes, storage
from bae.errors import ModelError, RecipeError
from bae.method import baselines
from bae.method.baselines.nearest import Atlas
from bae.method.baselines.vectors import Vectors
from bae.method.calibration import Calibration, Shape
from bae.method.networks import Localizer, Regressor
from bae.method.regional.attention import Attention
from bae.method.regional.reader import Reader

P = TypeVar("P")

CARD = "card.json"
PARTS = {"localizer", "regressor", "regional", "regions", "nearest", "svr"}
JOBS = {"localizer": "train_localizer", "regressor": "train_regressor", "svr": "train_regressor"}
"""Where a part is made; ``jobs.train`` makes the others."""
VERSIONED = ("bae", "torch", "torchvision", "ray", "pydicom", "pyarrow", "numpy")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One network's line in the card.

    Attributes:
        sha256: of the weights file.
        metrics: name to value; names carry units.
        data: what it was trained on: counts, digest, demographics; nothing personal.
        fit: how training went: epochs, seconds, device.
    """

    sha256: str
    metrics: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model is.

    Attributes:
        recipe: how it was made.
        parts: ``localizer`` and, once trained, ``regressor``; the latter alone where whole
            views are taken; ``regional`` for the linear model, and ``regions`` for a network on
            its squares; ``nearest`` for an atlas of people; ``localizer`` and ``svr``.
        versions: of what decides the numbers.
        calibration: of its intervals and probabilities; None before it was calibrated.
        validation: figures on the validation patients, see ``scorecard.summary``.
        written_recipe: the recipe as the card's file has it. A later version's recipe has
            more fields; they must not change the ``model_id``, or every scan would be
            scored again.
    """

    recipe: recipes.Recipe
    parts: dict[str, Part]
    versions: dict[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None
    validation: dict[str, Any] = field(default_factory=dict)
    written_recipe: dict[str, Any] | None = None

    @property
    def model_id(self) -> str:
        """Return 12 hex digits that change whenever recipe, weights or calibration do."""
        state: list[Any] = [
            self.recipe_json,
            {name: p.sha256 for name, p in self.parts.items()},
        ]
        if self.calibration is not None:
            state.append(_plain(self.calibration))
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def recipe_json(self) -> dict[str, Any]:
        """Return the recipe as the card's file has, or will have, it."""
        return self.written_recipe or recipes.to_json(self.recipe)


def versions() -> dict[str, str]:
    """Return the versions of what decides the numbers, for the card."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # bae itself, run from an upload without install
            found[name] = "not installed"
    return found


def load_card(uri: str) -> Card:
    """Read a model's card.

    Raises:
        ModelError: no such folder, or the card cannot be understood.
    """
    card_uri = storage.join(uri, CARD)
    if not storage.exists(card_uri):
        raise ModelError(f"no model at {uri}: {CARD} is missing; run jobs.train_localizer first")
    try:
        values = json.loads(storage.read_bytes(card_uri))
        _require_kinds(values)
        return Card(
            recipe=recipes.from_json(values["recipe"]),
            parts={name: Part(**part) for name, part in values["parts"].items()},
            versions=values["versions"],
            calibration=_calibration(values["calibration"]) if "calibration" in values else None,
            validation=values.get("validation", {}),
            written_recipe=values["recipe"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RecipeError) as error:
        raise ModelError(f"{card_uri} is not a card that this version can read: {error}") from error


def _plain(fitted: Calibration) -> dict[str, Any]:
    """Return a calibration as a card has it: of two ways to tell a width the one that it has."""
    values = asdict(fitted)
    del values["floor_years" if fitted.shape is not None else "shape"]
    return values


def _calibration(values: dict[str, Any]) -> Calibration:
    shape = values.get("shape")
    if shape is None:
        return Calibration(**values)
    pieces: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in shape.items()}
    return Calibration(**{**values, "shape": Shape(**pieces)})


def _require_kinds(values: dict[str, Any]) -> None:
    """Refuse a card with a number where a text belongs; a process far away would trip over it.

    Raises:
        TypeError: it says which entry.
    """
    parts = list(values["parts"].values())
    kinds: list[tuple[str, Any, Any]] = [
        ("parts", values["parts"], dict),
        ("versions", values["versions"], dict),
    ]
    kinds += [("a part", part, dict) for part in parts]
    kinds += [("sha256", part["sha256"], str) for part in parts]
    kinds += [
        (key, part.get(key, {}), dict) for part in parts for key in ("metrics", "data", "fit")
    ]
    kinds.append(("validation", values.get("validation", {}), dict))
    fitted = dict(values.get("calibration", {}))
    shape = fitted.pop("shape", {})
    kinds.append(("shape", shape, dict))
    for name, value in shape.items():
        kinds += [
            (name, one, (int, float)) for one in (value if isinstance(value, list) else [value])
        ]
    kinds += [
        (name, value, (int, float, NoneType) if name == "factor" else (int, float))
        for name, value in fitted.items()
    ]
    for name, value, kind in kinds:
        if not isinstance(value, kind):
            raise TypeError(f"{name} is of another kind")
    if unknown := sorted(set(values["parts"]) - PARTS):
        raise ValueError(f"no part is called {unknown[0]}")


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


def save_card(uri: str, card: Card) -> None:
    """Write the card of a model whose weights are there."""
    values: dict[str, Any] = {
        "model_id": card.model_id,
        "recipe": card.recipe_json,
        "parts": {key: vars(value) for key, value in card.parts.items()},
        "versions": card.versions,
        "intended_use": "research on groups; not for the care of a single patient",
    }
    if card.calibration is not None:
        values |= {"calibration": _plain(card.calibration), "validation": card.validation}
    storage.write_bytes(storage.join(uri, CARD), json.dumps(values, indent=2).encode())


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
    weights_uri = storage.join(uri, f"{name}.safetensors")
    if not storage.exists(weights_uri):
        raise ModelError(f"{weights_uri} is missing though the card names it")
    data = storage.read_bytes(weights_uri)
    if hashlib.sha256(data).hexdigest() != card.parts[name].sha256:
        raise ModelError(f"{weights_uri} is not the file its card names (sha256 differs)")
    try:
        return dict(safetensors.torch.load(data))
    except safetensors.SafetensorError as error:
        raise ModelError(f"{weights_uri} does not fit the card's recipe") from error

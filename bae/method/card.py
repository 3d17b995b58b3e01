"""A model's card: what it is, by which recipe, of which weights, and how wide its intervals are.

Reading one needs no torch: a night asks it first whether there is anything to do at all.
"""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from types import NoneType
from typing import Any

from bae import recipes, storage
from bae.errors import ModelError, RecipeError
from bae.method.calibration import Calibration, Shape

CARD = "card.json"
PARTS = {"localizer", "regressor", "regional", "regions", "nearest", "svr"}
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


def load_whole(uri: str) -> Card:
    """Read the card of a model whose files are all there; whether they load, ``model.check`` says.

    Raises:
        ModelError: no card, none that can be understood, or a file that it names is missing.
    """
    card = load_card(uri)
    for name in card.parts:
        weights_there(uri, name)
    return card


def weights_there(uri: str, name: str) -> str:
    """Return where the weights of a part that the card names lie.

    Raises:
        ModelError: they are missing.
    """
    weights_uri = storage.join(uri, f"{name}.safetensors")
    if not storage.exists(weights_uri):
        raise ModelError(f"{weights_uri} is missing though the card names it")
    return weights_uri


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

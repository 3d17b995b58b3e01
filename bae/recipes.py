"""The named recipes, each built from ``bae.sections``: all choices of one model.

A variant is a new function that replaces fields, never a new class.
"""

import bisect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from bae import overrides
from bae.errors import RecipeError
from bae.sections import Fit, Localizer, Region, Regressor, Windowing, check

__all__ = [
    "RECIPES",
    "Fit",
    "Localizer",
    "Recipe",
    "Region",
    "Regressor",
    "Windowing",
    "age_group",
    "atlas_nn",
    "best",
    "compared",
    "from_json",
    "paper",
    "recipe",
    "regional",
    "regions",
    "small",
    "small_pretrained",
    "small_regions",
    "small_svr",
    "svr",
    "to_json",
    "with_margin",
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices of one model; its sections are the words of ``--set section.field=value``."""

    name: str = "paper"
    method: str = "networks"
    """Fixed by the recipe: ``networks``, the two of Fig. 1; ``regional``, the linear model;
    ``regions``, a network that reads the squares which that model chooses; ``stack``, the
    weighted mean of both; ``nearest``, the training scans that a scan looks most like; ``svr``,
    support vector regression on the localizer's features of whole views."""
    windowing: Windowing = field(default_factory=Windowing)
    localizer: Localizer = field(default_factory=Localizer)
    region: Region = field(default_factory=Region)
    regressor: Regressor = field(default_factory=Regressor)
    fit_localizer: Fit = field(default_factory=Fit)
    fit_regressor: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        linear = self.method in ("regional", "regions", "stack")
        fits = (self.region.parts == "several") == linear
        check(fits, "region.parts=several is what a linear model chooses, and no other method")
        whole = self.region.parts == "whole" and self.regressor.use_sex
        check(self.method != "nearest" or whole, "recipe atlas_nn compares whole views of one sex")
        seen = not self.region.whole
        check(self.method != "svr" or seen, "recipe svr reads the localizer's features")
        members = self.regressor.members
        check(
            self.reads_squares or members == 1, "regressor.members is for recipes regions and best"
        )
        check(self.method != "stack" or members > 1, "recipe best needs two members or more")

    @property
    def in_two_steps(self) -> bool:
        """Return whether two jobs train it: the localizer first, then what reads the age."""
        return self.method in ("networks", "svr")

    @property
    def reads_squares(self) -> bool:
        """Return whether a network reads the squares which the linear model chooses."""
        return self.method in ("regions", "stack")


def paper() -> Recipe:
    """Return the paper to the letter, at full size."""
    return Recipe()


def small() -> Recipe:
    """Return the same steps at a size that two CPU cores train in minutes."""
    fit = Fit(
        epochs=9,
        batch_size=16,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_epochs=1.0,
        average_decay=0.9,
        patience=12,
    )
    return Recipe(
        name="small",
        localizer=Localizer(trunk="resnet10", weights="none", width=96, height=320),
        region=Region(gamma=100.0),  # its maps are coarse; measured in bae/method/NOTES.md
        regressor=Regressor(
            trunk="small_vgg19", weights="none", width=112, height=256, hidden_neurons=256
        ),
        fit_localizer=fit,
        fit_regressor=replace(fit, epochs=16, box_jitter=0.05),
    )


def svr() -> Recipe:
    """Return support vector regression on features of ``paper``'s localizer."""
    return replace(paper(), name="svr", method="svr")


def small_svr() -> Recipe:
    """Return ``svr`` with ``small``'s localizer."""
    return replace(small(), name="small_svr", method="svr")


def regional() -> Recipe:
    """Return the linear model on log uptake of registered bodies; it has no network."""
    return Recipe(name="regional", method="regional", region=Region(parts="several"))


def atlas_nn() -> Recipe:
    """Return the mean age of the training scans that a scan looks most like; no network."""
    return Recipe(name="atlas_nn", method="nearest", region=Region(parts="whole"))


def regions() -> Recipe:
    """Return one trunk that reads the linear model's squares, both views, with attention."""
    return Recipe(
        name="regions",
        method="regions",
        region=Region(parts="several"),
        regressor=Regressor(trunk="resnet50", width=112, height=112, members=3),
        fit_regressor=Fit(keep="last", schedule="cosine", warmup_epochs=1.0, box_jitter=0.06),
    )


def small_regions() -> Recipe:
    """Return ``regions`` at a size that two CPU cores train in minutes."""
    return replace(
        regions(),
        name="small_regions",
        regressor=Regressor(
            trunk="small_resnet10",
            weights="none",
            width=64,  # 150 mm at the 2.3 mm of most scans: as stored
            height=64,
            hidden_neurons=64,
            members=3,
        ),
        fit_regressor=Fit(
            epochs=40,
            least_steps=1200,
            batch_size=16,
            learning_rate=2e-3,
            schedule="cosine",
            warmup_epochs=1.0,
            average_decay=0.98,
            keep="last",
            rotate_degrees=5.0,
            shift=0.03,
            box_jitter=0.06,
        ),
    )


def best() -> Recipe:
    """Return the weighted mean of ``regional`` and ``small_regions``: one model of two parts."""
    return replace(small_regions(), name="best", method="stack")


def _baseline(trunk: str, multiple_inputs: bool, full: bool) -> Recipe:
    """Return one of Table 1's other methods: the whole view at 250 x 750, no localizer.

    Head and sex branch are the proposed method's, so that the trunks are compared and
    not their heads. ``full`` is the paper's size; else the size of ``small``.
    """
    base = paper() if full else small()
    return replace(
        base,
        region=Region(parts="whole"),
        regressor=replace(
            base.regressor,
            trunk=trunk,
            width=250 if full else 80,
            height=750 if full else 240,
            pair=multiple_inputs,
            loss="mean_variance" if multiple_inputs else "squared",
        ),
        fit_regressor=replace(
            base.fit_regressor,
            box_jitter=0.0,  # there is no box
            epochs=base.fit_regressor.epochs if full else 12,  # a Table 1 in an hour
        ),
    )


def _beside(trunk: str, parts: str, changes: dict[str, Any], full: bool) -> Recipe:
    """Return a method that the paper names beside its own (``bae/method/PAPER.md``).

    Args:
        trunk: at full size; the small one is named after it.
        parts: ``whole`` views or the ``body`` alone.
        changes: fields of the regressor, at both sizes.
        full: see ``_baseline``.
    """
    base = _baseline(trunk if full else f"small_{trunk}", False, full)
    return replace(base, region=Region(parts=parts), regressor=replace(base.regressor, **changes))


_LENET5 = {"trunk": "lenet5", "weights": "none", "width": 32, "height": 32, "hidden_neurons": 84}
_BESIDE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lenet5": ("lenet5", "whole", _LENET5),
    "googlenet": ("googlenet", "whole", {"network": "auxiliary"}),
    "bonet": ("bonet", "whole", {"weights": "none"}),
    "caffenet": ("alexnet", "whole", {}),
    "caffenet_regions": ("alexnet", "body", {"network": "by_region"}),
    "lee": ("googlenet", "body", {"network": "auxiliary", "loss": "classes"}),
}
"""Methods named beside the paper's own: trunk, region and changes, see ``_beside``."""


def _twice(network: str, trunk: str, width: int, full: bool, loss: str) -> Recipe:
    """Return a method that looks at a view twice (``bae.method.baselines``), no localizer.

    The finer look has so many columns and thrice the rows; the coarse one half of each.
    """
    base = _baseline(trunk, False, full)
    changed = replace(base.regressor, network=network, loss=loss, width=width, height=3 * width)
    return replace(base, regressor=changed)


def small_pretrained() -> Recipe:
    """Return a whole-view network that starts from ImageNet, at a size for two CPU cores.

    Its input is a multiple of 32 each way: EfficientNet-lite0 halves it five times.
    """
    base = _baseline("efficientnet_lite0", False, False)
    return replace(
        base,
        name="small_pretrained",
        regressor=replace(base.regressor, weights="imagenet", width=64, height=192),
        fit_regressor=replace(base.fit_regressor, epochs=6, least_steps=300),
    )


def _without_sex(build: Callable[[], Recipe]) -> Recipe:
    """Return the other column of Table 1."""
    base = build()
    return replace(base, regressor=replace(base.regressor, use_sex=False))


def _named() -> dict[str, Callable[[], Recipe]]:
    """Return the methods by name: those of papers also at the small size, and without sex."""
    methods: dict[str, Callable[[], Recipe]] = {"paper": paper, "small": small}
    methods |= {"svr": svr, "small_svr": small_svr}
    for name, trunk, multiple_inputs in (
        ("vgg19", "vgg19", False),
        ("resnet50", "resnet50", False),
        ("xception", "xception", False),
        ("multi_input_vgg16", "vgg16", True),
    ):
        methods[name] = partial(_baseline, trunk, multiple_inputs, True)
        methods[f"small_{name}"] = partial(_baseline, f"small_{trunk}", multiple_inputs, False)
    for name, choices in _BESIDE.items():
        methods[name] = partial(_beside, *choices, True)
        methods[f"small_{name}"] = partial(_beside, *choices, False)
    for name, network, loss, trunk, size, small_trunk, small_size in (
        # references [21] and [22] of the paper; Chen et al. 2020
        ("attention_mil", "instances", "squared", "resnet50", 512, "small_resnet10", 192),
        ("ra_cnn", "zooming", "squared", "vgg19", 448, "small_vgg19", 128),
        ("chen", "iterated", "distribution", "xception", 384, "small_resnet10", 128),
    ):
        methods[name] = partial(_twice, network, trunk, size, True, loss)
        methods[f"small_{name}"] = partial(_twice, network, small_trunk, small_size, False, loss)
    without = {f"{name}_without_sex": partial(_without_sex, m) for name, m in methods.items()}
    bodies = {"regional": regional, "regions": regions, "small_regions": small_regions}
    bodies |= {"atlas_nn": atlas_nn}
    return methods | without | {"small_pretrained": small_pretrained} | bodies | {"best": best}


RECIPES: dict[str, Callable[[], Recipe]] = _named()
"""The registry: what ``--recipe`` takes."""


def compared(small: bool) -> list[str]:
    """Return the recipes of ``jobs.table_one``, the proposed method first.

    Args:
        small: the forms for two CPU cores; those of one size are among both.
    """
    first = "small" if small else "paper"
    own = [n for n in RECIPES if n.startswith("small_") == small and n not in ("small", "paper")]
    both = [n for n in ONE_SIZE if n not in own]
    left_out = ("small_pretrained",)  # its weights are an extra
    return [
        first,
        *(n for n in own + both if not n.endswith("_without_sex") and n not in left_out),
    ]


ONE_SIZE = ("atlas_nn", "regional", "best")
"""Recipes that have no small form, since two cores train them as they are."""


def with_margin(size: tuple[int, int], margin: float) -> tuple[int, int]:
    """Return rows and columns of a crop that shows a margin, as a share, on each side."""
    return round(size[0] * (1 + 2 * margin)), round(size[1] * (1 + 2 * margin))


def recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """Build a recipe by name and apply ``section.field=value`` changes.

    Args:
        name: a key of ``RECIPES``.
        changes: as given to ``--set``; values are read by the field's type.

    Raises:
        RecipeError: unknown name or field, a value of the wrong type or out of range.

    >>> recipe("small", ["region.gamma=120"]).region.gamma
    120.0
    """
    if name not in RECIPES:
        raise RecipeError(f"unknown recipe {name!r}; {overrides.suggestion(name, RECIPES)}")
    result = replace(RECIPES[name](), name=name)
    for change in changes:
        result = overrides.changed(result, change)
    return result


def to_json(value: Recipe) -> dict[str, Any]:
    """Return the recipe as plain values, for ``card.json``."""
    return dict(json.loads(json.dumps(asdict(value))))


def from_json(values: dict[str, Any]) -> Recipe:
    """Rebuild a recipe from a card.

    Raises:
        RecipeError: the card names a field that this version does not know.
    """
    return overrides.rebuilt(Recipe, values)


def age_group(age_years: float, edges: Sequence[float]) -> int | None:
    """Return the index of the age group, None outside the edges.

    Args:
        age_years: chronological age.
        edges: rising; each group holds its lower edge, the last one its upper edge too.
    """
    if not edges[0] <= age_years <= edges[-1]:
        return None
    return min(bisect.bisect_right(edges, age_years), len(edges) - 1) - 1

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


def _whole_view(full: bool, parts: str = "whole", **changes: Any) -> Recipe:
    """Return a method that reads a view, or the body in it, without a localizer.

    Head and sex branch are the proposed method's, so that what reads pictures is compared and
    not the heads.

    Args:
        full: at the paper's size, 250 x 750; else at that of ``small``.
        parts: ``Region.parts``.
        changes: fields of the regressor.
    """
    base = paper() if full else small()
    size = {"width": 250, "height": 750} if full else {"width": 80, "height": 240}
    return replace(
        base,
        region=Region(parts=parts),
        regressor=replace(base.regressor, **(size | changes)),
        fit_regressor=replace(
            base.fit_regressor,
            box_jitter=0.0,  # there is no box
            epochs=base.fit_regressor.epochs if full else 12,  # a Table 1 in an hour
        ),
    )


_WHOLE_VIEWS: dict[str, dict[str, Any]] = {
    # Table 1's other methods
    "vgg19": {"trunk": "vgg19"},
    "resnet50": {"trunk": "resnet50"},
    "xception": {"trunk": "xception"},
    "multi_input_vgg16": {"trunk": "vgg16", "pair": True, "loss": "mean_variance"},
    # those of references [16] to [22], and Chen et al. 2020: see bae/method/PAPER.md
    "lenet5": {
        "trunk": "lenet5", "weights": "none", "width": 32, "height": 32, "hidden_neurons": 84,
    },
    "googlenet": {"trunk": "googlenet", "network": "auxiliary"},
    "bonet": {"trunk": "bonet", "weights": "none"},
    "caffenet": {"trunk": "alexnet"},
    "caffenet_regions": {"trunk": "alexnet", "network": "by_region", "parts": "body"},
    "lee": {"trunk": "googlenet", "network": "auxiliary", "loss": "classes", "parts": "body"},
    "attention_mil": {"trunk": "resnet50", "network": "instances", "width": 512, "height": 1536},
    "ra_cnn": {"trunk": "vgg19", "network": "zooming", "width": 448, "height": 1344},
    "chen": {
        "trunk": "xception", "network": "iterated", "loss": "distribution",
        "width": 384, "height": 1152,
    },
}  # fmt: skip
"""Name to ``Region.parts`` and fields of the regressor at full size."""
_SMALL_SIZE: dict[str, dict[str, Any]] = {
    "lenet5": {"trunk": "lenet5", "width": 32, "height": 32},
    "attention_mil": {"trunk": "small_resnet10", "width": 192, "height": 576},
    "ra_cnn": {"width": 128, "height": 384},
    "chen": {"trunk": "small_resnet10", "width": 128, "height": 384},
}
"""Where the small form is not the full one with the trunk's small form at 80 x 240."""


def _smaller(name: str) -> dict[str, Any]:
    """Return the same fields of a method's small form."""
    full = _WHOLE_VIEWS[name]
    usual = {"trunk": f"small_{full['trunk']}", "width": 80, "height": 240}
    return full | usual | _SMALL_SIZE.get(name, {})


def small_pretrained() -> Recipe:
    """Return a whole-view network that starts from ImageNet, at a size for two CPU cores.

    Its input is a multiple of 32 each way: EfficientNet-lite0 halves it five times.
    """
    base = _whole_view(False, trunk="efficientnet_lite0", weights="imagenet", width=64, height=192)
    return replace(
        base,
        name="small_pretrained",
        fit_regressor=replace(base.fit_regressor, epochs=6, least_steps=300),
    )


def _without_sex(build: Callable[[], Recipe]) -> Recipe:
    """Return the other column of Table 1."""
    base = build()
    return replace(base, regressor=replace(base.regressor, use_sex=False))


def _named() -> dict[str, Callable[[], Recipe]]:
    """Return the methods by name: those of papers also at the small size, and without sex."""
    methods: dict[str, Callable[[], Recipe]]
    methods = {"paper": paper, "small": small, "svr": svr, "small_svr": small_svr}
    for name, fields in _WHOLE_VIEWS.items():
        methods[name] = partial(_whole_view, True, **fields)
        methods[f"small_{name}"] = partial(_whole_view, False, **_smaller(name))
    without = {f"{name}_without_sex": partial(_without_sex, m) for name, m in methods.items()}
    bodies = {"regional": regional, "regions": regions, "small_regions": small_regions}
    others = {"atlas_nn": atlas_nn, "small_pretrained": small_pretrained, "best": best}
    return methods | without | bodies | others


RECIPES: dict[str, Callable[[], Recipe]] = _named()
"""The registry: what ``--recipe`` takes."""


def compared(small: bool) -> list[str]:
    """Return the recipes of ``jobs.table_one`` at one size, the proposed method first."""
    own = [name for name in RECIPES if name.startswith("small") == small and name not in ONE_SIZE]
    left_out = ("small_pretrained",)  # its weights are an extra
    with_sex = [n for n in own if not n.endswith("_without_sex") and n not in left_out]
    return [*with_sex, *ONE_SIZE]


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

"""Every number of the method, as frozen values, and the named recipes built from them.

The defaults are the paper's ("Region of Interest Localization for Bone Age
Estimation Using Whole-Body Bone Scintigraphy", 2021); where the paper is silent
the line says "ours" and ``bae/method/PAPER.md`` says how it was chosen. A variant is
a new function that replaces fields, never a new class.
"""

import bisect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from bae import overrides
from bae.errors import RecipeError


def _check(passed: bool, message: str) -> None:
    if not passed:
        raise RecipeError(message)


@dataclass(frozen=True, kw_only=True)
class Windowing:
    """Counts to grey values: clip at a percentile, scale to 0-1, apply a power."""

    percentile: float = 99.5
    """Percent of body pixels at or below white; ours: bladder and injection site lie far above."""
    power: float = 0.5
    """Unitless exponent; ours: the root makes Poisson noise about equally large everywhere."""

    def __post_init__(self) -> None:
        _check(50 < self.percentile <= 100, "windowing.percentile must lie in (50, 100]")
        _check(0 < self.power <= 1, "windowing.power must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class Localizer:
    """The network of Fig. 1 (a): which age group, and where it shows."""

    trunk: str = "resnet50"
    """Feature extractor, a name in ``bae.method.trunks.TRUNKS``; section III."""
    weights: str = "imagenet"
    """``imagenet`` or ``none``; section IV."""
    width: int = 300
    """Input columns, pixels; section III."""
    height: int = 1000
    """Input rows, pixels; section III."""
    group_edges_years: tuple[float, ...] = (40.0, 50.0, 60.0, 70.0, 80.0)
    """Age group edges; four groups in section III, the edges are ours."""

    def __post_init__(self) -> None:
        _check(self.width >= 32 and self.height >= 32, "localizer.width and height must be >= 32")
        _check(self.weights in ("imagenet", "none"), "localizer.weights: imagenet or none")
        edges = self.group_edges_years
        _check(
            len(edges) >= 3 and list(edges) == sorted(set(edges)),
            "localizer.group_edges_years must be at least three rising ages",
        )

    @property
    def groups(self) -> int:
        """Return the number of age groups (the paper's 4)."""
        return len(self.group_edges_years) - 1


@dataclass(frozen=True, kw_only=True)
class Region:
    """Eq. (3): heat map to mask to crop."""

    gamma: float = 150.0
    """Threshold on the 0-255 scale; section III."""
    parts: str = "all"
    """Crop round ``all`` parts of the mask, or the ``hottest`` or ``largest`` of them; ours.
    ``whole`` takes the whole view and needs no localizer: Table 1's other methods.
    ``several`` names ``count`` squares of ``size_mm`` a view, chosen by their heat."""
    count: int = 6
    """Squares a view, for ``several``; see ``bae/method/regional/NOTES.md``."""
    size_mm: float = 150.0
    """Their side on a body of 1.7 m, for ``several``; smaller on shorter people."""
    views: str = "both"
    """``both``, ``anterior`` or ``posterior``: which views are scored; ours."""

    def __post_init__(self) -> None:
        _check(0 <= self.gamma <= 255, "region.gamma must lie in [0, 255]")
        _check(
            self.parts in ("hottest", "largest", "all", "whole", "several"),
            "region.parts: hottest, largest, all, whole or several",
        )
        _check(1 <= self.count <= 20, "region.count must lie in [1, 20]")
        _check(40 <= self.size_mm <= 600, "region.size_mm must lie in [40, 600]")
        _check(
            self.views in ("both", "anterior", "posterior"),
            "region.views: both, anterior or posterior",
        )


@dataclass(frozen=True, kw_only=True)
class Regressor:
    """The network of Fig. 1 (b): crop and sex to years."""

    trunk: str = "inception_v3"
    """Feature extractor, a name in ``bae.method.trunks.TRUNKS``; section III."""
    weights: str = "imagenet"
    """``imagenet`` or ``none``; section IV."""
    width: int = 299
    """Crop columns, pixels; the network's own size, ours."""
    height: int = 299
    """Crop rows, pixels; the network's own size, ours."""
    use_sex: bool = True
    """Whether sex enters; Table 1 has both columns."""
    sex_neurons: int = 32
    """Width of the linear layer on sex; section IV."""
    hidden_neurons: int = 1024
    """Width of the two linear layers; section IV."""
    dropout: float = 0.2
    """After each of the two linear layers; section IV."""
    pair: bool = False
    """Whether both views enter together, side by side: the multiple inputs of Table 1."""
    loss: str = "squared"
    """``squared``, Eq. (4), or ``mean_variance`` over one-year bins (Pan et al. 2018)."""

    def __post_init__(self) -> None:
        _check(self.loss in ("squared", "mean_variance"), "regressor.loss: squared, mean_variance")
        _check(self.width >= 32 and self.height >= 32, "regressor.width and height must be >= 32")
        _check(self.weights in ("imagenet", "none"), "regressor.weights: imagenet or none")
        _check(self.sex_neurons > 0 and self.hidden_neurons > 0, "regressor: layers need neurons")
        _check(0 <= self.dropout < 1, "regressor.dropout must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How one network is trained. Adam, 32 and 1e-4 are the paper's; the rest is ours."""

    epochs: int = 40
    """Passes over the training views."""
    batch_size: int = 32
    """Views per step over all workers; section IV."""
    learning_rate: float = 1e-4
    """Adam's step size; section IV."""
    schedule: str = "constant"
    """``constant``, or ``cosine`` to zero after the warm-up."""
    warmup_epochs: float = 0.0
    """Epochs over which the rate rises linearly from zero."""
    average_decay: float = 0.0
    """Decay per step of the exponential moving average of the weights; 0 turns it off."""
    clip_norm: float = 5.0
    """Largest gradient norm; larger gradients are scaled down."""
    patience: int = 8
    """Epochs without a better validation score before training stops."""
    mirror: float = 0.5
    """Share of views mirrored left to right."""
    rotate_degrees: float = 3.0
    """Largest rotation either way."""
    scale: float = 0.05
    """Largest relative change of size either way."""
    shift: float = 0.02
    """Largest shift either way, as a share of width and height."""
    intensity: float = 0.1
    """Largest relative change of grey values either way."""
    box_jitter: float = 0.0
    """Largest move of each edge of a crop either way, as a share of the box; regressor only."""
    mixed: bool = True
    """Whether matrix products are bf16 where the hardware has it; weights and sums never are."""
    seed: int = 0
    """Seeds initial heads, order, augmentation and dropout."""

    def __post_init__(self) -> None:
        _check(self.epochs >= 1, "epochs must be >= 1")
        _check(self.batch_size >= 2, "batch_size must be >= 2 (batch norm needs two)")
        _check(self.learning_rate > 0, "learning_rate must be > 0")
        _check(self.schedule in ("constant", "cosine"), "schedule: constant or cosine")
        _check(0 <= self.average_decay < 1, "average_decay must lie in [0, 1)")
        _check(self.clip_norm > 0 and self.patience >= 1, "clip_norm > 0 and patience >= 1")
        _check(0 <= self.mirror <= 1, "mirror must lie in [0, 1]")
        _check(0 <= self.box_jitter <= 0.25, "box_jitter must lie in [0, 0.25]")
        _check(
            min(self.warmup_epochs, self.rotate_degrees, self.scale, self.shift, self.intensity)
            >= 0,
            "warmup_epochs, rotate_degrees, scale, shift and intensity must be >= 0",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices of one model; its sections are the words of ``--set section.field=value``."""

    name: str = "paper"
    method: str = "networks"
    """``networks``, the two of Fig. 1, or ``regional``, the linear model; fixed by the recipe."""
    windowing: Windowing = field(default_factory=Windowing)
    localizer: Localizer = field(default_factory=Localizer)
    region: Region = field(default_factory=Region)
    regressor: Regressor = field(default_factory=Regressor)
    fit_localizer: Fit = field(default_factory=Fit)
    fit_regressor: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        fits = (self.region.parts == "several") == (self.method == "regional")
        _check(fits, "region.parts=several is what recipe regional has, and no other")


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


def regional() -> Recipe:
    """Return the linear model on log uptake of registered bodies; it has no network."""
    return Recipe(name="regional", method="regional", region=Region(parts="several"))


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


def _without_sex(build: Callable[[], Recipe]) -> Recipe:
    """Return the other column of Table 1."""
    base = build()
    return replace(base, regressor=replace(base.regressor, use_sex=False))


def _named() -> dict[str, Callable[[], Recipe]]:
    """Return Table 1's methods, each also at the small size, each also without sex."""
    methods: dict[str, Callable[[], Recipe]] = {"paper": paper, "small": small}
    for name, trunk, multiple_inputs in (
        ("vgg19", "vgg19", False),
        ("resnet50", "resnet50", False),
        ("xception", "xception", False),
        ("multi_input_vgg16", "vgg16", True),
    ):
        methods[name] = partial(_baseline, trunk, multiple_inputs, True)
        methods[f"small_{name}"] = partial(_baseline, f"small_{trunk}", multiple_inputs, False)
    without = {f"{name}_without_sex": partial(_without_sex, m) for name, m in methods.items()}
    return methods | without | {"regional": regional}


RECIPES: dict[str, Callable[[], Recipe]] = _named()
"""The registry: what ``--recipe`` takes."""


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

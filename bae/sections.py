"""The sections of a recipe: every number of the method, as frozen values.

The defaults are the paper's ("Region of Interest Localization for Bone Age
Estimation Using Whole-Body Bone Scintigraphy", 2021); where the paper is silent
the line says "ours" and ``bae/method/PAPER.md`` says how it was chosen.
"""

import math
from dataclasses import dataclass, replace

from bae.errors import RecipeError


def check(passed: bool, message: str) -> None:
    """Raise ``RecipeError`` with the message unless the check has passed."""
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
        check(50 < self.percentile <= 100, "windowing.percentile must lie in (50, 100]")
        check(0 < self.power <= 1, "windowing.power must lie in (0, 1]")


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
        check(self.width >= 32 and self.height >= 32, "localizer.width and height must be >= 32")
        check(self.weights in ("imagenet", "none"), "localizer.weights: imagenet or none")
        edges = self.group_edges_years
        check(
            len(edges) >= 3 and list(edges) == sorted(set(edges)),
            "localizer.group_edges_years must be at least three rising ages",
        )

    @property
    def groups(self) -> int:
        """Return the number of age groups (the paper's 4)."""
        return len(self.group_edges_years) - 1


HEATS = ("gradcam", "cam", "gradcam_relu")


@dataclass(frozen=True, kw_only=True)
class Region:
    """Eqs. (1) to (3): heat map to mask to crop."""

    heat: str = "gradcam"
    """``gradcam`` by Eqs. (1) and (2); ``cam``, the head's weights in place of its gradients
    (Zhou et al. 2016); ``gradcam_relu``, negative heat to zero (Selvaraju et al. 2017)."""
    gamma: float = 150.0
    """Threshold on the 0-255 scale; section III."""
    parts: str = "all"
    """Crop round ``all`` parts of the mask, or the ``hottest`` or ``largest`` of them; ours.
    ``whole`` takes the whole view and ``body`` the body alone, as large as it is; neither
    needs a localizer: Table 1's other methods.
    ``several`` names ``count`` squares of ``size_mm`` a view, chosen by their heat."""
    count: int = 6
    """Squares a view, for ``several``; see ``bae/method/regional/NOTES.md``."""
    size_mm: float = 150.0
    """Their side on a body of 1.7 m, for ``several``; smaller on shorter people."""
    views: str = "both"
    """``both``, ``anterior`` or ``posterior``: which views are scored; ours."""

    def __post_init__(self) -> None:
        check(0 <= self.gamma <= 255, "region.gamma must lie in [0, 255]")
        check(
            self.parts in ("hottest", "largest", "all", "whole", "body", "several"),
            "region.parts: hottest, largest, all, whole, body or several",
        )
        check(self.heat in HEATS, f"region.heat: {', '.join(HEATS)}")
        check(1 <= self.count <= 20, "region.count must lie in [1, 20]")
        check(40 <= self.size_mm <= 600, "region.size_mm must lie in [40, 600]")
        check(
            self.views in ("both", "anterior", "posterior"),
            "region.views: both, anterior or posterior",
        )

    @property
    def whole(self) -> bool:
        """Return whether no localizer is needed."""
        return self.parts in ("whole", "body")


NETWORKS = ("plain", "auxiliary", "by_region", "instances", "zooming", "iterated")
LOSSES = ("squared", "mean_variance", "classes", "distribution")


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
    network: str = "plain"
    """What stands round the trunk: see ``bae.method.baselines``; ``plain`` is the paper's."""
    loss: str = "squared"
    """``squared``, Eq. (4); over one-year bins ``mean_variance`` (Pan et al. 2018), ``classes``
    (one a year) or ``distribution`` (a normal one round the age, and its expectation); the
    network of several regions has Huber's loss instead."""
    members: int = 1
    """Networks whose mean answers, each trained without one share of the patients, for
    several regions; what a member says of those it did not see tells how much to trust it."""

    def __post_init__(self) -> None:
        check(self.loss in LOSSES, f"regressor.loss: {', '.join(LOSSES)}")
        check(self.network in NETWORKS, f"regressor.network: {', '.join(NETWORKS)}")
        check(self.network == "plain" or not self.pair, "regressor.pair needs network=plain")
        check(1 <= self.members <= 10, "regressor.members must lie in [1, 10]")
        check(self.width >= 32 and self.height >= 32, "regressor.width and height must be >= 32")
        check(self.weights in ("imagenet", "none"), "regressor.weights: imagenet or none")
        check(self.sex_neurons > 0 and self.hidden_neurons > 0, "regressor: layers need neurons")
        check(0 <= self.dropout < 1, "regressor.dropout must lie in [0, 1)")

    @property
    def by_year(self) -> bool:
        """Return whether the last layer scores each year of age."""
        return self.loss != "squared"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How one network is trained. Adam, 32 and 1e-4 are the paper's; the rest is ours."""

    epochs: int = 40
    """Passes over the training views."""
    least_steps: int = 0
    """A small cohort gets more passes, until there are so many steps."""
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
    keep: str = "best"
    """``best`` of the epochs by validation, or the ``last``: then validation chooses nothing."""
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

    def for_samples(self, samples: int) -> "Fit":
        """Return the same with the epochs that so many training samples get."""
        steps = math.ceil(samples / self.batch_size)
        return replace(self, epochs=max(self.epochs, math.ceil(self.least_steps / steps)))

    def __post_init__(self) -> None:
        check(self.epochs >= 1 and self.least_steps >= 0, "epochs >= 1, least_steps >= 0")
        check(self.batch_size >= 2, "batch_size must be >= 2 (batch norm needs two)")
        check(self.learning_rate > 0, "learning_rate must be > 0")
        check(self.schedule in ("constant", "cosine"), "schedule: constant or cosine")
        check(self.keep in ("best", "last"), "keep: best or last")
        check(0 <= self.average_decay < 1, "average_decay must lie in [0, 1)")
        check(self.clip_norm > 0 and self.patience >= 1, "clip_norm > 0 and patience >= 1")
        check(0 <= self.mirror <= 1, "mirror must lie in [0, 1]")
        check(0 <= self.box_jitter <= 0.25, "box_jitter must lie in [0, 0.25]")
        check(
            min(self.warmup_epochs, self.rotate_degrees, self.scale, self.shift, self.intensity)
            >= 0,
            "warmup_epochs, rotate_degrees, scale, shift and intensity must be >= 0",
        )

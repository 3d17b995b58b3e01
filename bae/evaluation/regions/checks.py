"""Is the region right? Make what was learned random, and see whether it moves.

Adebayo et al. 2018, "Sanity checks for saliency maps": a map that stays the same when the
network's layers are replaced by random ones, from the last to the first, shows the
picture's edges and not what the network learned. No truth is needed. A localizer is looked
into, in float32, since these are measurements.

Shape suffixes: N views, H, W of the input, V, U of the map.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from bae.evaluation.panels import read_from
from bae.evaluation.regions import controls
from bae.method import boxes as method_boxes
from bae.method import image
from bae.method.heatmap import class_heatmap, to_byte_scale
from bae.method.networks import Localizer
from bae.method.predictor import Predictor
from bae.recipes import Recipe
from bae.scan import Box, Identity, Scan, View


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How much the maps of one view are alike.

    Attributes:
        layer: the last layer that was made random (all above it are too); ``none`` compares
            the map with that of another scan's same view by the trained network.
        view: which view of those given, from 0.
        rank_correlation: Spearman's, over the map's cells, -1 to 1.
        overlap: intersection over union of the areas that the boxes cover, 0 to 1.
    """

    layer: str
    view: int
    rank_correlation: float
    overlap: float


def randomised(
    localizer: Localizer, recipe: Recipe, seed: int = 0
) -> Iterator[tuple[str, Localizer]]:
    """Yield the localizer with more and more random layers, from the head to the input.

    Args:
        localizer: trained; it is not changed.
        recipe: how to build a fresh one.
        seed: of the random weights; counted from the one that training started from, so
            that no seed gives back the network that training began with.

    Yields:
        (layer, localizer): the layer that became random last; one localizer, changed in place.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.fit_localizer.seed + 1 + seed)
        fresh = Localizer(recipe.localizer)
    spoilt = copy.deepcopy(localizer).eval()
    device = next(spoilt.parameters()).device
    layers = [name for name, part in fresh.trunk.body.named_children() if part.state_dict()]
    for name in ("head", *reversed(layers)):
        path = name if name == "head" else f"trunk.body.{name}"
        spoilt.get_submodule(path).load_state_dict(fresh.get_submodule(path).state_dict())
        yield name, spoilt.to(device)


@torch.inference_mode()
def randomisation(predictor: Predictor, views: Sequence[View], seed: int = 0) -> list[Similarity]:
    """Compare the trained network's maps with those of ever more random ones.

    Each map explains the age group that the trained network predicts, whatever the
    random one would.

    Args:
        predictor: a model with a localizer.
        views: two or more, of any sizes; of one name, so that bodies lie alike.
        seed: of the random weights.
    """
    assert predictor.localizer is not None
    recipe = predictor.recipe
    greys = [grey(predictor, view) for view in views]
    inputs_N1HW = image.prepare(greys, recipe.localizer.height, recipe.localizer.width)
    scores_NK, _ = predictor.localizer(inputs_N1HW)
    group_N = scores_NK.argmax(dim=1)
    sizes = [view.counts.shape for view in views]
    trained = _maps(predictor.localizer, inputs_N1HW, group_N)
    # a map of one scan against the next one's: what all bodies have in common
    found = _similarities("none", trained, np.roll(trained, 1, axis=0), sizes, recipe)
    for layer, spoilt in randomised(predictor.localizer, recipe, seed):
        found += _similarities(layer, trained, _maps(spoilt, inputs_N1HW, group_N), sizes, recipe)
    return found


def _maps(localizer: Localizer, inputs_N1HW: Tensor, group_N: Tensor) -> NDArray[np.uint8]:
    """Return (N, V, U) maps of the given groups."""
    _, features_NFVU = localizer(inputs_N1HW)
    heat_NVU = class_heatmap(features_NFVU, localizer.head.weight, group_N)
    return np.asarray(to_byte_scale(heat_NVU).cpu().numpy())


def _similarities(
    layer: str,
    ours: NDArray[np.uint8],
    theirs: NDArray[np.uint8],
    sizes: Sequence[tuple[int, ...]],
    recipe: Recipe,
) -> list[Similarity]:
    return [
        similarity(
            layer,
            i,
            size,
            (one, method_boxes.find_boxes(one, size, recipe.region)[:1]),
            (two, method_boxes.find_boxes(two, size, recipe.region)[:1]),
        )
        for i, (one, two, size) in enumerate(zip(ours, theirs, sizes, strict=True))
    ]


Found = tuple[NDArray[np.uint8], Sequence[Box]]
"""What a method finds in one view: heat map and boxes."""


def similarity(
    layer: str, view: int, size: tuple[int, ...], ours: Found, theirs: Found
) -> Similarity:
    """Compare heat and boxes that two networks, or two scans, give for one view."""
    (one, boxes), (two, others) = ours, theirs
    flat = one.shape != two.shape or any(heat.min() == heat.max() for heat in (one, two))
    masks = (controls.covered(own, size) for own in (boxes, others))
    return Similarity(
        layer=layer,
        view=view,
        rank_correlation=0.0 if flat else float(stats.spearmanr(one, two, axis=None)[0]),
        overlap=controls.alike(*masks),
    )


@runtime_checkable
class Randomisable(Protocol):
    """A method of several regions that can make what it learned random, part by part."""

    def randomised(self, seed: int) -> Iterator[tuple[str, Predictor]]:
        """Yield (part, predictor) with more and more random parts, the answer's end first."""
        ...


def choices(predictor: Predictor, views: Sequence[View], seed: int = 0) -> list[Similarity]:
    """Compare the regions of a method of several with those of ever more random ones.

    Args:
        predictor: any; without ``Randomisable`` only other scans' regions are compared.
        views: two or more, of one name.
        seed: of the random weights.
    """

    def found(by: Predictor) -> list[Found]:
        scans = [Scan(views=(view,), identity=_NOBODY) for view in views]
        seen = [prediction.views[0] for prediction in by.predict(scans)]
        return [(view.heat, read_from(view.boxes)) for view in seen]

    trained = found(predictor)
    layers = [("none", [*trained[1:], trained[0]])]
    if isinstance(predictor, Randomisable):
        layers += [(layer, found(spoilt)) for layer, spoilt in predictor.randomised(seed)]
    return [
        similarity(layer, i, view.counts.shape, one, two)
        for layer, others in layers
        for i, (view, one, two) in enumerate(zip(views, trained, others, strict=True))
    ]


_NOBODY = Identity(patient="", study="", instance="")


def grey(predictor: Predictor, view: View) -> Tensor:
    """Return a view as the localizer's windowing shows it."""
    return image.window(image.to_tensor(view.counts, predictor.device), predictor.recipe.windowing)

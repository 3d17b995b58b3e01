"""Is the region right? Two checks of any localizer on any archive; no truth is needed.

*Randomisation* (Adebayo et al. 2018, "Sanity checks for saliency maps"): a map that
stays the same when the network's layers are replaced by random ones, from the last to
the first, shows the picture's edges and not what the network learned.

*Occlusion*: hiding the region must hurt more than hiding another box of the same size
that shows as much of the body.

Both run in float32, since they are measurements.

Shape suffixes: N views, H, W of the input, V, U of the map, R, C of a stored view.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from bae.body import body_mask
from bae.method import boxes as method_boxes
from bae.method import image
from bae.method.heatmap import class_heatmap, to_byte_scale
from bae.method.networks import Localizer
from bae.method.predictor import (
    LocalizedView,
    Predictor,
    chosen_views,
    localize_windowed,
    regressor_inputs,
)
from bae.recipes import Recipe
from bae.scan import SEX_CODE, Box, Scan, View

CONTROLS = 4
"""Boxes that the region is compared with, per view; their mean counts."""


# ---- randomisation ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How much the maps of one view are alike.

    Attributes:
        layer: the last layer that was made random (all above it are too); ``none`` compares
            the map with that of another scan's same view by the trained network.
        view: which view of those given, from 0.
        rank_correlation: Spearman's, over the map's cells, -1 to 1.
        overlap: intersection over union of the cropped boxes, 0 to 1.
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
    greys = [_grey(predictor, view) for view in views]
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
    found = []
    for i, (one, two, size) in enumerate(zip(ours, theirs, sizes, strict=True)):
        flat = one.min() == one.max() or two.min() == two.max()
        boxes = [method_boxes.find_boxes(heat, size, recipe.region)[0] for heat in (one, two)]
        found.append(
            Similarity(
                layer=layer,
                view=i,
                rank_correlation=0.0 if flat else float(stats.spearmanr(one, two, axis=None)[0]),
                overlap=method_boxes.overlap(*boxes),
            )
        )
    return found


# ---- occlusion ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """What hiding the region did to one scan, and what hiding other boxes did on average.

    Attributes:
        score_drop, control_score_drop: fall of the log probability of the age group that
            the localizer predicts, mean over views; nats.
        age_change, control_age_change: absolute change of the predicted age, years; the
            whole method runs again on what is left.
        views: views that took part: those with room for another box.
    """

    score_drop: float
    control_score_drop: float
    age_change_years: float
    control_age_change_years: float
    views: int


@torch.inference_mode()
def occlusion(predictor: Predictor, scan: Scan, seed: int = 0) -> Occlusion | None:
    """Hide the region of each view, then other boxes of its size, and compare.

    A hidden box shows its own mean grey. Views in which no other box of that size shows
    as much of the body (see ``boxes.elsewhere``) stay as they are in both.

    Args:
        predictor: a model with a localizer.
        scan: any.
        seed: which other boxes.

    Returns:
        None if no view has another box.
    """
    views = chosen_views(scan, predictor.recipe)
    greys = [_grey(predictor, view) for view in views]
    plain, scores_NK = _localized(predictor, views, greys)
    rng = np.random.default_rng(seed)
    others = [
        method_boxes.elsewhere(found.boxes[0], body_mask(view.counts), rng, CONTROLS)
        for view, found in zip(views, plain, strict=True)
    ]
    moved = [i for i, boxes in enumerate(others) if boxes]
    if not moved:
        return None
    age = _age(predictor, scan, plain)

    def hurt(choice: Sequence[Box | None]) -> tuple[float, float]:
        hidden = [hide(grey, box) for grey, box in zip(greys, choice, strict=True)]
        found, new_NK = _localized(predictor, views, hidden)
        falls = [float(scores_NK[i, plain[i].group] - new_NK[i, plain[i].group]) for i in moved]
        return float(np.mean(falls)), abs(_age(predictor, scan, found) - age)

    region = hurt([plain[i].boxes[0] if i in moved else None for i in range(len(views))])
    controls = [
        hurt([boxes[k % len(boxes)] if boxes else None for boxes in others])
        for k in range(CONTROLS)
    ]
    control = np.mean(controls, axis=0)
    return Occlusion(
        score_drop=region[0],
        control_score_drop=float(control[0]),
        age_change_years=region[1],
        control_age_change_years=float(control[1]),
        views=len(moved),
    )


def hide(grey_RC: Tensor, box: Box | None) -> Tensor:
    """Return the view with the box filled by its own mean grey."""
    if box is None:
        return grey_RC
    hidden_RC = grey_RC.clone()
    inside = hidden_RC[box.y0 : box.y1, box.x0 : box.x1]
    inside.fill_(float(inside.mean()))
    return hidden_RC


def _grey(predictor: Predictor, view: View) -> Tensor:
    return image.window(image.to_tensor(view.counts, predictor.device), predictor.recipe.windowing)


def _localized(
    predictor: Predictor, views: Sequence[View], greys: Sequence[Tensor]
) -> tuple[list[LocalizedView], Tensor]:
    """Localize windowed views as they are; and return (N, K) log probabilities.

    ``predictor.localize`` starts from counts: what hides the bladder would change the
    window, and with it every other pixel.
    """
    assert predictor.localizer is not None
    found = localize_windowed(predictor.localizer, predictor.recipe, views, greys)
    probabilities_NK = torch.from_numpy(np.stack([view.probabilities for view in found]))
    return found, probabilities_NK.clamp_min(torch.finfo(torch.float32).tiny).log()


def _age(predictor: Predictor, scan: Scan, found: Sequence[LocalizedView]) -> float:
    """Return the regressor's answer to the crops, mean over views."""
    inputs = torch.stack(regressor_inputs(predictor.recipe, found))
    male_N = torch.full((len(inputs),), SEX_CODE[scan.sex], device=predictor.device)
    return float(predictor.regressor(inputs, male_N).mean())

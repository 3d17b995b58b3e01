"""Is the region right? Hide it, and see what that does to the answer.

Hiding the regions, all at once, must hurt more than hiding as many other boxes of the same
sizes that show as much of the body. No truth is needed.

A method of one region is looked into, in float32, since these are measurements; one of
several regions is asked through ``Predictor.predict`` alone.

Shape suffixes: N views, K age groups, R, C of a stored view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bae.body import body_mask
from bae.evaluation.panels import read_from
from bae.evaluation.regions import controls
from bae.evaluation.regions.checks import grey
from bae.method import boxes as method_boxes
from bae.method.prediction import LocalizedView
from bae.method.predictor import Predictor, chosen_views, localize_windowed, regressor_inputs
from bae.scan import SEX_CODE, Box, Scan, View

CONTROLS = 4
"""Choices of other boxes that the regions are compared with; their mean counts."""


@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """What hiding the regions did to one scan, and what hiding other boxes did on average.

    Attributes:
        score_drop, control_score_drop: fall of the log probability of the age group that
            the localizer predicts, mean over views; nats. None for a method of several regions.
        age_change, control_age_change: absolute change of the predicted age, years; the
            whole method runs again on what is left.
        error_rise, control_error_rise: rise of the absolute error, years; None where the age
            is not known.
        views: views that took part: those with room for other boxes.
    """

    score_drop: float | None
    control_score_drop: float | None
    age_change_years: float
    control_age_change_years: float
    error_rise_years: float | None
    control_error_rise_years: float | None
    views: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answer:
    """What the method says of a scan of which some boxes are hidden.

    Attributes:
        boxes: of each view, those that the answer was read from.
        log_NK: log probabilities of the age groups; None for a method of several regions.
    """

    age_years: float
    boxes: list[list[Box]]
    log_NK: Tensor | None = None


@torch.inference_mode()
def occlusion(
    predictor: Predictor, scan: Scan, seed: int = 0, *, several: bool = False
) -> Occlusion | None:
    """Hide the regions of each view, then other boxes of their sizes, and compare.

    A hidden box shows its own mean. Views in which there is no room for as many other boxes
    that show as much of the body (see ``boxes.elsewhere``) stay as they are in both.

    Args:
        predictor: a model with regions.
        scan: any.
        seed: which other boxes.
        several: whether it is a method of several regions.

    Returns:
        None if no view has other boxes.
    """
    read = (_several if several else _one)(predictor, scan)
    views = chosen_views(scan, predictor.recipe)
    plain = read([[]] * len(views))
    rng = np.random.default_rng(seed)
    others = [
        _other_sets(own, body_mask(view.counts), rng)
        for view, own in zip(views, plain.boxes, strict=True)
    ]
    moved = [i for i, sets in enumerate(others) if sets]
    if not moved:
        return None

    def hurt(choice: Sequence[Sequence[Box]]) -> list[float]:
        found = read(choice)
        falls = [np.nan]
        if plain.log_NK is not None and found.log_NK is not None:
            groups = plain.log_NK.argmax(dim=1).tolist()
            falls = [float(plain.log_NK[i, groups[i]] - found.log_NK[i, groups[i]]) for i in moved]
        true = np.nan if scan.age_years is None else scan.age_years
        rise = abs(found.age_years - true) - abs(plain.age_years - true)
        return [float(np.mean(falls)), abs(found.age_years - plain.age_years), rise]

    region = hurt([plain.boxes[i] if i in moved else [] for i in range(len(views))])
    controlled = [
        hurt([sets[k % len(sets)] if sets else [] for sets in others]) for k in range(CONTROLS)
    ]
    control = np.mean(controlled, axis=0).tolist()
    drop, change, rise = (
        tuple(None if np.isnan(value) else float(value) for value in pair)
        for pair in zip(region, control, strict=True)
    )
    assert change[0] is not None and change[1] is not None
    return Occlusion(
        score_drop=drop[0],
        control_score_drop=drop[1],
        age_change_years=change[0],
        control_age_change_years=change[1],
        error_rise_years=rise[0],
        control_error_rise_years=rise[1],
        views=len(moved),
    )


def _other_sets(
    own: Sequence[Box], body_RC: NDArray[np.bool_], rng: np.random.Generator
) -> list[list[Box]]:
    """Return up to ``CONTROLS`` sets of other boxes; of several, none touches a region."""
    if len(own) == 1:
        return [[box] for box in method_boxes.elsewhere(own[0], body_RC, rng, CONTROLS)]
    drawn = (controls.scattered(own, body_RC, rng, away=True) for _ in range(CONTROLS))
    return [boxes for boxes in drawn if boxes]


_Read = Callable[[Sequence[Sequence[Box]]], _Answer]


def _one(predictor: Predictor, scan: Scan) -> _Read:
    """Return a reader of grey pictures, for a method of one region."""
    views = chosen_views(scan, predictor.recipe)
    greys = [grey(predictor, view) for view in views]

    def read(hidden: Sequence[Sequence[Box]]) -> _Answer:
        left = [hide(whole, boxes) for whole, boxes in zip(greys, hidden, strict=True)]
        found, log_NK = _localized(predictor, views, left)
        boxes = [view.boxes[:1] for view in found]
        return _Answer(age_years=_age(predictor, scan, found), boxes=boxes, log_NK=log_NK)

    return read


def _several(predictor: Predictor, scan: Scan) -> _Read:
    """Return a reader of counts, for a method of several regions."""
    views = chosen_views(scan, predictor.recipe)

    def read(hidden: Sequence[Sequence[Box]]) -> _Answer:
        # as real numbers: a mean of few counts must not be rounded
        pictures = [torch.from_numpy(view.counts.astype(np.float32)) for view in views]
        left = tuple(
            View(name=view.name, counts=hide(picture, boxes).numpy())
            for view, picture, boxes in zip(views, pictures, hidden, strict=True)
        )
        (said,) = predictor.predict([replace(scan, views=left)])
        boxes = [read_from(view.boxes) for view in said.views]
        return _Answer(age_years=said.age_years, boxes=boxes)

    return read


def hide(picture_RC: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Return the view with each box filled by its own mean."""
    hidden_RC = picture_RC.clone()
    for box in boxes:
        here = (slice(box.y0, box.y1), slice(box.x0, box.x1))
        hidden_RC[here] = float(picture_RC[here].mean())
    return hidden_RC


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
